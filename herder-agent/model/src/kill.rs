//! A kill with everything that is known about it, as the log, the metrics, the API and the
//! Events report it.

use crate::{
    cgroup::CgroupPath,
    oom::{
        Kind, Limit, OomKill,
        limit::{Limits, Place},
    },
    owner::{Owner, id::PodUid, path::PodCgroup},
    scene::{Scene, finding::Finding},
};
use std::sync::Arc;

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
    /// Who used how much; none if it was dropped for newer kills, or is not known yet.
    pub scene: Option<Arc<Scene>>,
}

impl KillReport {
    /// One whose victims are all of one owner, with nothing that cgroups' files say.
    pub fn new(owner: Owner, kind: Kind, limit: Limit, kill: OomKill) -> Self {
        KillReport {
            kind,
            limit,
            limits: Limits::default(),
            ends: kind != Kind::Subprocess,
            exiting: 0,
            group: None,
            cgroup: None,
            victim_owners: vec![owner.clone(); kill.victims.len()],
            owner,
            victim_pods: Vec::new(),
            rule: None,
            pod: None,
            scene: None,
            kill,
        }
    }

    /// What its scene shows, if that is about the pod alone: where the node was full, or a cgroup
    /// above the pod, it names what belongs to others, who may not be meant to be known to it.
    pub fn finding_of_pod(&self) -> Option<&Finding> {
        self.scene.as_ref()?.finding.as_ref().filter(|_| self.is_within_pod())
    }

    /// Whether the limit that the kernel hit is a container's or the pod's. What is above that is
    /// other pods' too.
    pub fn is_within_pod(&self) -> bool {
        match self.limits.place {
            Place::Container | Place::Inside => true,
            // Above a kill in the pod's own cgroup is the QoS class.
            Place::Parent => self.pod.as_ref().is_some_and(|pod| pod.container().is_some()),
            Place::Unknown | Place::Node | Place::Above => false,
        }
    }

    /// What the container had in use at the kill, bytes: by the kernel's own record of the decision
    /// where its limit was hit, else as far as [`Limits::container_used`] knows.
    pub fn container_used(&self) -> Option<u64> {
        let decided = self.scene.as_ref().filter(|_| self.limits.place == Place::Container);
        let decided = decided.and_then(|scene| Some(scene.memory?.usage));
        decided.or_else(|| self.limits.container_used())
    }
}
