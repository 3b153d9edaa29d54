//! What the container runtime reported about containers: their names before they are
//! created, and their init, long before the API server knows either.

use super::ContainerId;
use crate::{
    clock::Monotonic,
    owner::id::PodUid,
    pods::{Pod, store::GRACE},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// What the runtime reported about a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeContainer {
    pub id: ContainerId,
    /// Its name in its pod.
    pub name: Box<str>,
    /// Its pod, without containers; as it was when it was made.
    pub pod: Arc<Pod>,
    /// Process ID of its init, once it is started.
    pub init: Option<u32>,
    /// The value that it would have got, if its spec was changed and the runtime reported it.
    pub instead_of: Option<bool>,
}

/// Containers that are remembered: many times what a kubelet starts on a node. More
/// are not learnt, and named by the API server.
const MOST: usize = 4096;

/// So much is kept of their pods, bytes, about. Of further ones only the names are kept, half a KiB
/// each.
const MOST_OF_PODS: usize = 4 << 20;

#[derive(Debug, Default)]
pub(super) struct RuntimeContainers {
    containers: HashMap<ContainerId, Entry>,
    /// Each once, however many containers it has.
    pods: HashMap<PodUid, Arc<Pod>>,
    /// What the pods take, bytes.
    size: usize,
}

#[derive(Debug)]
struct Entry {
    pod: PodUid,
    name: Box<str>,
    init: Option<u32>,
    instead_of: Option<bool>,
    /// When it was reported, or its cgroup was last seen.
    there: Monotonic,
}

impl RuntimeContainers {
    pub(super) fn learn(&mut self, learnt: RuntimeContainer, now: Monotonic) {
        let RuntimeContainer { id, name, pod, init, instead_of } = learnt;
        if self.containers.len() >= MOST && !self.containers.contains_key(&id) {
            return;
        }
        let earlier = self.containers.get(&id);
        let entry = Entry {
            pod: pod.uid,
            name,
            init: init.or(earlier.and_then(|entry| entry.init)),
            instead_of: instead_of.or(earlier.and_then(|entry| entry.instead_of)),
            there: now,
        };
        self.containers.insert(id, entry);
        self.keep(pod);
    }

    /// Keeps as much of a pod as there is room for.
    fn keep(&mut self, mut pod: Arc<Pod>) {
        let before = self.pods.get(&pod.uid);
        let others = self.size - before.map_or(0, |before| before.size());
        if others + pod.size() > MOST_OF_PODS {
            pod = Arc::new(pod.names_only());
        }
        // Names alone say nothing new of a pod whose labels are known.
        if before.is_some_and(|before| before.labels.is_some()) && pod.labels.is_none() {
            return;
        }
        self.size = others + pod.size();
        self.pods.insert(pod.uid, pod);
    }

    pub(super) fn has(&self, id: ContainerId) -> bool {
        self.containers.contains_key(&id)
    }

    /// The pod of a container, and the container's name.
    pub(super) fn named(&self, id: ContainerId) -> Option<(&Pod, &str)> {
        let entry = self.containers.get(&id)?;
        Some((self.pods.get(&entry.pod)?, &entry.name))
    }

    pub(super) fn pod(&self, uid: PodUid) -> Option<&Pod> {
        self.pods.get(&uid).map(AsRef::as_ref)
    }

    pub(super) fn init(&self, id: ContainerId) -> Option<u32> {
        self.containers.get(&id)?.init
    }

    /// The value that a container would have got without us.
    pub(super) fn instead_of(&self, id: ContainerId) -> Option<bool> {
        self.containers.get(&id)?.instead_of
    }

    pub(super) fn has_pod(&self, namespace: &str, name: &str) -> bool {
        self.pods.values().any(|pod| *pod.namespace == *namespace && *pod.name == *name)
    }

    /// Forgets containers whose cgroups have been gone for a while; kills are reported
    /// later than they happen. A runtime that goes away says nothing of those that
    /// end meanwhile, so it is not asked.
    pub(super) fn expire(&mut self, living: &HashSet<ContainerId>, now: Monotonic) {
        for (id, entry) in &mut self.containers {
            if living.contains(id) {
                entry.there = now;
            }
        }
        self.containers.retain(|_, entry| now.saturating_duration_since(entry.there) < GRACE);
        let pods: HashSet<_> = self.containers.values().map(|entry| entry.pod).collect();
        self.pods.retain(|uid, _| pods.contains(uid));
        self.size = self.pods.values().map(|pod| pod.size()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::LARGEST_LABELS;

    /// A pod with as many labels as are kept, and its only container.
    fn large(number: usize) -> RuntimeContainer {
        let uid = PodUid::parse_any(&format!("{number:032x}")).unwrap();
        let pod = Pod {
            labels: Some([("l".into(), "x".repeat(LARGEST_LABELS).into())].into()),
            ..Pod::named(uid, "shop", &format!("web-{number}"))
        };
        let id = ContainerId::parse(&format!("{number:064x}")).unwrap();
        RuntimeContainer {
            id,
            name: "worker".into(),
            pod: pod.into(),
            init: None,
            instead_of: None,
        }
    }

    #[test]
    fn many_pods_with_many_labels_keep_their_names() {
        let mut learnt = RuntimeContainers::default();
        for number in 0..MOST {
            learnt.learn(large(number), Monotonic::ZERO);
        }
        let kept: usize = learnt.pods.values().map(|pod| pod.size()).sum();
        assert!(kept == learnt.size && kept <= MOST_OF_PODS + MOST * 1024, "{kept} bytes");
        let labels = |number| {
            let (pod, name) = learnt.named(large(number).id)?;
            Some((pod.labels.is_some(), name))
        };
        let (first, last) = (labels(0), labels(MOST - 1));
        assert_eq!((first, last), (Some((true, "worker")), Some((false, "worker"))));
        learnt.expire(&HashSet::new(), Monotonic::ZERO + GRACE);
        assert_eq!((learnt.pods.len(), learnt.size), (0, 0));
        learnt.learn(large(1000), Monotonic::ZERO);
        assert!(learnt.named(large(1000).id).unwrap().0.labels.is_some(), "there is room again");
    }
}
