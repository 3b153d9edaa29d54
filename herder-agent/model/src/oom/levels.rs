//! What the memory cgroups of a victim said while it was marked, where functions cannot be
//! traced, and what that says of the kill. Pure.

use super::{Domain, over_limit::OverLimit};
use crate::{cgroup::CgroupId, clock::Monotonic};

/// One memory cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    pub cgroup: CgroupId,
    /// How often it was over its own limit.
    pub oom: u64,
    /// Its `memory.oom.group`.
    pub group: bool,
}

/// Those that a victim's memory is charged to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The thread that marked it.
    pub trigger: u32,
    /// From its own cgroup upwards.
    pub upwards: Vec<Level>,
    /// They reach up to the hierarchy's root.
    pub is_whole: bool,
}

/// What is inferred of a kill whose decision was not traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inferred {
    /// Whose limit was hit.
    pub domain: Domain,
    /// Whether a group was killed, if that is known.
    pub group: Option<bool>,
    /// Which one, if that is known.
    pub group_cgroup: Option<CgroupId>,
}

impl Levels {
    /// What they say of the kill that begins with this victim, by the counts until now. Cgroups
    /// above that of the `mount` are not the agent's.
    pub fn inferred(&self, over: &mut OverLimit, mount: CgroupId, now: Monotonic) -> Inferred {
        let counts = self.upwards.iter().map(|level| Some((level.cgroup, level.oom)));
        let domain = over.domain(counts.chain((!self.is_whole).then_some(None)), now);
        let group_cgroup = self.group(domain);
        let shown = self.upwards.iter().position(|level| level.cgroup == mount);
        let hit = |id| self.upwards.iter().position(|level| level.cgroup == id);
        let domain = match (domain, shown) {
            (Domain::Cgroup(id), Some(shown)) if hit(id) > Some(shown) => Domain::Outside,
            _ => domain,
        };
        Inferred { domain, group: Some(group_cgroup.is_some()), group_cgroup }
    }

    /// Whether the victim is in this cgroup.
    pub fn are_within(&self, group: CgroupId) -> bool {
        self.upwards.iter().any(|level| level.cgroup == group)
    }

    /// The kernel takes the highest one that says so, up to the one whose limit was hit
    /// (`mem_cgroup_get_oom_group()`, mm/memcontrol.c).
    fn group(&self, domain: Domain) -> Option<CgroupId> {
        let mut group = None;
        for level in &self.upwards {
            if level.group {
                group = Some(level.cgroup);
            }
            if domain == Domain::Cgroup(level.cgroup) {
                break;
            }
        }
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Monotonic = Monotonic(100_000_000_000);
    const ROOT: CgroupId = CgroupId(1);

    /// Container, pod, slice and root, with these counts and these groups.
    fn levels(oom: [u64; 3], groups: [bool; 3]) -> Levels {
        let below = (2u64..).zip(oom.into_iter().zip(groups));
        let below = below.map(|(id, (oom, group))| Level { cgroup: CgroupId(id), oom, group });
        let root = Level { cgroup: ROOT, oom: 0, group: false };
        Levels { trigger: 7, upwards: below.chain([root]).collect(), is_whole: true }
    }

    fn inferred(levels: &Levels) -> Inferred {
        levels.inferred(&mut OverLimit::default(), ROOT, NOW)
    }

    #[test]
    fn the_group_is_the_highest_up_to_the_limit_that_was_hit() {
        let (yes, no) = (true, false);
        let table = [
            ("the container's limit, no group", [1, 0, 0], [no, no, no], Some(2), None),
            ("the container is a group", [1, 0, 0], [yes, no, no], Some(2), Some(2)),
            ("the pod is, above its limit", [1, 0, 0], [no, yes, no], Some(2), None),
            ("the pod's limit, it is a group", [0, 1, 0], [no, yes, no], Some(3), Some(3)),
            ("both are, the higher counts", [0, 1, 0], [yes, yes, no], Some(3), Some(3)),
            ("the pod's limit, the container is", [0, 1, 0], [yes, no, yes], Some(3), Some(2)),
            ("the node, all above count", [0, 0, 0], [yes, no, yes], None, Some(4)),
            ("the node, no group", [0, 0, 0], [no, no, no], None, None),
        ];
        for (case, oom, groups, domain, group) in table {
            let expected = Inferred {
                domain: domain.map_or(Domain::Node, |id| Domain::Cgroup(CgroupId(id))),
                group: Some(group.is_some()),
                group_cgroup: group.map(CgroupId),
            };
            assert_eq!(inferred(&levels(oom, groups)), expected, "{case}");
        }
    }

    /// The mount begins at the pod, and a limit above it was hit.
    #[test]
    fn a_limit_above_the_mount_is_outside() {
        for (oom, expected) in [
            ([1, 0, 0], Domain::Cgroup(CgroupId(2))),
            ([0, 1, 0], Domain::Cgroup(CgroupId(3))),
            ([0, 0, 1], Domain::Outside),
            ([0, 0, 0], Domain::Node),
        ] {
            let levels = levels(oom, [false; 3]);
            let inferred = levels.inferred(&mut OverLimit::default(), CgroupId(3), NOW);
            assert_eq!(inferred.domain, expected, "{oom:?}");
        }
    }

    #[test]
    fn of_levels_that_do_not_reach_the_root_no_count_means_nothing() {
        let cut = |oom| Levels { is_whole: false, ..levels(oom, [false; 3]) };
        assert_eq!(inferred(&cut([0, 0, 0])).domain, Domain::Unknown);
        assert_eq!(inferred(&cut([0, 1, 0])).domain, Domain::Cgroup(CgroupId(3)));
    }
}
