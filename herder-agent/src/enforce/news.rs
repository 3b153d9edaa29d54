//! What becomes an Event about a container's enforcement. Kept with the
//! container until it has a name.

use super::Obstacle;
use herder_model::{cgroup::CgroupPath, clock::Monotonic, rules::matching::Target};
use std::{collections::VecDeque, time::Duration};

/// Reverts within [`WITHIN`] that are worth an Event.
const MANY: usize = 5;

/// The time within which they count.
const WITHIN: Duration = Duration::from_secs(60);

/// The pause before the next Event about reverts.
const QUIET: Duration = Duration::from_secs(10 * 60);

/// Something that the owner of a matched container should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnforcementEvent {
    pub cgroup: CgroupPath,
    pub target: Target,
    /// What has happened.
    pub change: Change,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The value was brought to what the rule wants.
    Enforced,
    /// Something has changed it again and again; this often in all.
    Reverted(u64),
    /// The value is not enforceable: the obstacle, and what to do.
    NotEnforceable(Obstacle, String),
}

/// What was not handed on yet of one container.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) enforced: bool,
    pub(super) reverted: Option<u64>,
    pub(super) obstacle: Option<(Obstacle, String)>,
}

impl Pending {
    /// Everything, and then nothing is left.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Change> + use<> {
        let Pending { enforced, reverted, obstacle } = std::mem::take(self);
        let enforced = enforced.then_some(Change::Enforced);
        let obstacle = obstacle.map(|(obstacle, why)| Change::NotEnforceable(obstacle, why));
        enforced.into_iter().chain(reverted.map(Change::Reverted)).chain(obstacle)
    }
}

/// Whether something keeps changing the value back.
#[derive(Debug, Default)]
pub(super) struct Fight {
    last: VecDeque<Monotonic>,
    reported: Option<Monotonic>,
}

impl Fight {
    /// One more revert; returns whether it is to become an Event now.
    pub(super) fn reverted(&mut self, now: Monotonic) -> bool {
        self.last.push_back(now);
        if self.last.len() > MANY {
            self.last.pop_front();
        }
        let since = |then: &Monotonic| now.saturating_duration_since(*then);
        let fights = self.last.len() == MANY && self.last.front().map(since) <= Some(WITHIN);
        let reported_lately = self.reported.as_ref().is_some_and(|then| since(then) < QUIET);
        if !fights || reported_lately {
            return false;
        }
        self.reported = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverts_are_reported_once_for_a_while() {
        let begin = Monotonic(7);
        let reported = |seconds: &[u64]| -> Vec<u64> {
            let mut fight = Fight::default();
            let at = |second: &u64| begin + Duration::from_secs(*second);
            seconds.iter().copied().filter(|second| fight.reverted(at(second))).collect()
        };
        let none: [u64; 0] = [];
        assert_eq!(reported(&[0, 1, 2, 3]), none);
        assert_eq!(reported(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), [4]);
        assert_eq!(reported(&[0, 20, 40, 60, 80, 100]), none, "an update now and then is no fight");
        assert_eq!(reported(&[0, 61, 62, 63, 64, 65]), [65], "any minute, not the first one");
        let long: Vec<u64> = (0..1300).collect();
        assert_eq!(reported(&long), [4, 604, 1204]);
    }
}
