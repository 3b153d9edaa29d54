//! Which container of a pod a cgroup is, where nothing names it, if it can be only one.
//!
//! The kubelet publishes a container's ID when its sync of the pod ends, and that may wait
//! minutes for another container's image. Until then a container is known by those that
//! it cannot be. A status may be old, so only what stays true counts: who ran when
//! the cgroup was made, and which containers are never started again.

use super::{Naming, siblings::Siblings};
use crate::{
    attribution::{
        id::{ContainerId, PodUid},
        path::PodCgroup,
    },
    pods::{Container, ContainerKind, Pod},
};

/// How long a name may be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// The status will tell, so only what is certain counts.
    Waiting,
    /// It was waited for long enough.
    Over,
}

impl Naming {
    /// The name of the only container of the pod that this one can be.
    pub(super) fn only_candidate<'a>(
        &self,
        pod: &'a Pod,
        cgroup: &PodCgroup,
        id: ContainerId,
        patience: Patience,
    ) -> Option<&'a str> {
        if pod.more_containers {
            return None;
        }
        let siblings = self.cgroups.get(&cgroup.pod_uid)?;
        let older = siblings.older(id)?;
        let told = |id: &ContainerId| self.told_name(cgroup.pod_uid, *id);
        let names: Vec<&str> = older.iter().filter_map(told).collect();
        let is_no_sandbox = match patience {
            // One of those that are older is the sandbox, perhaps without a cgroup of its
            // own. Another one without a name may be any container, or this one before.
            Patience::Waiting => !older.is_empty() && older.len() - names.len() <= 1,
            Patience::Over => !older.is_empty() || self.may_be_first(pod, cgroup, siblings, id),
        };
        let mut candidates = pod
            .containers
            .iter()
            .filter(|container| !is_done(container) && !names.contains(&container.name.as_ref()));
        let only = candidates.next().filter(|_| is_no_sandbox && candidates.next().is_none())?;
        Some(&only.name)
    }

    /// Whether the only cgroup of a pod may be that of a container. Not every runtime makes
    /// one for the sandbox; but where all of a pod runs in the sandbox's, there is no other,
    /// and the containers have IDs of their own.
    fn may_be_first(
        &self,
        pod: &Pod,
        cgroup: &PodCgroup,
        siblings: &Siblings,
        id: ContainerId,
    ) -> bool {
        let alone = siblings.younger(id).next().is_none();
        let none_told = pod.containers.iter().all(|container| container.id.is_none());
        let told = |id| self.told_name(cgroup.pod_uid, id).is_some();
        alone && (none_told || siblings.earlier(id).any(told))
    }

    /// The name that the runtime or the status has for a container.
    pub(super) fn told_name(&self, pod: PodUid, id: ContainerId) -> Option<&str> {
        let learnt = self.learnt.named(id).map(|(_, name)| name);
        let status = || self.pods.as_ref()?.container(pod, id);
        learnt.or_else(|| status().map(|container| container.name.as_ref()))
    }
}

/// Whether a container that ran is never started again.
fn is_done(container: &Container) -> bool {
    let ran_once = container.kind == ContainerKind::Ephemeral && container.id.is_some();
    container.completed || ran_once
}
