//! The original value of one matched container: what is saved of it, and that it comes back.

use super::{Container, Context, Shared};
use crate::{
    enforce::{
        restored::Restored,
        state::{Action, Seen},
    },
    kernel::cgroupfs::dir::DirError,
};
use herder_model::saved::SavedCgroup;

impl Container {
    /// The value to restore, if it is an agent's own that is there.
    pub(in crate::enforce) fn value_to_restore(&self) -> Option<bool> {
        self.state.value_to_restore(self.blocked.sees_every_write())
    }

    /// What is left of it to the next agent.
    pub(in crate::enforce) fn saved(&self) -> SavedCgroup {
        SavedCgroup {
            path: Some(self.path.clone()),
            oom_kills: None,
            original_value: self.value_to_restore(),
            rule: Some(self.target.rule.clone()),
            escalated: None,
        }
    }

    /// Restores the original value, unless something has changed it since. A failure is the
    /// caller's to report.
    pub(in crate::enforce) fn restore(
        &mut self,
        context: &Context,
        shared: &mut Shared,
    ) -> Restored {
        if self.value_to_restore().is_none() {
            return Restored::Over;
        }
        let seen = shared.clock.now();
        // An earlier agent may have written what this one only watches.
        let read = self.read(context);
        let released = Seen::Released {
            value: read.as_ref().ok().copied(),
            every_write_seen: self.blocked.sees_every_write(),
        };
        let restored = match (read, self.state.step(released)) {
            (Ok(value), Action::Write(original, cause)) => {
                let Some(directory) = &self.directory else { return Restored::Kept };
                let written = directory.set_oom_group(original);
                if matches!(written, Ok(()) | Err(DirError::Gone)) {
                    self.report_write((value, original), cause, &written, shared, seen);
                }
                Restored::by(written)
            }
            (Ok(_), Action::Keep) => Restored::Kept,
            (Err(unread), Action::Keep) => unread.in_dry_run(shared.dry_run),
            _ => Restored::Over,
        };
        if restored == Restored::Over {
            self.state.step(Seen::Restored);
        }
        restored
    }

    /// The value that it has now, or what follows from that it cannot be read.
    fn read(&mut self, context: &Context) -> Result<bool, Restored> {
        self.open_directory(context)?;
        match &self.directory {
            Some(directory) => Ok(directory.oom_group()?),
            None => Err(Restored::Failed(self.blocked.file_text().to_owned())),
        }
    }

    /// As if it could not be opened again.
    #[cfg(test)]
    pub(in crate::enforce) fn close(&mut self) {
        self.directory = None;
    }
}
