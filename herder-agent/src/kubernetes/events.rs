//! Kubernetes Events on pods: what `kubectl describe pod` shows of a kill.
//!
//! An [`Occurrence`] is handed to an [`send::EventQueue`], which never blocks. One task
//! correlates the occurrences as the kubelet does, and writes them to the API server. What it
//! cannot write is counted and dropped: the log and the metrics have it as well.

pub mod correlate;
pub mod gate;
pub mod message;
mod object;
mod recent;
pub mod send;
mod survivors;

pub use survivors::Survivors;

use herder_model::{
    kill::KillReport,
    oom::Kind,
    owner::id::PodUid,
    pods::{Container, ContainerKind, Pod},
};
use jiff::Timestamp;

/// Something that is to become an Event about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// The pod, and perhaps a container of it.
    pub about: About,
    pub reason: Reason,
    pub message: String,
    /// When it happened, which may be some time before it is known.
    pub time: Timestamp,
    /// The container whose processes are to be counted for the text, when the
    /// victim has had time to die.
    pub left: Option<Survivors>,
}

/// What an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct About {
    pub namespace: Box<str>,
    pub pod: Box<str>,
    /// The uid by which `kubectl describe` looks for Events: of a static pod that of its manifest,
    /// and not its mirror's (`PodDescriber.Describe()`, kubectl/pkg/describe/describe.go). The
    /// kubelet's own Events have the same.
    pub uid: PodUid,
    pub container: Option<(ContainerKind, Box<str>)>,
}

herder_model::labels! {
    /// The `reason` of an Event.
    pub enum Reason {
        /// A process died that is not the container's init.
        SubprocessOomKilled = "SubprocessOOMKilled",
        /// The container's init died, and the container with it.
        ContainerInitOomKilled = "ContainerInitOOMKilled",
        /// The kernel killed the container as a group.
        ContainerGroupOomKilled = "ContainerGroupOOMKilled",
        /// The container ended after one of its processes was killed.
        ContainerEndedAfterOomKill = "ContainerEndedAfterOOMKill",
        /// A rule's value is now enforced for the container.
        OomGroupEnforced = "OomGroupEnforced",
        /// Something keeps changing the value back.
        OomGroupReverted = "OomGroupReverted",
        /// A rule matches, but its value is not enforceable.
        OomGroupNotEnforceable = "OomGroupNotEnforceable",
        /// Its processes kept dying, and its rule's escalation was carried out.
        OomKillsEscalated = "OOMKillsEscalated",
        /// The same, and it could not be.
        OomEscalationFailed = "OOMEscalationFailed",
        /// The container's init was exempt from OOM kills, and is no longer although its rule asks
        /// for it.
        OomProtectionEnded = "OOMProtectionEnded",
        /// The container's init is exempt from OOM kills, and cannot be given its own value back.
        OomProtectionNotRemoved = "OOMProtectionNotRemoved",
        /// The pod's annotation is invalid; the pod is left alone.
        BadOomGroupAnnotation = "BadOomGroupAnnotation",
    }
}

impl Occurrence {
    /// Something that happens now.
    pub fn new(about: About, reason: Reason, message: String) -> Self {
        Occurrence { about, reason, message, time: Timestamp::now(), left: None }
    }
}

impl About {
    /// A pod, and perhaps a container of it.
    pub fn new(pod: &Pod, container: Option<&Container>) -> Self {
        About {
            namespace: pod.namespace.clone(),
            pod: pod.name.clone(),
            uid: pod.cgroup_uid(),
            container: container.map(|container| (container.kind, container.name.clone())),
        }
    }

    /// Where in the pod the container is, as the kubelet writes it
    /// (`fieldPath()`, pkg/kubelet/container/ref.go).
    pub fn field_path(&self) -> Option<String> {
        let (kind, name) = self.container.as_ref()?;
        let list = match kind {
            ContainerKind::Init | ContainerKind::Sidecar => "initContainers",
            ContainerKind::Regular => "containers",
            ContainerKind::Ephemeral => "ephemeralContainers",
        };
        Some(format!("spec.{list}{{{name}}}"))
    }
}

impl Reason {
    pub fn of_kill(report: &KillReport) -> Self {
        match report.kind {
            Kind::Init => Reason::ContainerInitOomKilled,
            Kind::Group if report.ends => Reason::ContainerGroupOomKilled,
            Kind::Subprocess | Kind::Group => Reason::SubprocessOomKilled,
        }
    }

    pub fn event_type(self) -> &'static str {
        match self {
            Reason::OomGroupEnforced => "Normal",
            _ => "Warning",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use herder_model::pods::wire::PodObject;
    use serde::Deserialize;

    #[test]
    fn an_event_of_a_static_pod_is_found_by_the_uid_of_its_manifest() {
        #[derive(Deserialize)]
        struct List {
            items: Vec<PodObject>,
        }
        let raw = include_str!("../../tests/fixtures/k8s-wire/list-pods-node-1-mixed.body");
        let list: List = serde_json::from_str(raw).unwrap();
        let pods: Vec<_> = list.items.into_iter().filter_map(PodObject::trim).collect();
        let uid = |name: &str| {
            let pod = pods.iter().find(|pod| &*pod.name == name).unwrap();
            About::new(pod, None).uid.to_string()
        };
        assert_eq!(uid("static-node-1"), "ca0757b5d25d60b3db9d57dce6d10c2d");
        assert_eq!(uid("guaranteed"), "9bf8d537-a472-439b-ae40-17024ddb8ed1");
    }
}
