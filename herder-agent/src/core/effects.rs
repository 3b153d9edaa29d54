//! What the enforcer did and found, passed on.

use super::Core;
use crate::enforce::Effect;

impl Core {
    /// Passes on what the enforcer did and found.
    pub(super) fn take_effects(&mut self) {
        for effect in self.enforcer.take_effects() {
            match effect {
                Effect::Counted(counted) => self.audit.counted(counted, self.clock.now()),
                Effect::Saved => self.audit.writer.touch(self.clock.now()),
                Effect::Notice(event) => {
                    self.notices.notice_enforcement(&self.subjects.naming, event);
                }
                effect => self.reporter.enforcement(&effect),
            }
        }
    }
}
