//! The safety net: each value read again, with its watch and what is around it, some containers at
//! a time.

use super::Enforcer;
use std::collections::HashSet;

/// Containers that are surveyed before anything else gets a turn; each takes some
/// tens of microseconds.
const SURVEYED_AT_ONCE: usize = 16;

impl Enforcer {
    /// The safety net: reads every value again, and what is around it. Only notes
    /// which, so that a thousand containers do not keep the caller from its other
    /// work; [`Self::survey_some`] does it.
    pub fn resync(&mut self) {
        self.watches.renew();
        // The container that has waited longest comes first.
        let waiting: HashSet<_> = self.unsurveyed.iter().copied().collect();
        let others = self.containers.keys().filter(|id| !waiting.contains(id));
        self.unsurveyed.extend(others);
        self.containers.values_mut().for_each(|container| container.invalidate_watch());
    }

    /// Whether [`Self::survey_some`] has something to do.
    pub fn surveying(&self) -> bool {
        !self.unsurveyed.is_empty()
    }

    /// Looks at some containers, new ones and those of a resync.
    pub fn survey_some(&mut self) {
        if self.unsurveyed.is_empty() {
            return;
        }
        for id in
            self.unsurveyed.drain(..SURVEYED_AT_ONCE.min(self.unsurveyed.len())).collect::<Vec<_>>()
        {
            // The watch comes first here too.
            if let Some(container) = self.containers.get_mut(&id) {
                container.watch(&mut self.watches, &self.context, &mut self.shared);
            }
            self.correct(id, self.shared.clock.now());
            if let Some(container) = self.containers.get_mut(&id) {
                container.check_surroundings(&self.context, &mut self.shared);
            }
            self.count(id);
        }
        self.report_obstacles();
    }
}
