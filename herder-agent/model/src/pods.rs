//! The pods of this node: what the API server says about them, trimmed to what
//! the agent uses.
//!
//! herder-agent's `kubernetes::pods` is the edge: it follows the API server and sends
//! [`Event`]s. The core, which owns the [`store::PodStore`], applies them and acts on the changes
//! that come out. A pod is kept as a [`Pod`] of some hundred bytes; the object
//! as the server sends it is ten times that and never kept.

pub mod addresses;
pub mod current;
pub mod quantity;
pub mod restarts;
pub mod store;
pub mod wire;

use crate::owner::{
    ContainerNames,
    id::{ContainerId, PodUid},
};
use addresses::Addresses;
use jiff::Timestamp;
use std::{collections::BTreeMap, mem::size_of, num::NonZero};
use store::room;

/// The annotation by which a pod asks for its own `memory.oom.group`.
pub const OOM_GROUP_ANNOTATION: &str = "herder.dev/oom-group";

/// The annotation by which a pod asks for what follows when processes of a container keep dying.
pub const OOM_ESCALATE_ANNOTATION: &str = "herder.dev/oom-escalate";

/// So much of a pod's labels is kept, bytes; of a pod with more, none are.
///
/// The API server has no limit for them but that of the whole object, some MiB. Any client that may
/// make pods could fill the agent's memory with that.
pub const LARGEST_LABELS: usize = 16 * 1024;

/// So many containers of a pod are kept. A kubelet runs far fewer. But the node's list also has
/// pods that the kubelet will never run, and an object of some MiB has room for many thousands of
/// names.
pub const MOST_CONTAINERS: usize = 1000;

/// So much of [`OOM_GROUP_ANNOTATION`] is read, bytes: names of some hundred containers. Any client
/// that may make a pod chooses it, and it is read for each of the pod's cgroups.
pub const LONGEST_ANNOTATION: usize = 4096;

/// Labels, by key.
pub type Labels = Box<[(Box<str>, Box<str>)]>;

/// What the watch says, in the order in which it is to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A full list begins: until [`Event::Listed`], what is applied is in it.
    ListStarted,
    /// A pod is there, new or changed.
    Applied(Box<Pod>),
    Deleted(PodUid),
    /// The list is complete: a pod that was not in it is gone.
    Listed,
}

/// A pod, as far as the agent uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub uid: PodUid,
    /// The uid in the cgroup path, if that is another: that of the static pod which
    /// this one mirrors, once the kubelet has acknowledged it.
    pub config_hash: Option<PodUid>,
    pub namespace: Box<str>,
    pub name: Box<str>,
    /// `metadata.labels`, by key; none if they are more than [`LARGEST_LABELS`].
    pub labels: Option<Labels>,
    /// The value of [`OOM_GROUP_ANNOTATION`], not yet understood.
    pub oom_group: Option<Box<str>>,
    /// The value of [`OOM_ESCALATE_ANNOTATION`], not yet understood.
    pub oom_escalate: Option<Box<str>>,
    /// Its containers of all kinds, at most [`MOST_CONTAINERS`].
    pub containers: Box<[Container]>,
    /// Some containers are left out: kills in them are reported by their cgroup.
    pub more_containers: bool,
    /// The memory limit of the pod as a whole in bytes, if its spec has one (pod-level
    /// resources), and not only its containers.
    pub memory_limit: Option<u64>,
    pub addresses: Addresses,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its name, unique in the pod over all kinds.
    pub name: Box<str>,
    pub kind: ContainerKind,
    /// Its newest incarnation, once the status knows one.
    pub id: Option<ContainerId>,
    /// `restartCount` of the status; 0 while there is none.
    pub restarts: u32,
    /// How the incarnation before the newest ended.
    pub last_terminated: Option<Termination>,
    /// Its memory limit in bytes, if it has one.
    pub memory_limit: Option<u64>,
    /// The memory in bytes that it requests, if it does.
    pub memory_request: Option<NonZero<u64>>,
    /// It ran to its end and is not started again: an init container that ended well.
    pub completed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ContainerKind {
    /// Runs to its end before the others start.
    Init,
    /// An init container with `restartPolicy: Always`.
    Sidecar,
    /// One of `spec.containers`.
    Regular,
    /// Added to a running pod for debugging.
    Ephemeral,
}

/// How an incarnation of a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Termination {
    pub reason: restarts::Reason,
    /// Exit code, 137 for a SIGKILL.
    pub exit_code: i32,
    /// When, to the second.
    pub finished_at: Option<Timestamp>,
    pub id: Option<ContainerId>,
}

impl Pod {
    /// One of which no more is known than its names.
    pub fn named(uid: PodUid, namespace: &str, name: &str) -> Self {
        Pod {
            uid,
            config_hash: None,
            namespace: namespace.into(),
            name: name.into(),
            labels: None,
            oom_group: None,
            oom_escalate: None,
            containers: Box::default(),
            more_containers: false,
            memory_limit: None,
            addresses: Addresses::default(),
        }
    }

    /// The value of a label that is kept.
    pub fn label(&self, key: &str) -> Option<&str> {
        let labels = self.labels.as_ref()?;
        let at = labels.binary_search_by(|(name, _)| name.as_ref().cmp(key)).ok()?;
        labels.get(at).map(|(_, value)| value.as_ref())
    }

    /// The same with what rules and annotations are about, and no more.
    fn without_containers(&self) -> Self {
        Pod {
            config_hash: self.config_hash,
            labels: self.labels.clone(),
            oom_group: self.oom_group.clone(),
            oom_escalate: self.oom_escalate.clone(),
            ..Pod::named(self.uid, &self.namespace, &self.name)
        }
    }

    /// What it takes, bytes, about.
    pub fn size(&self) -> usize {
        room::size(self)
    }

    /// Its names alone, as if it had more labels than are kept.
    #[must_use]
    pub fn names_only(&self) -> Self {
        let mut pod = self.without_containers();
        room::names_only(&mut pod);
        pod
    }

    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name.as_ref() == name)
    }

    /// The uid that the pod's cgroups carry.
    pub fn cgroup_uid(&self) -> PodUid {
        self.config_hash.unwrap_or(self.uid)
    }

    /// The names of one of its containers, as labels.
    pub fn names(&self, container: &str) -> ContainerNames {
        ContainerNames {
            namespace: self.namespace.to_string(),
            pod: self.name.to_string(),
            container: container.to_owned(),
        }
    }
}

impl Container {
    /// The incarnations that the status names, the newest first.
    pub fn ids(&self) -> impl Iterator<Item = ContainerId> {
        let last = self.last_terminated.and_then(|ended| ended.id);
        self.id.into_iter().chain(last)
    }
}

/// Labels, if they are few enough to be kept. What a label takes beside its text
/// counts too: they may be very many very short ones.
pub fn bounded(labels: BTreeMap<Box<str>, Box<str>>) -> Option<Labels> {
    let size = bytes_of_labels(labels.iter().map(|(key, value)| (&**key, &**value)));
    (size <= LARGEST_LABELS).then(|| labels.into_iter().collect())
}

/// What labels take, bytes.
fn bytes_of_labels<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> usize {
    // The two pointers with their lengths, and as much for what malloc adds.
    const BESIDE: usize = 2 * size_of::<(Box<str>, Box<str>)>();
    labels.map(|(key, value)| key.len() + value.len() + BESIDE).sum()
}

/// As much of the annotation as shows that it is too long.
pub fn shortened(text: &str) -> Box<str> {
    let end = text.floor_char_boundary(LONGEST_ANNOTATION + 4);
    text.get(..end).unwrap_or_default().into()
}
