//! A kill with everything that is known about it, as the log, the metrics, the API and the
//! Events report it.

use crate::{
    cgroup::CgroupPath,
    oom::{Kind, Limit, OomKill, limit::Limits},
    owner::{Owner, id::PodUid, path::PodCgroup},
};

/// Kills that an agent keeps, 1 to 4 KiB each.
pub const KEPT: usize = 1000;

/// A kill that is fully known.
#[derive(Clone, Debug)]
pub struct KillReport {
    pub kill: OomKill,
    pub kind: Kind,
    pub limit: Limit,
    /// By what that was decided.
    pub limits: Limits,
    /// Whether the container ends with it, as far as the kernel's decision shows.
    pub ends: bool,
    /// Larger processes of the container that were still exiting, so that the kernel found no
    /// other than the init; 0 if that was not so ([`crate::oom::exiting`]).
    pub exiting: usize,
    /// The cgroup that was killed as a group, if it is known which.
    pub group: Option<CgroupPath>,
    /// Who the chosen victim belongs to.
    pub owner: Owner,
    /// The chosen victim's cgroup; none when it was never seen.
    pub cgroup: Option<CgroupPath>,
    /// Owners of all victims, in their order (the first is `owner`).
    pub victim_owners: Vec<Owner>,
    /// The pods that the victims' cgroups are of, in their order.
    pub victim_pods: Vec<Option<PodUid>>,
    /// The rule that the container is under, if any.
    pub rule: Option<String>,
    /// What the chosen victim's cgroup is of a pod, if it is one's.
    pub pod: Option<PodCgroup>,
}
