//! Which container of a pod a cgroup is, where nothing names it, if it can be only one.
//!
//! The kubelet publishes a container's ID when its sync of the pod ends, and that may wait
//! minutes for another container's image. Until then containers are excluded one by one. A
//! status may be old, so only facts that stay true count: which containers ran when
//! the cgroup was made, and which are never started again.

use super::{Naming, siblings::Siblings};
use crate::{
    owner::{
        id::{ContainerId, PodUid},
        path::{PodCgroup, Runtime},
    },
    pods::{Container, ContainerKind, Pod},
};

/// How long a name may be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// The status will have it later, so only what is certain counts.
    Waiting,
    /// It was waited for long enough.
    Over,
}

/// A cgroup that has the form of a container's, beside the others of its pod.
struct Place<'a> {
    siblings: &'a Siblings,
    id: ContainerId,
    /// What had a cgroup when this one's was made.
    older: Vec<ContainerId>,
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
        let place = self.place(cgroup, id)?;
        let name_of = |id: &ContainerId| self.reported_name(cgroup.pod_uid, *id);
        let names: Vec<&str> = place.older.iter().filter_map(name_of).collect();
        let is_container = match patience {
            // One of those that are older is the sandbox, perhaps without a cgroup of its
            // own. Another one without a name may be any container, or this one before.
            Patience::Waiting => !place.older.is_empty() && place.older.len() - names.len() <= 1,
            Patience::Over => {
                !place.older.is_empty() || place.is_alone() && !self.is_all_of(pod, cgroup, &place)
            }
        };
        if pod.more_containers || !is_container {
            return None;
        }
        let is_possible = |container: &&Container| {
            !names.contains(&container.name.as_ref())
                && !place.has_seen_the_last(container, patience)
        };
        let mut candidates = pod.containers.iter().filter(is_possible);
        let only = candidates.next().filter(|_| candidates.next().is_none())?;
        Some(&only.name)
    }

    /// Whether a cgroup that still has no name is the sandbox's: containers came after it, or
    /// all of the pod runs in it.
    pub(super) fn is_sandbox_at_last(
        &self,
        pod: &Pod,
        cgroup: &PodCgroup,
        id: ContainerId,
    ) -> bool {
        let runtime = cgroup.container().map(|container| container.runtime);
        self.place(cgroup, id).is_some_and(|place| {
            // CRI-O may do without a sandbox.
            let is_first = place.older.is_empty() && runtime != Some(Runtime::CriO);
            is_first && !place.is_alone() || self.is_all_of(pod, cgroup, &place)
        })
    }

    /// Whether a cgroup holds all of a pod: the containers have IDs, and none of them ever had
    /// a cgroup.
    fn is_all_of(&self, pod: &Pod, cgroup: &PodCgroup, place: &Place<'_>) -> bool {
        let is_named = |id| self.reported_name(cgroup.pod_uid, id).is_some();
        place.older.is_empty()
            && place.is_alone()
            && pod.containers.iter().any(|container| container.id.is_some())
            && !place.siblings.earlier(place.id).any(is_named)
    }

    fn place(&self, cgroup: &PodCgroup, id: ContainerId) -> Option<Place<'_>> {
        let siblings = self.cgroups.get(&cgroup.pod_uid)?;
        Some(Place { siblings, id, older: siblings.older(id)? })
    }

    /// The name that the runtime or the status has for a container.
    pub(super) fn reported_name(&self, pod: PodUid, id: ContainerId) -> Option<&str> {
        let learnt = self.learnt.named(id).map(|(_, name)| name);
        let status = || self.pods.as_ref()?.container(pod, id);
        learnt.or_else(|| status().map(|container| container.name.as_ref()))
    }
}

impl Place<'_> {
    fn is_alone(&self) -> bool {
        self.siblings.younger(self.id).next().is_none()
    }

    /// Whether a container is not started again. An init container is, in another sandbox,
    /// and its status may be of the one before.
    fn has_seen_the_last(&self, container: &Container, patience: Patience) -> bool {
        let in_this_sandbox = || {
            let ran = |id| self.siblings.was_made_after(id, &self.older);
            patience == Patience::Over || container.id.is_some_and(ran)
        };
        match container.kind {
            ContainerKind::Init => container.completed && in_this_sandbox(),
            ContainerKind::Ephemeral => container.id.is_some(),
            ContainerKind::Sidecar | ContainerKind::Regular => false,
        }
    }
}
