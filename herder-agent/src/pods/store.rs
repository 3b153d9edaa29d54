//! The pods of this node in memory, found by container id and by pod uid. Pure:
//! events and the time come in, changes come out.
//!
//! A deleted pod can still be found for a while, because kills are told later
//! than they happen and a forced deletion overtakes the end of the containers.

use super::{
    Container, Event, Pod,
    restarts::{self, RestartSeen},
};
use crate::attribution::{
    id::{ContainerId, PodUid},
    path::{Part, PodCgroup},
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    time::Duration,
};
use tokio::time::Instant;

/// How long a deleted pod can be found.
pub const GRACE: Duration = Duration::from_secs(5 * 60);

/// How many deleted pods can be found; of more, the oldest are forgotten. A
/// node has 110 pods by default, so this is two full turnovers and more.
pub const MAX_DELETED: usize = 256;

/// How many earlier incarnations of containers are remembered for each pod,
/// beside those that its status names.
const MAX_PAST: usize = 8;

/// What an event changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodChange {
    /// A pod is new or changed in something that the agent uses.
    Upserted(PodUid),
    /// A pod is gone: nothing is enforced for it any more. [`PodStore::resolve`]
    /// still finds it for [`GRACE`].
    Deleted(PodUid),
    /// A container restarted.
    Restarted(RestartSeen),
    /// A pod has too many labels to keep: from now on no selector matches it.
    LabelsLeftOut(PodUid),
    /// A pod has too many containers to keep.
    ContainersLeftOut(PodUid),
    /// The store now has all pods of the node.
    Synced,
}

/// A pod and perhaps a container of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container; none for the sandbox, for the pod's own cgroup, and as
    /// long as the status does not know the container.
    pub container: Option<&'a Container>,
    /// Whether the pod is still there. Nothing is enforced for one that is not.
    pub live: bool,
}

/// The pods of this node.
#[derive(Debug, Default)]
pub struct PodStore {
    pods: HashMap<PodUid, Record>,
    by_config_hash: HashMap<PodUid, PodUid>,
    by_container: HashMap<ContainerId, PodUid>,
    deleted: VecDeque<(Instant, PodUid)>,
    listed: Option<HashSet<PodUid>>,
    synced: bool,
}

#[derive(Debug)]
struct Record {
    pod: Pod,
    deleted_at: Option<Instant>,
    past: VecDeque<(ContainerId, Box<str>)>,
}

impl PodStore {
    /// Takes an event in and says what it changed.
    pub fn apply(&mut self, event: Event, now: Instant) -> Vec<PodChange> {
        match event {
            Event::ListStarted => {
                self.listed = Some(HashSet::new());
                Vec::new()
            }
            Event::Applied(pod) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(pod.uid);
                }
                self.upsert(*pod)
            }
            Event::Deleted(uid) => self.delete(uid, now).into_iter().collect(),
            Event::Listed => self.finish_list(now),
        }
    }

    /// Who a cgroup belongs to, if its pod is known.
    pub fn resolve(&self, cgroup: &PodCgroup) -> Option<Resolved<'_>> {
        let uid = match cgroup.pod_uid {
            uid @ PodUid::Uuid(_) => uid,
            hash @ PodUid::ConfigHash(_) => *self.by_config_hash.get(&hash)?,
        };
        let record = self.pods.get(&uid)?;
        let container = match &cgroup.part {
            Part::Container(container) => record.container(container.id),
            Part::Monitor(id) => record.container(*id),
            Part::Pod | Part::Other => None,
        };
        Some(Resolved { pod: &record.pod, container, live: record.deleted_at.is_none() })
    }

    /// The pod that a container is of, whatever the path of its cgroup.
    pub fn by_container(&self, id: ContainerId) -> Option<Resolved<'_>> {
        let record = self.pods.get(self.by_container.get(&id)?)?;
        Some(Resolved {
            pod: &record.pod,
            container: record.container(id),
            live: record.deleted_at.is_none(),
        })
    }

    /// A pod that is there now, by the uid of the API.
    pub fn get(&self, uid: PodUid) -> Option<&Pod> {
        let record = self.pods.get(&uid)?;
        record.deleted_at.is_none().then_some(&record.pod)
    }

    /// A pod that is there, or was until [`GRACE`] ago, by the uid of the API.
    pub fn known(&self, uid: PodUid) -> Option<&Pod> {
        self.pods.get(&uid).map(|record| &record.pod)
    }

    /// Whether a pod of this name is there now.
    pub fn has(&self, namespace: &str, name: &str) -> bool {
        self.live().any(|pod| *pod.namespace == *namespace && *pod.name == *name)
    }

    /// The pods that are there now.
    pub fn live(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values().filter(|record| record.deleted_at.is_none()).map(|record| &record.pod)
    }

    /// Whether a full list was ever taken in.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// When [`PodStore::expire`] has something to do next.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.deleted.front().map(|(at, _)| *at + GRACE)
    }

    /// Forgets the pods that have been gone for [`GRACE`], and gives them away.
    pub fn expire(&mut self, now: Instant) -> Vec<Pod> {
        let mut forgotten = Vec::new();
        while self.next_expiry().is_some_and(|expiry| expiry <= now) {
            forgotten.extend(self.forget_oldest());
        }
        forgotten
    }

    fn upsert(&mut self, mut pod: Pod) -> Vec<PodChange> {
        let uid = pod.uid;
        let Some(record) = self.pods.get_mut(&uid) else {
            self.index(&pod);
            let mut changes = vec![PodChange::Upserted(uid)];
            changes.extend(left_out(None, &pod));
            let record = Record { pod, deleted_at: None, past: VecDeque::new() };
            self.pods.insert(uid, record);
            return changes;
        };
        let came_back = record.deleted_at.take().is_some();
        restarts::repair(&record.pod, &mut pod, |id| record.container(id).is_some());
        if record.pod == pod && !came_back {
            return Vec::new();
        }
        let mut changes = vec![PodChange::Upserted(uid)];
        changes.extend(left_out(Some(&record.pod), &pod));
        let restarts = restarts::between(&record.pod, &pod);
        changes.extend(restarts.into_iter().map(PodChange::Restarted));
        let old = mem::replace(&mut record.pod, pod.clone());
        let forgotten = record.remember_past(&old);
        for id in forgotten {
            self.by_container.remove(&id);
        }
        self.index(&pod);
        changes
    }

    fn index(&mut self, pod: &Pod) {
        if let Some(hash) = pod.config_hash {
            // Anybody may annotate a pod: none takes over what another one that
            // is still there has.
            let holder = self.by_config_hash.get(&hash).and_then(|uid| self.pods.get(uid));
            let taken = holder.is_some_and(|it| it.deleted_at.is_none() && it.pod.uid != pod.uid);
            if !taken {
                self.by_config_hash.insert(hash, pod.uid);
            }
        }
        for id in pod.containers.iter().flat_map(Container::ids) {
            self.by_container.insert(id, pod.uid);
        }
    }

    fn delete(&mut self, uid: PodUid, now: Instant) -> Option<PodChange> {
        let record = self.pods.get_mut(&uid)?;
        if record.deleted_at.is_some() {
            return None;
        }
        record.deleted_at = Some(now);
        if let Some(hash) = record.pod.config_hash {
            let heir = self.live().find(|pod| pod.config_hash == Some(hash)).map(|pod| pod.uid);
            self.by_config_hash.extend(heir.map(|heir| (hash, heir)));
        }
        self.deleted.push_back((now, uid));
        if self.deleted.len() > MAX_DELETED {
            self.forget_oldest();
        }
        Some(PodChange::Deleted(uid))
    }

    fn finish_list(&mut self, now: Instant) -> Vec<PodChange> {
        let Some(listed) = self.listed.take() else {
            return Vec::new();
        };
        let mut gone: Vec<PodUid> = self.live().map(|pod| pod.uid).collect();
        gone.retain(|uid| !listed.contains(uid));
        gone.sort_unstable();
        let mut changes: Vec<PodChange> =
            gone.into_iter().filter_map(|uid| self.delete(uid, now)).collect();
        if !mem::replace(&mut self.synced, true) {
            changes.push(PodChange::Synced);
        }
        changes
    }

    fn forget_oldest(&mut self) -> Option<Pod> {
        let (deleted_at, uid) = self.deleted.pop_front()?;
        // A pod that came back, and perhaps went again, is not this one.
        let still_gone =
            self.pods.get(&uid).is_some_and(|record| record.deleted_at == Some(deleted_at));
        if !still_gone {
            return None;
        }
        let record = self.pods.remove(&uid)?;
        for id in record.ids() {
            self.by_container.remove(&id);
        }
        // A new mirror pod of the same static pod has the same hash.
        if let Some(hash) = record.pod.config_hash
            && self.by_config_hash.get(&hash) == Some(&uid)
        {
            self.by_config_hash.remove(&hash);
        }
        Some(record.pod)
    }
}

impl Record {
    fn container(&self, id: ContainerId) -> Option<&Container> {
        let now = self.pod.containers.iter().find(|container| container.ids().any(|its| its == id));
        now.or_else(|| {
            let (_, name) = self.past.iter().find(|(past, _)| *past == id)?;
            self.pod.container(name)
        })
    }

    fn ids(&self) -> impl Iterator<Item = ContainerId> {
        let now = self.pod.containers.iter().flat_map(Container::ids);
        now.chain(self.past.iter().map(|(id, _)| *id))
    }

    /// Keeps the ids that the status no longer names; returns those that there
    /// is no more room for.
    fn remember_past(&mut self, old: &Pod) -> Vec<ContainerId> {
        for container in &old.containers {
            for id in container.ids() {
                if self.container(id).is_none() {
                    self.past.push_back((id, container.name.clone()));
                }
            }
        }
        let excess = self.past.len().saturating_sub(MAX_PAST);
        self.past.drain(..excess).map(|(id, _)| id).collect()
    }
}

/// What of a pod is too much to keep, and was not before.
fn left_out(before: Option<&Pod>, pod: &Pod) -> impl Iterator<Item = PodChange> {
    let labels = pod.labels.is_none() && before.is_none_or(|before| before.labels.is_some());
    let containers = pod.more_containers && before.is_none_or(|before| !before.more_containers);
    let labels = labels.then_some(PodChange::LabelsLeftOut(pod.uid));
    labels.into_iter().chain(containers.then_some(PodChange::ContainersLeftOut(pod.uid)))
}

#[cfg(test)]
mod tests;
