//! How it ended that an original value was to be restored.

use crate::kernel::cgroupfs::dir::DirError;

/// Whether the original value of a cgroup is needed any longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Restored {
    /// No: it is there again, something else has written since, or the cgroup is gone.
    Over,
    /// Yes, although nothing failed: this agent writes nothing, or the file is not there now, as
    /// in what crun makes inside of a scope.
    Kept,
    /// Yes: it could not be read or written, for this reason.
    Failed(String),
}

impl From<DirError> for Restored {
    fn from(error: DirError) -> Self {
        match error {
            DirError::Gone => Restored::Over,
            DirError::NoController => Restored::Kept,
            error @ (DirError::ReadOnly { .. } | DirError::Value(_) | DirError::Other(_)) => {
                Restored::Failed(error.to_string())
            }
        }
    }
}

impl Restored {
    /// By writing it.
    pub(super) fn by(written: Result<(), DirError>) -> Self {
        written.map_or_else(Restored::from, |()| Restored::Over)
    }

    /// As a dry run has it: what it cannot do is no failure.
    pub(super) fn in_dry_run(self, dry_run: bool) -> Self {
        match self {
            Restored::Failed(_) if dry_run => Restored::Kept,
            other => other,
        }
    }

    /// With what was attempted when it failed.
    pub(super) fn at(self, attempt: &str) -> Self {
        match self {
            Restored::Failed(why) => Restored::Failed(format!("{attempt}: {why}")),
            other => other,
        }
    }
}
