//! When each matched container's value is read again: at once when inotify reports a change, after
//! a pause when something rewrites it in a loop, and in the resync.

use super::{Enforcer, container::Container, pace};
use herder_model::cgroup::CgroupId;
use std::{collections::HashSet, time::Instant};

/// Containers that are surveyed before anything else gets a turn; each takes some
/// tens of microseconds.
const SURVEYED_AT_ONCE: usize = 16;

impl Enforcer {
    /// Takes some of what inotify told, and corrects each changed value once:
    /// whoever writes for ever gets one correction for each turn of the loop and
    /// cannot keep it from its other work. Tells whether all was taken.
    pub fn changed(&mut self) -> bool {
        let seen = Instant::now();
        let (changes, all) = self.watches.changes();
        for id in changes.values {
            let Some(container) = self.containers.get_mut(&id) else { continue };
            if container.is_answered(seen) {
                self.correct(id, seen);
            } else {
                container.rest(&mut self.watches, &mut self.shared);
                self.resting.push_back((seen + pace::REST, id));
            }
        }
        if changes.overflow {
            let ids: Vec<_> = self.containers.keys().copied().collect();
            for id in ids {
                if self.containers.get_mut(&id).is_some_and(|it| it.is_answered_unheard(seen)) {
                    self.correct(id, seen);
                }
            }
            // The counts too, when there is time.
            self.resync();
        }
        for id in changes.events {
            self.count(id);
        }
        for id in changes.lost {
            if let Some(container) = self.containers.get_mut(&id) {
                container.doubt_watch();
                self.unsurveyed.push_back(id);
            }
        }
        all
    }

    pub(super) fn correct(&mut self, id: CgroupId, seen: Instant) {
        let Some(container) = self.containers.get_mut(&id) else { return };
        let had_value = container.has_value();
        let is_there = container.correct(&self.context, &mut self.shared, seen);
        if !is_there {
            self.removed(id);
        } else if had_value && !container.has_value() {
            let owner = container.owner().clone();
            self.show_other(&owner);
        }
    }

    /// When [`Self::correct_due`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        let built = self.shared.built.front().map(|(until, _)| *until);
        self.resting.front().map(|(until, _)| *until).into_iter().chain(built).min()
    }

    /// Corrects what has rested since somebody changed it too often, and looks again at
    /// what had no memory controller.
    pub fn correct_due(&mut self) {
        let now = Instant::now();
        self.correct_rested(now);
        let due = || self.shared.built.pop_front_if(|(until, _)| *until <= now);
        let built: Vec<_> = std::iter::from_fn(due).map(|(_, id)| id).collect();
        for id in &built {
            self.correct(*id, now);
        }
        if !built.is_empty() {
            self.report_obstacles();
        }
    }

    fn correct_rested(&mut self, now: Instant) {
        while let Some((_, id)) = self.resting.pop_front_if(|(until, _)| *until <= now) {
            if let Some(container) = self.containers.get_mut(&id) {
                container.wake();
                container.watch(&mut self.watches, &self.context, &mut self.shared);
                // Whoever has taken its watch meanwhile must not end its corrections.
                if !container.is_watched() {
                    self.resting.push_back((now + pace::REST, id));
                }
                self.correct(id, now);
            }
        }
    }

    /// The safety net: reads every value again, and what is around it. Only notes
    /// which, so that a thousand containers do not keep the caller from its other
    /// work; [`Self::survey_some`] does it.
    pub fn resync(&mut self) {
        self.watches.renew();
        // Who has waited longest comes first.
        let waiting: HashSet<_> = self.unsurveyed.iter().copied().collect();
        let others = self.containers.keys().filter(|id| !waiting.contains(id));
        self.unsurveyed.extend(others);
        self.containers.values_mut().for_each(Container::doubt_watch);
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
            self.correct(id, Instant::now());
            if let Some(container) = self.containers.get_mut(&id) {
                container.check_surroundings(&self.context, &mut self.shared);
            }
            self.count(id);
        }
        self.report_obstacles();
    }
}
