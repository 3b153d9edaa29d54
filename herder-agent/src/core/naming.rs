//! Whose container a cgroup is, and what the rules want of it.
//!
//! The cgroup's path says which pod and container ID it is, the API server what
//! that pod is called, and the pod's status or the bundle what the container is
//! called. The runtime, where it is asked, says all of it, and first. No IO but
//! reading a bundle.

mod learnt;

use crate::{
    attribution::{
        ContainerNames, Owner,
        id::{ContainerId, PodUid},
        path::{Place, PodCgroup, Runtime},
    },
    cgroup::{CgroupId, CgroupPath},
    nri::Learnt,
    pods::{
        Event, Pod,
        bundle::{BundleRole, Bundles},
        store::{PodChange, PodStore, Resolved},
    },
    policy::{PodSubject, Policy, Subject, Verdict},
};
use learnt::LearntContainers;
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    ops::Bound::{Excluded, Unbounded},
};
use tokio::time::Instant;

/// What is known of pods, and which cgroups are theirs.
#[derive(Debug)]
pub struct Naming {
    pods: Option<PodStore>,
    learnt: LearntContainers,
    bundles: Bundles,
    /// Living cgroups at or below each pod's, in the order in which they were
    /// made; with the container whose own cgroup it is.
    cgroups: HashMap<PodUid, BTreeMap<CgroupId, Option<ContainerId>>>,
}

/// A container, or the sandbox, of a known pod.
#[derive(Debug)]
pub(super) struct Named<'a> {
    pub(super) pod: &'a Pod,
    /// The container's name, if that is known.
    pub(super) name: Option<Cow<'a, str>>,
}

impl Naming {
    /// Without Kubernetes all cgroups are the host's, but for those of containers that
    /// the runtime tells of.
    pub fn new(kubernetes: bool, bundles: Bundles) -> Self {
        Naming {
            pods: kubernetes.then(PodStore::default),
            learnt: LearntContainers::default(),
            bundles,
            cgroups: HashMap::new(),
        }
    }

    pub(super) fn made(&mut self, id: CgroupId, path: &CgroupPath) {
        let Some(cgroup) = PodCgroup::parse(path) else { return };
        let top = cgroup.container().filter(|container| container.place == Place::Top);
        let ids = self.cgroups.entry(cgroup.pod_uid).or_default();
        ids.insert(id, top.map(|container| container.id));
    }

    pub(super) fn removed(&mut self, id: CgroupId, path: &CgroupPath) {
        let Some(cgroup) = PodCgroup::parse(path) else { return };
        if let Some(ids) = self.cgroups.get_mut(&cgroup.pod_uid) {
            ids.remove(&id);
            if ids.is_empty() {
                self.cgroups.remove(&cgroup.pod_uid);
            }
        }
    }

    /// Takes what the API server told.
    pub(super) fn apply(&mut self, event: Event, now: Instant) -> Vec<PodChange> {
        self.pods.as_mut().map_or_else(Vec::new, |pods| pods.apply(event, now))
    }

    /// Takes what the runtime told about a container, and gives the cgroups of its pod,
    /// if there are any yet.
    pub(super) fn learn(&mut self, learnt: Learnt, now: Instant) -> Vec<CgroupId> {
        let cgroups = self.cgroups_of(&learnt.pod);
        self.learnt.learn(learnt, now);
        cgroups
    }

    /// The init of the container that a cgroup lies in, if the runtime has told.
    pub(super) fn init(&self, path: &CgroupPath) -> Option<u32> {
        self.learnt.init(PodCgroup::parse(path)?.container()?.id)
    }

    /// The value that a container's cgroup would have got, if its runtime was asked for
    /// ours. With crun, which CRI-O has by default, that is not the container's outermost.
    pub(super) fn adjusted(&self, path: &CgroupPath) -> Option<bool> {
        let cgroup = PodCgroup::parse(path)?;
        let container = cgroup.container()?;
        match (container.place, container.runtime) {
            (Place::Below(_), _) | (Place::Top, Runtime::CriO) => None,
            _ => self.learnt.instead_of(container.id),
        }
    }

    /// Whether the pod of a container has a memory limit of its own, beside those of its
    /// containers; none if its spec is not known. The runtime tells no spec.
    pub(super) fn pods_own_limit(&self, path: &CgroupPath) -> Option<bool> {
        let cgroup = self.pod_cgroup(path)?;
        let resolved = resolve(self.pods.as_ref()?, &cgroup, cgroup.container()?.id)?;
        Some(resolved.pod.memory_limit.is_some())
    }

    /// Forgets pods that were deleted long ago, and gives their cgroups, if any.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<CgroupId> {
        let living = self.cgroups.values().flat_map(BTreeMap::values).flatten().copied();
        self.learnt.expire(&living.collect(), now);
        let forgotten = self.pods.as_mut().map_or_else(Vec::new, |pods| pods.expire(now));
        forgotten.iter().flat_map(|pod| self.cgroups_of(pod)).collect()
    }

    /// A pod that is there, or was until a while ago, and its cgroups.
    pub(super) fn pod(&self, uid: PodUid) -> Option<(&Pod, Vec<CgroupId>)> {
        let pod = self.pods.as_ref()?.known(uid)?;
        Some((pod, self.cgroups_of(pod)))
    }

    fn cgroups_of(&self, pod: &Pod) -> Vec<CgroupId> {
        let ids = self.cgroups.get(&pod.cgroup_uid());
        ids.map_or_else(Vec::new, |ids| ids.keys().copied().collect())
    }

    /// Whether the pods of the node are known, if there is to be anybody who tells of them.
    pub(super) fn knows_pods(&self) -> bool {
        self.pods.as_ref().is_none_or(PodStore::synced)
    }

    /// Whether a cgroup is a container's whose name is yet to be told.
    pub(super) fn awaits_name(&self, path: &CgroupPath) -> bool {
        PodCgroup::parse(path).is_some_and(|cgroup| cgroup.container().is_some())
            && !matches!(self.owner(path), Owner::Container(_))
    }

    /// Whether a pod of this name is there now.
    pub(super) fn is_there(&self, names: &ContainerNames) -> bool {
        let ContainerNames { namespace, pod, .. } = names;
        let listed = self.pods.as_ref().is_some_and(PodStore::synced);
        self.pods.as_ref().is_some_and(|pods| pods.has(namespace, pod))
            || !listed && self.learnt.has_pod(namespace, pod)
    }

    /// The pod that a cgroup is of, if somebody may tell its name.
    fn pod_cgroup(&self, path: &CgroupPath) -> Option<PodCgroup> {
        let learnt = |cgroup: &PodCgroup| {
            cgroup.container().is_some_and(|container| self.learnt.has(container.id))
        };
        PodCgroup::parse(path).filter(|cgroup| self.pods.is_some() || learnt(cgroup))
    }

    /// The pod of a container's cgroup and, as far as it is known, which of its
    /// containers it is.
    pub(super) fn named(&self, path: &CgroupPath) -> Option<Named<'_>> {
        self.named_cgroup(&self.pod_cgroup(path)?)
    }

    fn named_cgroup(&self, cgroup: &PodCgroup) -> Option<Named<'_>> {
        let id = cgroup.container()?.id;
        let learnt = self.learnt.named(id);
        let resolved = self.pods.as_ref().and_then(|pods| resolve(pods, cgroup, id));
        // The API server's labels are those that the pod has now; the runtime's are
        // those that it had when it was made.
        let pod = resolved.map(|resolved| resolved.pod).or(learnt.map(|(pod, _)| pod))?;
        let known = learnt.map(|(_, name)| name);
        let told = resolved.and_then(|resolved| resolved.container).map(|it| it.name.as_ref());
        if let Some(name) = known.or(told) {
            return Some(Named { pod, name: Some(Cow::Borrowed(name)) });
        }
        let name = match self.bundles.role(id) {
            Some(BundleRole::Container(name)) => Some(Cow::Owned(name)),
            Some(BundleRole::Sandbox) | None => None,
        };
        Some(Named { pod, name })
    }

    /// Whether a container without a name is the pod's sandbox: its bundle says
    /// so, or a container of the pod that has a name was made after it. The
    /// sandbox is made first, and the status tells of all containers at once.
    fn is_sandbox(&self, cgroup: &PodCgroup, id: ContainerId) -> bool {
        if self.bundles.role(id) == Some(BundleRole::Sandbox) {
            return true;
        }
        let (Some(pods), Some(ids)) = (&self.pods, self.cgroups.get(&cgroup.pod_uid)) else {
            return false;
        };
        let own = ids.iter().find(|(_, container)| **container == Some(id));
        let named = |id| pods.by_container(id).is_some_and(|found| found.container.is_some());
        own.is_some_and(|(own, _)| {
            let mut younger = ids.range((Excluded(own), Unbounded));
            younger.any(|(_, container)| container.is_some_and(named))
        })
    }

    /// Who a container's outermost cgroup belongs to.
    pub(super) fn owner(&self, container: &CgroupPath) -> Owner {
        let cgroup = container.clone();
        let Some(pod_cgroup) =
            self.pod_cgroup(container).filter(|found| found.container().is_some())
        else {
            return Owner::Host { cgroup };
        };
        match self.named_cgroup(&pod_cgroup) {
            Some(Named { pod, name: Some(name) }) => Owner::Container(pod.names(&name)),
            _ => Owner::Unnamed { cgroup },
        }
    }

    /// The container that a cgroup of a pod lies in.
    pub(super) fn container_path(&self, path: &CgroupPath) -> Option<CgroupPath> {
        self.pod_cgroup(path)?.container_path(path)
    }

    /// What the rules say about a cgroup. For pods' rules a container is its own
    /// cgroup and crun's one below it, and nothing that it makes for itself.
    pub(super) fn verdict(&self, policy: &Policy, path: &CgroupPath) -> Verdict {
        let pod_cgroup = self.pod_cgroup(path);
        let container = pod_cgroup.as_ref().and_then(PodCgroup::container);
        let own = container.filter(|it| matches!(it.place, Place::Top | Place::Payload));
        let (Some(cgroup), Some(container)) = (&pod_cgroup, own) else {
            return policy.decide(&Subject { cgroup: path, pod: None });
        };
        let named = self.named_cgroup(cgroup);
        let name = named.as_ref().and_then(|named| named.name.as_deref());
        let pod = named.as_ref().map(|named| PodSubject { pod: named.pod, container: name });
        match policy.decide(&Subject { cgroup: path, pod }) {
            // Until its name is known a container may be the pod's sandbox, which
            // has 0 and is never given another value.
            Verdict::Matched(target)
                if name.is_none() && (target.value || self.is_sandbox(cgroup, container.id)) =>
            {
                Verdict::Unmatched
            }
            verdict => verdict,
        }
    }
}

/// The pod of a container's cgroup. A static pod's has the hash of its manifest for a
/// UID. Its mirror's annotation has it too, but any pod may claim that; the status,
/// from the kubelet, is asked first. A pod whose own UID is not known stays unknown,
/// even if another one has a container of this ID.
fn resolve<'a>(pods: &'a PodStore, cgroup: &PodCgroup, id: ContainerId) -> Option<Resolved<'a>> {
    let by_hash = matches!(cgroup.pod_uid, PodUid::ConfigHash(_));
    let from_status = by_hash.then(|| pods.by_container(id)).flatten();
    from_status.or_else(|| pods.resolve(cgroup))
}

#[cfg(test)]
mod tests;
