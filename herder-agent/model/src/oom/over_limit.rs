//! Whose limit was hit, where functions cannot be traced: kernels without BTF, and arm64 before
//! Linux 6.4. Pure.
//!
//! The kernel counts `oom` in `memory.events.local` of the cgroup that was over its limit, just
//! before it kills (`mem_cgroup_oom()`, mm/memcontrol.c); where the node is out of memory it
//! counts that nowhere.

use super::Domain;
use crate::{cgroup::CgroupId, clock::Monotonic};
use std::{collections::BTreeMap, time::Duration};

/// How long a count that grew explains kills: threads that are over one limit at once are all
/// counted before the first of them kills.
const EXPLAINS: Duration = Duration::from_secs(1);

/// Most cgroups whose counts are kept. Ids grow, so the first to go is the oldest cgroup.
const MOST: usize = 16_384;

/// A count, and when it was last seen to have grown.
#[derive(Clone, Copy, Debug)]
struct Seen {
    oom: u64,
    grew: Option<Monotonic>,
}

/// What the counts were when they were last read.
#[derive(Debug, Default)]
pub struct OverLimit {
    seen: BTreeMap<CgroupId, Seen>,
}

impl OverLimit {
    /// A cgroup was there before the agent: what it counted until now explains nothing.
    pub fn begin(&mut self, id: CgroupId, oom: u64) {
        self.keep(id, Seen { oom, grew: None });
    }

    pub fn removed(&mut self, id: CgroupId) {
        self.seen.remove(&id);
    }

    /// Whose limit a kill was about, by the counts of the victim's cgroup and of all above it
    /// up to the mount's root, which has none. A cgroup that is gone has no count.
    pub fn domain(
        &mut self,
        upwards: impl IntoIterator<Item = Option<(CgroupId, u64)>>,
        now: Monotonic,
    ) -> Domain {
        let (mut just_now, mut lately, mut unread) = (None, None, false);
        for counted in upwards {
            let Some((id, oom)) = counted else {
                unread = true;
                continue;
            };
            // A cgroup that is new to the agent began at 0.
            let before = self.seen.get(&id).copied().unwrap_or(Seen { oom: 0, grew: None });
            let grew = if oom > before.oom { Some(now) } else { before.grew };
            self.keep(id, Seen { oom, grew });
            if oom > before.oom {
                just_now = just_now.or(Some(id));
            } else if grew.is_some_and(|grew| now < grew + EXPLAINS) {
                lately = lately.or(Some(id));
            }
        }
        match just_now.or(lately) {
            Some(id) => Domain::Cgroup(id),
            // The one that is gone may have been it.
            None if unread => Domain::Unknown,
            None => Domain::Node,
        }
    }

    fn keep(&mut self, id: CgroupId, seen: Seen) {
        self.seen.insert(id, seen);
        if self.seen.len() > MOST {
            self.seen.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Monotonic = Monotonic(100_000_000_000);
    const LATER: Monotonic = Monotonic(102_000_000_000);

    /// Container, pod, slice: with these counts.
    fn counts(all: [u64; 3]) -> Vec<Option<(CgroupId, u64)>> {
        (1u64..).zip(all).map(|(id, oom)| Some((CgroupId(id), oom))).collect()
    }

    fn cgroup(id: u64) -> Domain {
        Domain::Cgroup(CgroupId(id))
    }

    #[test]
    fn the_cgroup_whose_count_grew_was_over_its_limit() {
        let table = [
            ("the container", [1, 0, 0], cgroup(1)),
            ("its pod", [0, 1, 0], cgroup(2)),
            ("a slice", [0, 0, 3], cgroup(3)),
            ("none: the node", [0, 0, 0], Domain::Node),
            ("two at once: the nearest", [0, 1, 1], cgroup(2)),
        ];
        for (case, all, expected) in table {
            assert_eq!(OverLimit::default().domain(counts(all), NOW), expected, "{case}");
        }
    }

    #[test]
    fn what_was_counted_before_explains_nothing() {
        let mut over = OverLimit::default();
        over.begin(CgroupId(2), 7);
        assert_eq!(over.domain(counts([0, 7, 0]), NOW), Domain::Node);
        assert_eq!(over.domain(counts([0, 8, 0]), NOW), cgroup(2));
        assert_eq!(over.domain(counts([1, 8, 0]), LATER), cgroup(1));
        assert_eq!(over.domain(counts([1, 8, 0]), Monotonic(200_000_000_000)), Domain::Node);
    }

    /// Two threads were over the limit before the first kill was read.
    #[test]
    fn a_count_that_grew_explains_kills_for_a_moment() {
        let mut over = OverLimit::default();
        assert_eq!(over.domain(counts([0, 2, 0]), NOW), cgroup(2));
        assert_eq!(over.domain(counts([0, 2, 0]), NOW), cgroup(2));
        assert_eq!(over.domain(counts([1, 2, 0]), NOW), cgroup(1), "what grew now comes first");
        assert_eq!(over.domain(counts([1, 2, 0]), LATER), Domain::Node);
    }

    #[test]
    fn a_cgroup_that_is_gone_may_have_been_it() {
        let mut over = OverLimit::default();
        let [_, pod, slice] = counts([0, 0, 0])[..] else { unreachable!() };
        assert_eq!(over.domain([None, pod, slice], NOW), Domain::Unknown);
        assert_eq!(over.domain([None, Some((CgroupId(2), 1)), slice], NOW), cgroup(2));
        over.removed(CgroupId(2));
        assert_eq!(over.domain([Some((CgroupId(2), 1)), slice], LATER), cgroup(2));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut over = OverLimit::default();
        for id in 0..MOST as u64 + 10 {
            over.begin(CgroupId(id), 1);
        }
        assert_eq!(over.seen.len(), MOST);
        assert!(!over.seen.contains_key(&CgroupId(9)) && over.seen.contains_key(&CgroupId(10)));
    }
}
