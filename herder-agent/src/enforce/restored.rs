//! How it ended that an original value was to be restored.

use herder_model::enforcement::WriteResult;

/// Whether the original value of a cgroup is needed any longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Restored {
    /// No: it is there again, something else has written since, or the cgroup is gone.
    Over,
    /// Yes: this agent writes nothing.
    Kept,
    /// Yes: it could not be read or written, for this reason.
    Failed(String),
}

impl From<WriteResult> for Restored {
    fn from(result: WriteResult) -> Self {
        match result {
            WriteResult::Ok | WriteResult::Gone => Restored::Over,
            WriteResult::Error(why) => Restored::Failed(why),
        }
    }
}
