//! When a matched container's value is read again: at once when inotify reports a change, after
//! a pause when something rewrites it in a loop.

use super::{Enforcer, effect::Effect, pace};
use herder_model::{cgroup::CgroupId, clock::Monotonic};

impl Enforcer {
    /// Takes some of inotify's events, and corrects each changed value once. A process that writes
    /// in a loop gets one correction for each turn of the core, and cannot keep the core from its
    /// other work. Returns whether all events were taken.
    pub fn changed(&mut self) -> bool {
        let seen = self.shared.clock.now();
        let (changes, all) = self.watches.changes();
        for id in changes.values {
            let Some(container) = self.containers.get_mut(&id) else { continue };
            if container.is_answered(seen) {
                self.correct(id, seen);
            } else {
                container.back_off(&mut self.watches, &mut self.shared);
                self.backed_off.push_back((seen + pace::PAUSE, id));
            }
        }
        if changes.overflow {
            self.shared.effects.add(Effect::Overflowed);
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
                container.invalidate_watch();
                self.unsurveyed.push_back(id);
            }
        }
        all
    }

    pub(super) fn correct(&mut self, id: CgroupId, seen: Monotonic) {
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
    pub fn due(&self) -> Option<Monotonic> {
        let built = self.shared.built.front().map(|(until, _)| *until);
        self.backed_off.front().map(|(until, _)| *until).into_iter().chain(built).min()
    }

    /// Corrects the values that had a pause since they were changed too often, and looks again at
    /// cgroups that had no memory controller.
    pub fn correct_due(&mut self) {
        let now = self.shared.clock.now();
        self.correct_backed_off(now);
        let due = || self.shared.built.pop_front_if(|(until, _)| *until <= now);
        let built: Vec<_> = std::iter::from_fn(due).map(|(_, id)| id).collect();
        for id in &built {
            self.correct(*id, now);
        }
        if !built.is_empty() {
            self.report_obstacles();
        }
    }

    fn correct_backed_off(&mut self, now: Monotonic) {
        while let Some((_, id)) = self.backed_off.pop_front_if(|(until, _)| *until <= now) {
            if let Some(container) = self.containers.get_mut(&id) {
                container.resume();
                container.watch(&mut self.watches, &self.context, &mut self.shared);
                // Another process may have used up the watches meanwhile. Corrections must go on.
                if !container.is_watched() {
                    self.backed_off.push_back((now + pace::PAUSE, id));
                }
                self.correct(id, now);
            }
        }
    }
}
