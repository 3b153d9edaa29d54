//! How much is kept of all pods together.
//!
//! Any client that may make pods can bind any number of them to a node by its name. The kubelet
//! refuses what does not fit there, but the node's list has them until they are deleted. So there is
//! a bound, and pods that have cgroups come before those that have none.

use super::{Pod, PodChange, PodStore, Record};
use crate::{owner::id::PodUid, pods::bytes_of_labels};
use std::mem;

/// Bytes, about; 250 pods with four containers and usual labels take 0.5 MiB.
pub(in crate::pods) const MOST: usize = 8 << 20;

/// What malloc and a hash table add to each piece.
const BESIDE: usize = 32;

/// What a pod takes, bytes, about.
pub(in crate::pods) fn size(pod: &Pod) -> usize {
    let text = |text: &Option<Box<str>>| text.as_deref().map_or(0, str::len);
    let containers = pod.containers.iter();
    let containers =
        containers.map(|it| mem::size_of_val(it) + it.name.len() + BESIDE).sum::<usize>();
    mem::size_of::<Record>()
        + 4 * BESIDE
        + pod.namespace.len()
        + pod.name.len()
        + pod.labels.as_ref().map_or(0, |labels| {
            bytes_of_labels(labels.iter().map(|(key, value)| (&**key, &**value)))
        })
        + text(&pod.oom_group)
        + text(&pod.oom_escalate)
        + containers
}

/// How much of a pod there is room for.
pub(super) enum Room {
    All,
    /// Only for its names: it is as if it had more labels and containers than are kept.
    Names,
    None,
}

impl PodStore {
    /// Makes room for a pod, new or changed, at the cost of those without cgroups if it has some.
    pub(super) fn make_room(&mut self, pod: &mut Pod) -> Room {
        let before = self.pods.get(&pod.uid).map_or(0, |record| size(&record.pod));
        let others = self.size.saturating_sub(before);
        if others + size(pod) <= self.most {
            return Room::All;
        }
        let is_running = self.running.contains(&pod.cgroup_uid());
        let idle = |uid: &PodUid, record: &Record| {
            *uid != pod.uid && !self.running.contains(&record.pod.cgroup_uid())
        };
        let mut idle: Vec<PodUid> = self
            .pods
            .iter()
            .filter(|(uid, record)| is_running && idle(uid, record))
            .map(|(uid, _)| *uid)
            .collect();
        let fits =
            |store: &Self, pod: &Pod| store.size.saturating_sub(before) + size(pod) <= store.most;
        for uid in &idle {
            if fits(self, pod) {
                return Room::All;
            }
            let Some(record) = self.pods.get_mut(uid) else { continue };
            let whole = size(&record.pod);
            names_only(&mut record.pod);
            self.size = self.size.saturating_sub(whole - size(&record.pod));
        }
        if fits(self, pod) {
            return Room::All;
        }
        names_only(pod);
        while !fits(self, pod) {
            let Some(uid) = idle.pop() else { return Room::None };
            if let Some(forgotten) = self.forget(uid) {
                self.claims.remove(&forgotten);
            }
        }
        Room::Names
    }

    /// There was, or is, no room for all. Says so once, until there is much again.
    pub(super) fn note_room(&mut self, room: &Room) -> Option<PodChange> {
        if self.size < self.most / 2 {
            self.is_full = false;
        }
        let is_full = !matches!(room, Room::All);
        (is_full && !mem::replace(&mut self.is_full, true)).then_some(PodChange::Full)
    }
}

/// Leaves the names of a pod.
pub(in crate::pods) fn names_only(pod: &mut Pod) {
    pod.labels = None;
    (pod.oom_group, pod.oom_escalate) = (None, None);
    pod.more_containers |= !pod.containers.is_empty();
    pod.containers = Box::default();
}

/// What of a pod is too much to keep, and was not before.
pub(super) fn left_out(before: Option<&Pod>, pod: &Pod) -> impl Iterator<Item = PodChange> {
    let labels = pod.labels.is_none() && before.is_none_or(|before| before.labels.is_some());
    let containers = pod.more_containers && before.is_none_or(|before| !before.more_containers);
    let labels = labels.then_some(PodChange::LabelsLeftOut(pod.uid));
    labels.into_iter().chain(containers.then_some(PodChange::ContainersLeftOut(pod.uid)))
}

/// Whether this says that one pod has too much.
pub(super) fn is_left_out(change: &PodChange) -> bool {
    matches!(change, PodChange::LabelsLeftOut(_) | PodChange::ContainersLeftOut(_))
}
