//! Whose memory limit caused a kill. Pure.
//!
//! The kernel names the cgroup that was over its limit, and that is not always the one
//! whose limit is to blame. Where every container of a pod has a limit, the kubelet gives
//! the pod their sum (`PodLimits()`, k8s.io/component-helpers/resource). The pause
//! container counts too, so the pod's cgroup is over the sum just before a container is
//! over its own part of it.

use super::{Domain, Limit};
use crate::{cgroup::CgroupPath, owner::crun};

/// A container that has used this part of its limit is taken for one at its limit: the
/// pause container, and what the kernel counts to the pod alone, take the rest.
const NEARLY: u64 = 8;

/// The kernel rounds each limit down to whole pages; the largest that there are.
const PAGE: u64 = 64 * 1024;

/// Memory of a cgroup, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// `memory.max`; none if that is `max`.
    pub limit: Option<u64>,
    /// `memory.current`.
    pub current: Option<u64>,
    /// `memory.peak` (Linux 5.19).
    pub peak: Option<u64>,
}

/// The limits of cgroups directly below one that has a limit itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// How many have one.
    pub count: u64,
    /// What they have together, bytes.
    pub sum: u64,
}

/// Where the cgroup that was over its limit lies, as seen from the container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// The kernel did not say, or it has nothing to do with the container.
    #[default]
    Unknown,
    /// It is the whole node.
    Node,
    /// It is the container, or the one below it where crun puts all of its processes.
    Container,
    /// It lies inside of the container.
    Inside,
    /// It is the one above the container: that of its pod.
    Parent,
    /// It lies further above.
    Above,
}

impl Place {
    /// Of a domain with this path, if that is known.
    pub fn new(domain: Domain, path: Option<&CgroupPath>, container: Option<&CgroupPath>) -> Self {
        match (domain, path, container) {
            // A node that is a container ends where the mount begins.
            (Domain::Node | Domain::Outside, ..) => Place::Node,
            (Domain::Cgroup(_), Some(path), _) if *path == CgroupPath::root() => Place::Node,
            (Domain::Cgroup(_), Some(path), Some(container)) if is_all_of(path, container) => {
                Place::Container
            }
            (Domain::Cgroup(_), Some(path), Some(container)) if path.is_within(container) => {
                Place::Inside
            }
            (Domain::Cgroup(_), Some(path), Some(container)) if container.is_within(path) => {
                let is_parent = container.parent().as_ref() == Some(path);
                if is_parent { Place::Parent } else { Place::Above }
            }
            _ => Place::Unknown,
        }
    }
}

fn is_all_of(path: &CgroupPath, container: &CgroupPath) -> bool {
    path == container || crun::scope(path).as_ref() == Some(container)
}

/// The limits around a kill, as they were read right after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Where the cgroup lies that was over its limit.
    pub place: Place,
    pub cgroup: Option<CgroupPath>,
    pub bytes: Option<u64>,
    /// Memory of the victim's container; none if it was gone.
    pub container: Option<Memory>,
    /// Anonymous memory of the container's victims, which they may have released by
    /// then; none if it is not known.
    pub killed: Option<u64>,
    /// The limits of all cgroups directly below the one that was over its limit; none if
    /// they could not be read.
    pub below: Option<Parts>,
}

impl Limits {
    /// Whose limit caused the kill. `pods_own` says whether the pod has a limit of its own
    /// (pod-level resources), if its spec is known.
    pub fn whose(&self, pods_own: Option<bool>) -> Limit {
        match self.place {
            Place::Unknown => Limit::Unknown,
            Place::Node => Limit::Node,
            Place::Container | Place::Inside => Limit::Container,
            Place::Parent if self.is_part_of_a_sum(pods_own) => Limit::Container,
            Place::Parent | Place::Above => Limit::Pod,
        }
    }

    /// What the container had in use when the kernel killed, bytes. Where its own limit was hit that
    /// is the limit: the kernel kills when it cannot charge the next pages. Else it is the most that
    /// it can have been by what was read right after. None if the container was gone by then.
    pub fn container_used(&self) -> Option<u64> {
        let own = self.bytes.filter(|_| self.place == Place::Container);
        own.or_else(|| self.used(self.container?))
    }

    /// Whether the pod's limit is only the sum of its containers', and this one had used
    /// its part.
    fn is_part_of_a_sum(&self, pods_own: Option<bool>) -> bool {
        let is_sum = pods_own.map_or_else(|| self.adds_up(), |own| !own);
        let Some(container) = self.container else {
            // It is gone with all that could be read; a sum is what its spec says.
            return pods_own == Some(false);
        };
        let Some(limit) = container.limit else { return false };
        let at_its_limit = |used| used >= limit.saturating_sub(limit / NEARLY);
        is_sum && self.used(container).is_none_or(at_its_limit)
    }

    /// Where the spec is not known, the limits themselves say whether they are a sum.
    fn adds_up(&self) -> bool {
        let (Some(Parts { count, sum }), Some(all)) = (self.below, self.bytes) else {
            return false;
        };
        sum.abs_diff(all) <= count.saturating_mul(PAGE)
    }

    /// The most that the container can have used when the kernel killed; none if that is
    /// unknown.
    fn used(&self, container: Memory) -> Option<u64> {
        let now = container.current.zip(self.killed);
        let at_most = now.map(|(current, killed)| current.saturating_add(killed));
        at_most.into_iter().chain(container.peak).min()
    }
}

#[cfg(test)]
mod tests;
