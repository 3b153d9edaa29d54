//! The pods of this node, as far as the agent needs to know them.
//!
//! Pure: what the API server tells comes in as [`PodEvent`]s, owned by the core.
//! A deleted pod keeps its names for a while, since its last kill is often told
//! after its deletion. Only `watch` talks to a server.

pub mod bundle;
pub mod watch;

use crate::attribution::{ContainerNames, path::PodCgroup};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a deleted pod can still be named.
const KEEP_DELETED: Duration = Duration::from_secs(300);

/// Most pods that are kept; a node has at most some hundreds.
const MOST_PODS: usize = 4096;

/// What the agent keeps of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// UID in the API.
    pub uid: String,
    /// What the cgroup of a static pod is named by (`kubernetes.io/config.hash`).
    pub config_hash: Option<String>,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels, for selectors.
    pub labels: BTreeMap<String, String>,
    /// The annotation `herder.dev/oom-group`.
    pub annotation: Option<String>,
    /// Containers of all kinds that have been made.
    pub containers: Vec<PodContainer>,
}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodContainer {
    /// Its name.
    pub name: String,
    /// Its ID at the runtime, without `containerd://`.
    pub id: Option<String>,
    /// How often it has been started again.
    pub restarts: u32,
    /// Why it ended last (`lastState.terminated.reason`).
    pub ended: Option<String>,
}

/// What the API server told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodEvent {
    /// A list begins: what it does not name is gone.
    ListBegin,
    /// A list has been told whole.
    ListEnd,
    /// A pod is there, or has changed.
    Applied(Pod),
    /// A pod was deleted; its UID.
    Deleted(String),
}

/// Containers that were started again since they were seen last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Which container.
    pub names: ContainerNames,
    /// Why it had ended; `Unknown` for those that were missed in between.
    pub reason: String,
    /// How often.
    pub times: u32,
}

#[derive(Debug)]
struct Kept {
    pod: Arc<Pod>,
    listed: bool,
    deleted: Option<Instant>,
}

/// The pods by UID and by container ID.
#[derive(Debug, Default)]
pub struct Pods {
    by_uid: HashMap<String, Kept>,
    by_hash: HashMap<String, String>,
    by_container: HashMap<String, (String, String)>,
    listing: bool,
}

impl Pods {
    /// Takes what was told. Gives the restarts that it shows.
    pub fn apply(&mut self, event: PodEvent, now: Instant) -> Vec<Restart> {
        match event {
            PodEvent::ListBegin => {
                self.listing = true;
                self.by_uid.values_mut().for_each(|kept| kept.listed = false);
            }
            PodEvent::ListEnd => {
                self.listing = false;
                let missing = self.by_uid.values_mut().filter(|kept| !kept.listed);
                missing.for_each(|kept| kept.deleted = kept.deleted.or(Some(now)));
            }
            PodEvent::Applied(pod) => return self.applied(pod, now),
            PodEvent::Deleted(uid) => {
                if let Some(kept) = self.by_uid.get_mut(&uid) {
                    kept.deleted.get_or_insert(now);
                }
            }
        }
        self.forget(now);
        Vec::new()
    }

    fn applied(&mut self, pod: Pod, now: Instant) -> Vec<Restart> {
        self.forget(now);
        if self.by_uid.len() >= MOST_PODS && !self.by_uid.contains_key(&pod.uid) {
            tracing::warn!(pod = pod.name, namespace = pod.namespace, "More pods than are kept.");
            return Vec::new();
        }
        // The first sight of a pod is where counting begins: what happened before
        // the agent started, or to a pod of the same name, is not told again.
        let before = self.by_uid.get(&pod.uid);
        let restarts = before.map_or_else(Vec::new, |kept| restarts(&kept.pod, &pod));
        if let Some(hash) = &pod.config_hash {
            self.by_hash.insert(hash.clone(), pod.uid.clone());
        }
        for container in &pod.containers {
            if let Some(id) = &container.id {
                self.by_container.insert(id.clone(), (pod.uid.clone(), container.name.clone()));
            }
        }
        let kept = Kept { pod: Arc::new(pod), listed: true, deleted: None };
        self.by_uid.insert(kept.pod.uid.clone(), kept);
        restarts
    }

    /// Forgets pods that were deleted long ago, and their containers.
    pub fn forget(&mut self, now: Instant) {
        let old = |kept: &Kept| {
            kept.deleted.is_some_and(|deleted| now.duration_since(deleted) >= KEEP_DELETED)
        };
        let before = self.by_uid.len();
        self.by_uid.retain(|_, kept| !old(kept));
        if self.by_uid.len() != before {
            self.by_hash.retain(|_, uid| self.by_uid.contains_key(uid));
            self.by_container.retain(|_, (uid, _)| self.by_uid.contains_key(uid));
        }
    }

    /// The pod of a cgroup, also for some time after its deletion.
    pub fn pod(&self, cgroup: &PodCgroup) -> Option<&Arc<Pod>> {
        let uid = self.by_hash.get(&cgroup.uid).unwrap_or(&cgroup.uid);
        self.by_uid.get(uid).map(|kept| &kept.pod)
    }

    /// The name of a container by its ID, if the status has told it.
    pub fn container_name(&self, id: &str) -> Option<&str> {
        self.by_container.get(id).map(|(_, name)| name.as_str())
    }

    /// Pods that are not deleted.
    pub fn len(&self) -> usize {
        self.by_uid.values().filter(|kept| kept.deleted.is_none()).count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the counts of two states of one pod show.
fn restarts(before: &Pod, after: &Pod) -> Vec<Restart> {
    let mut restarts = Vec::new();
    for now in &after.containers {
        let earlier = before.containers.iter().find(|container| container.name == now.name);
        let more =
            now.restarts.saturating_sub(earlier.map_or(now.restarts, |earlier| earlier.restarts));
        let names = || ContainerNames {
            namespace: after.namespace.clone(),
            pod: after.name.clone(),
            container: now.name.clone(),
        };
        if more > 0 {
            let reason = reason(now.ended.as_deref());
            restarts.push(Restart { names: names(), reason, times: 1 });
        }
        if more > 1 {
            restarts.push(Restart { names: names(), reason: "Unknown".into(), times: more - 1 });
        }
    }
    restarts
}

/// Reasons that the kubelet and the runtimes give; any other is one label value.
fn reason(ended: Option<&str>) -> String {
    const KNOWN: [&str; 7] = [
        "OOMKilled",
        "Error",
        "Completed",
        "ContainerCannotRun",
        "DeadlineExceeded",
        "ContainerStatusUnknown",
        "StartError",
    ];
    match ended {
        None => "Unknown".into(),
        Some(reason) => KNOWN.into_iter().find(|known| *known == reason).unwrap_or("Other").into(),
    }
}

#[cfg(test)]
mod tests;
