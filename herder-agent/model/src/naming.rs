//! Whose container a cgroup is, and what the rules want of it.
//!
//! The cgroup's path says which pod and container ID it is, the API server what
//! that pod is called, and the pod's status or the bundle what the container is
//! called. With NRI the runtime gives all of this, and earlier.

pub mod connected;
mod elimination;
mod kills;
pub mod runtime;
mod siblings;
mod unlisted;

use crate::{
    cgroup::{CgroupId, CgroupPath},
    clock::Monotonic,
    owner::{
        ContainerNames, Owner,
        id::{ContainerId, PodUid},
        kubelet::KubeletRoots,
        path::{ContainerCgroup, Part, Place, PodCgroup, Runtime},
    },
    pods::{
        Event, Pod,
        store::{PodChange, PodStore},
    },
    rules::matching::{PodSubject, Policy, Subject, SubjectPod, Target, Verdict},
};
use elimination::Patience;
use runtime::{RuntimeContainer, RuntimeContainers};
use siblings::Siblings;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

/// Pods without cgroups of which the order of their last ones is remembered.
const MOST_ENDED: usize = 256;

/// Once the pods are known, a pod and its containers' names are known at most this much after their
/// cgroups. For a pod that is just being made, the kubelet reports them with some seconds' delay.
/// The labels of one that the API server does not list come from the runtime, a second later.
pub const NAMED_WITHIN: Duration = Duration::from_secs(60);

/// What a bundle says a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerRole {
    /// The pod's pause container.
    Sandbox,
    /// A container of this name.
    Container(Box<str>),
}

/// A container, by the IDs that its cgroup's path has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerOfPod {
    pub pod: PodUid,
    /// The container, or the sandbox.
    pub container: ContainerId,
}

/// What is known of pods, and which cgroups are theirs.
#[derive(Debug)]
pub struct Naming {
    pods: Option<PodStore>,
    learnt: RuntimeContainers,
    /// Cgroups at or below each pod's.
    cgroups: HashMap<PodUid, Siblings>,
    /// Those pods of them that have none left, the longest ago first.
    ended: VecDeque<PodUid>,
    roots: KubeletRoots,
    /// Cgroups on the way to pods that belong to other users than root, who can put anything into
    /// them. There are none unless cgroups were given to another user.
    of_others: HashSet<CgroupPath>,
}

/// A container, or the sandbox, of a known pod.
#[derive(Debug)]
pub struct Named<'a> {
    pub pod: &'a Pod,
    /// The container's name, if that is known.
    pub name: Option<&'a str>,
}

impl Naming {
    /// Without Kubernetes all cgroups are the host's, except those of containers that the runtime
    /// reports.
    pub fn new(kubernetes: bool) -> Self {
        Naming {
            pods: kubernetes.then(PodStore::default),
            learnt: RuntimeContainers::default(),
            cgroups: HashMap::new(),
            ended: VecDeque::new(),
            roots: KubeletRoots::default(),
            of_others: HashSet::new(),
        }
    }

    /// Takes pods only for those that are below these.
    #[must_use]
    pub fn below(mut self, roots: KubeletRoots) -> Self {
        self.roots = roots;
        self
    }

    /// The pod and part that a cgroup belongs to, whether or not anything is known of it.
    pub fn parse(&self, path: &CgroupPath) -> Option<PodCgroup> {
        let is_of_others =
            !self.of_others.is_empty() && path.upwards().any(|path| self.of_others.contains(&path));
        PodCgroup::below(&self.roots, path).filter(|_| !is_of_others)
    }

    /// The pod's own cgroup, if this is that or a container's. All of the way to it must be
    /// root's.
    pub fn pod_path(&self, path: &CgroupPath) -> Option<CgroupPath> {
        PodCgroup::below(&self.roots, path)?.pod_path(path)
    }

    /// Takes the uppermost cgroup on the way to a pod that is not root's, if one is not.
    /// Says whether this is new.
    pub fn belongs_to(&mut self, pod: &CgroupPath, other: Option<CgroupPath>) -> bool {
        if !self.of_others.is_empty() {
            let was = |path: &CgroupPath| pod.is_within(path) && other.as_ref() != Some(path);
            self.of_others.retain(|path| !was(path));
        }
        other.is_some_and(|other| self.of_others.insert(other))
    }

    /// A cgroup is there. If it is a container's without a name, the caller reads its bundle, and
    /// calls [`Self::learn_role`] with the result.
    pub fn made(&mut self, id: CgroupId, path: &CgroupPath) -> Option<ContainerOfPod> {
        let cgroup = self.parse(path)?;
        let pod = cgroup.pod_uid;
        let top = cgroup.container().filter(|container| container.place == Place::Top);
        let container = top.map(|container| container.id);
        let siblings = self.cgroups.entry(pod).or_default();
        siblings.made(id, container);
        let unread = container.filter(|container| siblings.role(*container).is_none());
        if let Some(pods) = &mut self.pods {
            pods.set_running(pod, true);
        }
        let container = unread.filter(|container| self.reported_name(pod, *container).is_none())?;
        Some(ContainerOfPod { pod, container })
    }

    /// Takes what a container's bundle says it is. Gives the cgroups of its pod, if its own is
    /// remembered: the role is forgotten with it.
    pub fn learn_role(&mut self, of: ContainerOfPod, role: ContainerRole) -> Vec<CgroupId> {
        let Some(siblings) = self.cgroups.get_mut(&of.pod) else { return Vec::new() };
        if !siblings.set_role(of.container, role) {
            return Vec::new();
        }
        siblings.living().collect()
    }

    /// Whether a cgroup is a container's own, or lies in one.
    pub fn lies_in_container(&self, path: &CgroupPath) -> bool {
        self.parse(path).is_some_and(|cgroup| cgroup.container().is_some())
    }

    /// Whether a cgroup is a pod's or a container's own, and nothing that one made for itself.
    pub fn is_own(&self, path: &CgroupPath) -> bool {
        let cgroup = self.parse(path);
        cgroup.is_some_and(|cgroup| cgroup.part == Part::Pod || own(&cgroup).is_some())
    }

    pub fn removed(&mut self, id: CgroupId, path: &CgroupPath) {
        self.of_others.remove(path);
        let Some(PodCgroup { pod_uid, .. }) = PodCgroup::below(&self.roots, path) else { return };
        let Some(siblings) = self.cgroups.get_mut(&pod_uid) else { return };
        if siblings.removed(id) && siblings.all_gone() {
            self.pod_ended(pod_uid);
        }
    }

    fn pod_ended(&mut self, uid: PodUid) {
        if let Some(pods) = &mut self.pods {
            pods.set_running(uid, false);
        }
        self.ended.push_back(uid);
        if self.ended.len() > MOST_ENDED
            && let Some(oldest) = self.ended.pop_front()
            && self.cgroups.get(&oldest).is_some_and(Siblings::all_gone)
        {
            self.cgroups.remove(&oldest);
        }
    }

    /// Applies what the API server sent.
    pub fn apply(&mut self, event: Event, now: Monotonic) -> Vec<PodChange> {
        self.pods.as_mut().map_or_else(Vec::new, |pods| pods.apply(event, now))
    }

    pub fn learn(&mut self, learnt: RuntimeContainer, now: Monotonic) -> Vec<CgroupId> {
        let cgroups = self.cgroups_of(&learnt.pod);
        self.learnt.learn(learnt, now);
        cgroups
    }

    /// The init of the container that a cgroup lies in, if the runtime has reported it.
    pub fn init(&self, path: &CgroupPath) -> Option<u32> {
        self.learnt.init(self.parse(path)?.container()?.id)
    }

    /// The value that a container's cgroup would have got, if its runtime was asked for
    /// ours. With crun, which CRI-O has by default, that is not the container's outermost.
    pub fn adjusted(&self, path: &CgroupPath) -> Option<bool> {
        let cgroup = self.parse(path)?;
        let container = cgroup.container()?;
        match (container.place, container.runtime) {
            (Place::Below(_), _) | (Place::Top, Runtime::CriO) => None,
            _ => self.learnt.instead_of(container.id),
        }
    }

    /// Whether the pod of a container has a memory limit of its own, beside those of its
    /// containers; none if its spec is not known. The runtime does not send the spec.
    pub fn pods_own_limit(&self, path: &CgroupPath) -> Option<bool> {
        let cgroup = self.pod_cgroup(path)?;
        let resolved = self.pods.as_ref()?.resolve(&cgroup)?;
        Some(resolved.pod.memory_limit.is_some())
    }

    /// Forgets pods that were deleted and ended long ago, and gives up those that do not come. Gives
    /// the cgroups of both.
    pub fn expire(&mut self, now: Monotonic) -> Vec<CgroupId> {
        let living = self.cgroups.values().flat_map(Siblings::containers);
        self.learnt.expire(&living.collect(), now);
        let forgotten = self.pods.as_mut().map_or_else(Vec::new, |pods| pods.expire(now));
        let mut cgroups = self.look_for_pods(now);
        cgroups.extend(forgotten.iter().flat_map(|pod| self.cgroups_of(pod)));
        cgroups
    }

    /// A pod that is there, or was not long ago, and its cgroups.
    pub fn pod(&self, uid: PodUid) -> Option<(&Pod, Vec<CgroupId>)> {
        let pod = self.pods.as_ref()?.known(uid)?;
        Some((pod, self.cgroups_of(pod)))
    }

    fn cgroups_of(&self, pod: &Pod) -> Vec<CgroupId> {
        self.cgroups_with(pod.cgroup_uid())
    }

    /// Whether the pods of the node are known, if there is a source of them.
    pub fn knows_pods(&self) -> bool {
        self.pods.as_ref().is_none_or(PodStore::synced)
    }

    /// Whether a cgroup is that of a container whose name is not known yet.
    pub fn awaits_name(&self, path: &CgroupPath) -> bool {
        self.parse(path).is_some_and(|cgroup| cgroup.container().is_some())
            && !matches!(self.owner(path), Owner::Container(_))
    }

    /// Whether a cgroup is that of a container whose pod has only names: the runtime's labels may
    /// follow the API server's first list.
    pub fn awaits_labels(&self, path: &CgroupPath) -> bool {
        self.named(path).is_some_and(|named| named.pod.labels.is_none())
    }

    /// The cgroups of the pod whose cgroups carry this uid.
    pub fn cgroups_with(&self, uid: PodUid) -> Vec<CgroupId> {
        let siblings = self.cgroups.get(&uid);
        siblings.map_or_else(Vec::new, |siblings| siblings.living().collect())
    }

    /// Whether a pod of this name is there now, or its containers are.
    pub fn is_there(&self, names: &ContainerNames) -> bool {
        let ContainerNames { namespace, pod, .. } = names;
        let listed = self.pods.as_ref().is_some_and(PodStore::synced);
        self.pods.as_ref().is_some_and(|pods| pods.has(namespace, pod))
            || !listed && self.learnt.has_pod(namespace, pod)
    }

    /// The pod that a cgroup belongs to, if its name may still arrive.
    fn pod_cgroup(&self, path: &CgroupPath) -> Option<PodCgroup> {
        let learnt = |cgroup: &PodCgroup| {
            cgroup.container().is_some_and(|container| self.learnt.has(container.id))
        };
        self.parse(path).filter(|cgroup| self.pods.is_some() || learnt(cgroup))
    }

    /// The pod of a container's cgroup and, as far as it is known, which of its
    /// containers it is.
    pub fn named(&self, path: &CgroupPath) -> Option<Named<'_>> {
        self.named_cgroup(&self.pod_cgroup(path)?)
    }

    fn named_cgroup(&self, cgroup: &PodCgroup) -> Option<Named<'_>> {
        let id = cgroup.container()?.id;
        let learnt = self.learnt.named(id);
        let resolved = self.pods.as_ref().and_then(|pods| pods.resolve(cgroup));
        // The API server's labels are those that the pod has now; the runtime's are
        // those that it had when it was made.
        let pod = resolved.map(|resolved| resolved.pod).or(learnt.map(|(pod, _)| pod))?;
        let known = learnt.map(|(_, name)| name);
        let named = resolved.and_then(|resolved| resolved.container).map(|it| it.name.as_ref());
        if let Some(name) = known.or(named) {
            return Some(Named { pod, name: Some(name) });
        }
        let name = match self.role(cgroup, id) {
            Some(ContainerRole::Container(name)) => Some(name.as_ref()),
            Some(ContainerRole::Sandbox) => None,
            None => self.only_candidate(pod, cgroup, id, Patience::Waiting),
        };
        Some(Named { pod, name })
    }

    fn role(&self, cgroup: &PodCgroup, id: ContainerId) -> Option<&ContainerRole> {
        self.cgroups.get(&cgroup.pod_uid)?.role(id)
    }

    /// Whether a container without a name is the pod's sandbox: its bundle says
    /// so, or a container of the pod that has a name was made after it. The
    /// sandbox is made first, and status and runtime list all containers at once.
    fn is_sandbox(&self, cgroup: &PodCgroup, id: ContainerId) -> bool {
        if self.role(cgroup, id) == Some(&ContainerRole::Sandbox) {
            return true;
        }
        let siblings = self.cgroups.get(&cgroup.pod_uid);
        let named = |id| self.reported_name(cgroup.pod_uid, id).is_some();
        siblings.is_some_and(|them| them.younger(id).any(named))
    }

    /// Who a container's outermost cgroup belongs to.
    pub fn owner(&self, container: &CgroupPath) -> Owner {
        let cgroup = container.clone();
        let Some(pod_cgroup) =
            self.pod_cgroup(container).filter(|found| found.container().is_some())
        else {
            return Owner::Host { cgroup };
        };
        match self.named_cgroup(&pod_cgroup) {
            Some(Named { pod, name: Some(name) }) => Owner::Container(pod.names(name)),
            _ => Owner::Unnamed { cgroup },
        }
    }

    /// The container that a cgroup of a pod lies in.
    pub fn container_path(&self, path: &CgroupPath) -> Option<CgroupPath> {
        self.pod_cgroup(path)?.container_path(path)
    }

    /// What the rules say about a cgroup. For pods' rules a container is its own
    /// cgroup and crun's one below it, and nothing that it makes for itself.
    pub fn verdict(&self, policy: &Policy, path: &CgroupPath) -> Verdict {
        let pod_cgroup = self.pod_cgroup(path);
        let (Some(cgroup), Some(container)) = (&pod_cgroup, pod_cgroup.as_ref().and_then(own))
        else {
            return policy.decide(&Subject { cgroup: path, pod: SubjectPod::None });
        };
        let named = self.named_cgroup(cgroup);
        let name = named.as_ref().and_then(|named| named.name);
        let pod = match &named {
            Some(named) => SubjectPod::Known(PodSubject { pod: named.pod, container: name }),
            None if self.awaits(cgroup) => SubjectPod::Unknown,
            None => SubjectPod::None,
        };
        match policy.decide(&Subject { cgroup: path, pod }) {
            // Until its name is known a container may be the pod's sandbox, which
            // has 0 and is never given another value.
            Verdict::Matched(target)
                if name.is_none() && (target.value || self.is_sandbox(cgroup, container.id)) =>
            {
                Verdict::Unmatched
            }
            // Nor is a sandbox ever escalated.
            Verdict::Matched(target) if name.is_none() => Verdict::Matched(Target {
                escalate: None,
                escalate_unless_sandbox: target.escalate,
                ..target
            }),
            verdict => verdict,
        }
    }
}

/// The container whose own cgroup it is: the one that the runtime asked for, or crun's below.
fn own(cgroup: &PodCgroup) -> Option<&ContainerCgroup> {
    cgroup.container().filter(|it| matches!(it.place, Place::Top | Place::Payload))
}

#[cfg(test)]
mod tests;
