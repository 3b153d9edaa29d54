//! The value that somebody else wanted of one matched container: how it becomes known, and
//! how it comes back.

use super::{Container, Context, write_result};
use crate::enforce::Origin;
use herder_model::enforcement::{Cause, OomGroupWrite};
use std::time::Instant;

impl Container {
    /// An earlier agent, or the runtime at our word, has written the value, and this
    /// one was there before.
    pub(in crate::enforce) fn inherit(&mut self, first: bool) {
        self.first = Some(first);
        self.origin = Origin::Existing;
        self.ours = true;
    }

    /// The value to give back, if it is an agent's own that is there.
    pub(in crate::enforce) fn give_back(&self) -> Option<bool> {
        // Without a watch nobody may have seen what the runtime wrote.
        let unwritten = self.no_watch.is_none().then_some(false);
        self.first.or(unwritten).filter(|_| self.ours)
    }

    /// Somebody has written, perhaps the value that is wanted anyway: the 1 that
    /// the runtime of a new container writes is remembered even then.
    pub(super) fn written(&mut self) {
        if std::mem::take(&mut self.own_write) {
            return;
        }
        let value = self.directory.as_ref().and_then(|directory| directory.oom_group().ok());
        if self.origin == Origin::Made && value == Some(true) {
            self.first = Some(true);
        }
        // The runtime has written what it was asked for; who changes that reverts it.
        self.corrected |= self.ours && value == Some(self.target.value);
    }

    /// Gives the first value back, unless somebody has changed it since. A new
    /// cgroup that nobody else wrote to had the kernel's own 0.
    pub(in crate::enforce) fn restore(&mut self, context: &Context) {
        let (Some(first), Some(directory)) = (self.give_back(), self.directory.as_ref()) else {
            return;
        };
        let seen = Instant::now();
        // An earlier agent may have written what this one only watches.
        if context.options.dry_run
            || directory.oom_group() != Ok(self.target.value)
            || first == self.target.value
        {
            return;
        }
        let written = directory.set_oom_group(first);
        context.listener.wrote(&OomGroupWrite {
            cgroup: &self.path,
            rule: &self.target.rule,
            old: self.target.value,
            new: first,
            cause: Cause::Restore,
            result: &write_result(&written),
            took: seen.elapsed(),
            dry_run: false,
        });
    }
}
