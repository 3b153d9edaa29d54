//! The pods of this node in memory, found by container id and by pod uid. Pure:
//! events and the time come in, changes come out.
//!
//! A deleted pod can still be found for as long as it has cgroups, and a while
//! longer. A forced deletion overtakes the end of the containers, and a static pod
//! runs on when its mirror is deleted: names and rules hold for what still runs.
//! And kills are reported later than they happen.

pub(super) mod room;

use super::{
    Container, Event, Pod,
    addresses::Claims,
    restarts::{self, RestartSeen},
};
use crate::clock::Monotonic;
use crate::owner::{
    id::{ContainerId, PodUid},
    path::{Part, PodCgroup},
};
use core::net::IpAddr;
use room::{Room, is_left_out, left_out};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    time::Duration,
};

/// How long a deleted pod can be found when it has no cgroups any more.
pub const GRACE: Duration = Duration::from_secs(5 * 60);

/// How many deleted pods can be found; of more, the oldest are forgotten, those with
/// cgroups last. A node has 110 pods by default, so this is two full turnovers and more.
pub const MAX_DELETED: usize = 256;

/// How many earlier incarnations of containers are remembered for each pod,
/// beside those that its status names.
const MAX_PAST: usize = 8;

/// What an event changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodChange {
    /// A pod is new or changed in something that the agent uses.
    Upserted(PodUid),
    /// A pod is gone from the API server. [`PodStore::resolve`] still finds it.
    Deleted(PodUid),
    /// A deleted pod with cgroups of this uid is forgotten: there are too many.
    Forgotten(PodUid),
    Restarted(RestartSeen),
    /// A pod has too many labels to keep: from now on no selector matches it.
    LabelsLeftOut(PodUid),
    /// A pod has too many containers to keep.
    ContainersLeftOut(PodUid),
    /// All pods together are too large to keep.
    Full,
    /// The store now has all pods of the node.
    Synced,
}

/// A pod and perhaps a container of it. For a query by cgroup it makes no difference whether the
/// API server still has the pod: what runs keeps its names and its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved<'a> {
    pub pod: &'a Pod,
    /// The container; none for the sandbox, for the pod's own cgroup, and as
    /// long as the status does not know the container.
    pub container: Option<&'a Container>,
}

/// The pods of this node.
#[derive(Debug)]
pub struct PodStore {
    /// Boxed, because half of a hash table is room for more.
    pods: HashMap<PodUid, Box<Record>>,
    /// The pods that mirror a static one, by its uid, the newest last.
    mirrors: HashMap<PodUid, Vec<PodUid>>,
    /// Uids of pods that have cgroups.
    running: HashSet<PodUid>,
    /// Which pods that are there claim an address.
    claims: Claims,
    deleted: VecDeque<(Monotonic, PodUid)>,
    listed: Option<HashSet<PodUid>>,
    synced: bool,
    /// What all of them take, and may take, bytes.
    size: usize,
    most: usize,
    /// It was said that there is no room for all.
    is_full: bool,
}

impl Default for PodStore {
    fn default() -> Self {
        PodStore {
            pods: HashMap::new(),
            mirrors: HashMap::new(),
            running: HashSet::new(),
            claims: Claims::default(),
            deleted: VecDeque::new(),
            listed: None,
            synced: false,
            size: 0,
            most: room::MOST,
            is_full: false,
        }
    }
}

#[derive(Debug)]
struct Record {
    pod: Pod,
    deleted_at: Option<Monotonic>,
    past: VecDeque<(ContainerId, Box<str>)>,
}

impl PodStore {
    /// Takes an event in and says what it changed.
    pub fn apply(&mut self, event: Event, now: Monotonic) -> Vec<PodChange> {
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
            Event::Deleted(uid) => self.delete(uid, now),
            Event::Listed => self.finish_list(now),
        }
    }

    /// Who a cgroup belongs to, if its pod is known.
    pub fn resolve(&self, cgroup: &PodCgroup) -> Option<Resolved<'_>> {
        let id = match &cgroup.part {
            Part::Container(container) => Some(container.id),
            Part::Monitor(id) => Some(*id),
            Part::Pod | Part::Other => None,
        };
        Some(self.record(cgroup.pod_uid, id)?.resolved(id))
    }

    /// A container of the pod whose cgroups carry this uid.
    pub fn container(&self, cgroup_uid: PodUid, id: ContainerId) -> Option<&Container> {
        self.record(cgroup_uid, Some(id))?.container(id)
    }

    /// Whether the pod is known whose cgroups carry this uid.
    pub fn is_listed(&self, cgroup_uid: PodUid) -> bool {
        self.record(cgroup_uid, None).is_some()
    }

    fn record(&self, cgroup_uid: PodUid, id: Option<ContainerId>) -> Option<&Record> {
        let own = self.pods.get(&cgroup_uid).map(Box::as_ref);
        let own = own.filter(|record| record.pod.cgroup_uid() == cgroup_uid);
        own.or_else(|| self.mirror(cgroup_uid, id))
    }

    /// The mirror of a static pod: the one whose status, which only the kubelet writes,
    /// has the container, or the only one that is there. Several cannot be distinguished.
    fn mirror(&self, uid: PodUid, id: Option<ContainerId>) -> Option<&Record> {
        let mirrors = || {
            let uids = self.mirrors.get(&uid).into_iter().flatten();
            uids.filter_map(|uid| self.pods.get(uid).map(Box::as_ref))
        };
        let names = |record: &&Record| id.is_some_and(|id| record.container(id).is_some());
        only(mirrors().filter(names)).or_else(|| only(mirrors()))
    }

    /// The pod that a container is of, whatever the path of its cgroup.
    pub fn by_container(&self, id: ContainerId) -> Option<Resolved<'_>> {
        let has_it = self.pods.values().filter(|record| record.container(id).is_some());
        let newest = has_it.max_by_key(|record| record.deleted_at.is_none())?;
        Some(newest.resolved(Some(id)))
    }

    /// Takes in whether there are cgroups of a pod, by the uid that they carry.
    pub fn set_running(&mut self, cgroup_uid: PodUid, running: bool) {
        if running {
            self.running.insert(cgroup_uid);
        } else {
            self.running.remove(&cgroup_uid);
        }
    }

    /// A pod that is there now, by the uid of the API.
    pub fn get(&self, uid: PodUid) -> Option<&Pod> {
        let record = self.pods.get(&uid)?;
        record.deleted_at.is_none().then_some(&record.pod)
    }

    /// The pods that are there now and claim this address.
    pub fn at(&self, address: IpAddr) -> impl Iterator<Item = &Pod> {
        self.claims.of(address).iter().filter_map(|uid| self.get(*uid))
    }

    /// A pod that is there, or can still be found, by the uid of the API.
    pub fn known(&self, uid: PodUid) -> Option<&Pod> {
        self.pods.get(&uid).map(|record| &record.pod)
    }

    /// Whether a pod of this name is there now, or its containers are.
    pub fn has(&self, namespace: &str, name: &str) -> bool {
        let named = |pod: &Pod| *pod.namespace == *namespace && *pod.name == *name;
        let mut records = self.pods.values().filter(|record| named(&record.pod));
        records.any(|record| record.deleted_at.is_none() || self.outlives(record))
    }

    /// The pods that are there now.
    pub fn live(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values().filter(|record| record.deleted_at.is_none()).map(|record| &record.pod)
    }

    /// Whether a full list was ever taken in.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// Forgets the pods that have been gone for [`GRACE`], cgroups and all, and gives them away.
    pub fn expire(&mut self, now: Monotonic) -> Vec<Pod> {
        let mut expired = Vec::new();
        for (deleted_at, uid) in mem::take(&mut self.deleted) {
            // A pod that came back, and perhaps went again, is not this one.
            let record = self.pods.get(&uid).filter(|it| it.deleted_at == Some(deleted_at));
            let Some(record) = record else { continue };
            let at = if self.outlives(record) { now } else { deleted_at };
            if now.saturating_duration_since(at) >= GRACE {
                expired.push(uid);
                continue;
            }
            self.deleted.push_back((at, uid));
            if let Some(record) = self.pods.get_mut(&uid) {
                record.deleted_at = Some(at);
            }
        }
        expired.into_iter().filter_map(|uid| self.forget(uid)).collect()
    }

    /// Whether a deleted pod has cgroups, which are not those of a newer mirror of the
    /// same static pod.
    fn outlives(&self, record: &Record) -> bool {
        let uid = record.pod.cgroup_uid();
        let newest = self.mirrors.get(&uid).and_then(|mirrors| mirrors.last());
        self.running.contains(&uid) && newest.is_none_or(|newest| *newest == record.pod.uid)
    }

    fn upsert(&mut self, mut pod: Pod) -> Vec<PodChange> {
        let room = self.make_room(&mut pod);
        let mut changes = if matches!(room, Room::None) { Vec::new() } else { self.keep(pod) };
        if matches!(room, Room::Names) {
            // It has no more of them than others; what is full is said once.
            changes.retain(|change| !is_left_out(change));
        }
        changes.extend(self.note_room(&room));
        changes
    }

    fn keep(&mut self, mut pod: Pod) -> Vec<PodChange> {
        let (uid, size) = (pod.uid, room::size(&pod));
        let Some(record) = self.pods.get_mut(&uid) else {
            self.size += size;
            self.index(&pod);
            self.claims.add(&pod);
            let mut changes = vec![PodChange::Upserted(uid)];
            changes.extend(left_out(None, &pod));
            let record = Record { pod, deleted_at: None, past: VecDeque::new() };
            self.pods.insert(uid, Box::new(record));
            return changes;
        };
        let came_back = record.deleted_at.take().is_some();
        // Once acknowledged it stays so: the API server lets no client make a mirror of a
        // pod, or something else of a mirror.
        pod.config_hash = pod.config_hash.or(record.pod.config_hash);
        restarts::repair(&record.pod, &mut pod, |id| record.container(id).is_some());
        if record.pod == pod && !came_back {
            return Vec::new();
        }
        let mut changes = vec![PodChange::Upserted(uid)];
        changes.extend(left_out(Some(&record.pod), &pod));
        let restarts = restarts::between(&record.pod, &pod);
        changes.extend(restarts.into_iter().map(PodChange::Restarted));
        let old = mem::replace(&mut record.pod, pod.clone());
        self.size = (self.size + size).saturating_sub(room::size(&old));
        record.remember_past(&old);
        self.claims.remove(&old);
        self.claims.add(&pod);
        self.index(&pod);
        changes
    }

    fn index(&mut self, pod: &Pod) {
        if let Some(hash) = pod.config_hash {
            let mirrors = self.mirrors.entry(hash).or_default();
            if !mirrors.contains(&pod.uid) {
                mirrors.push(pod.uid);
            }
        }
    }

    fn delete(&mut self, uid: PodUid, now: Monotonic) -> Vec<PodChange> {
        let Some(record) = self.pods.get_mut(&uid).filter(|record| record.deleted_at.is_none())
        else {
            return Vec::new();
        };
        record.deleted_at = Some(now);
        self.claims.remove(&record.pod);
        self.deleted.push_back((now, uid));
        let mut changes = vec![PodChange::Deleted(uid)];
        changes.extend(self.forget_one_of_too_many().map(PodChange::Forgotten));
        changes
    }

    /// Forgets a deleted pod if there are too many, and gives the uid of its cgroups if
    /// it has some.
    fn forget_one_of_too_many(&mut self) -> Option<PodUid> {
        if self.deleted.len() <= MAX_DELETED {
            return None;
        }
        let ended = |(_, uid): &(Monotonic, PodUid)| {
            self.pods.get(uid).is_none_or(|record| !self.outlives(record))
        };
        let first = self.deleted.iter().position(ended).unwrap_or_default();
        let (deleted_at, uid) = self.deleted.remove(first)?;
        // A pod that came back is not this one.
        self.pods.get(&uid).filter(|record| record.deleted_at == Some(deleted_at))?;
        let pod = self.forget(uid)?;
        Some(pod.cgroup_uid()).filter(|uid| self.running.contains(uid))
    }

    fn finish_list(&mut self, now: Monotonic) -> Vec<PodChange> {
        let Some(listed) = self.listed.take() else {
            return Vec::new();
        };
        let mut gone: Vec<PodUid> = self.live().map(|pod| pod.uid).collect();
        gone.retain(|uid| !listed.contains(uid));
        gone.sort_unstable();
        let mut changes: Vec<PodChange> =
            gone.into_iter().flat_map(|uid| self.delete(uid, now)).collect();
        if !mem::replace(&mut self.synced, true) {
            changes.push(PodChange::Synced);
        }
        changes
    }

    fn forget(&mut self, uid: PodUid) -> Option<Pod> {
        let record = self.pods.remove(&uid)?;
        self.size = self.size.saturating_sub(room::size(&record.pod));
        if let Some(hash) = record.pod.config_hash
            && let Some(mirrors) = self.mirrors.get_mut(&hash)
        {
            mirrors.retain(|mirror| *mirror != uid);
            if mirrors.is_empty() {
                self.mirrors.remove(&hash);
            }
        }
        Some(record.pod)
    }
}

/// The only one that is there; if none is, the one that was deleted last.
fn only<'a>(records: impl Iterator<Item = &'a Record> + Clone) -> Option<&'a Record> {
    let mut there = records.clone().filter(|record| record.deleted_at.is_none());
    match (there.next(), there.next()) {
        (Some(only), None) => Some(only),
        (Some(_), Some(_)) => None,
        (None, _) => records.max_by_key(|record| record.deleted_at),
    }
}

impl Record {
    fn resolved(&self, id: Option<ContainerId>) -> Resolved<'_> {
        let container = id.and_then(|id| self.container(id));
        Resolved { pod: &self.pod, container }
    }

    fn container(&self, id: ContainerId) -> Option<&Container> {
        let now = self.pod.containers.iter().find(|container| container.ids().any(|its| its == id));
        now.or_else(|| {
            let (_, name) = self.past.iter().find(|(past, _)| *past == id)?;
            self.pod.container(name)
        })
    }

    /// Keeps the newest ids that the status no longer names.
    fn remember_past(&mut self, old: &Pod) {
        for container in &old.containers {
            for id in container.ids() {
                if self.container(id).is_none() {
                    self.past.push_back((id, container.name.clone()));
                }
            }
        }
        let excess = self.past.len().saturating_sub(MAX_PAST);
        self.past.drain(..excess);
    }
}

#[cfg(test)]
mod tests;
