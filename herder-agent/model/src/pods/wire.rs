//! A Pod as the API server writes it, and of that only the fields in use: what
//! is not named here is skipped while it is read and never takes memory.
//!
//! Nothing but broken JSON is an error here. A server newer than this agent may
//! leave out or add what it likes.

use super::{
    Container, ContainerKind, MOST_CONTAINERS, OOM_ESCALATE_ANNOTATION, OOM_GROUP_ANNOTATION, Pod,
    Termination, addresses::Addresses, bounded, quantity, restarts::Reason, shortened,
};
use crate::owner::id::{ContainerId, PodUid};
use jiff::Timestamp;
use serde::{Deserialize, de::IgnoredAny};
use std::{
    collections::{BTreeMap, HashMap},
    num::NonZero,
};

/// A v1 Pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodObject {
    /// `kind`, which the items of a list do not have.
    pub kind: Option<Box<str>>,
    pub metadata: Metadata,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    pub name: Option<Box<str>>,
    pub namespace: Option<Box<str>>,
    /// `resourceVersion`, opaque.
    pub resource_version: Option<String>,
    uid: Option<String>,
    labels: Option<BTreeMap<Box<str>, Box<str>>>,
    annotations: Option<Annotations>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "kubernetes.io/config.hash")]
    config_hash: Option<String>,
    #[serde(rename = "kubernetes.io/config.mirror")]
    config_mirror: Option<String>,
    #[serde(rename = "herder.dev/oom-group")]
    oom_group: Option<Box<str>>,
    #[serde(rename = "herder.dev/oom-escalate")]
    oom_escalate: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    host_network: Option<bool>,
    resources: Option<Resources>,
    init_containers: Option<Vec<ContainerSpec>>,
    containers: Option<Vec<ContainerSpec>>,
    ephemeral_containers: Option<Vec<ContainerSpec>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerSpec {
    name: Box<str>,
    restart_policy: Option<String>,
    resources: Option<Resources>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resources {
    limits: Option<Limits>,
    requests: Option<Limits>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Limits {
    memory: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    start_time: Option<IgnoredAny>,
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<Ip>>,
    #[serde(rename = "hostIP")]
    host_ip: Option<String>,
    #[serde(rename = "hostIPs")]
    host_ips: Option<Vec<Ip>>,
    init_container_statuses: Option<Vec<ContainerStatus>>,
    container_statuses: Option<Vec<ContainerStatus>>,
    ephemeral_container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ip {
    ip: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerStatus {
    name: Box<str>,
    #[serde(rename = "containerID")]
    container_id: Option<String>,
    restart_count: i64,
    state: Option<State>,
    last_state: Option<State>,
    resources: Option<Resources>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct State {
    terminated: Option<Terminated>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Terminated {
    exit_code: i32,
    reason: Option<String>,
    finished_at: Option<String>,
    #[serde(rename = "containerID")]
    container_id: Option<String>,
}

impl PodObject {
    /// The pod as the agent keeps it; none without a name, a namespace, and a
    /// uid, which no server leaves out.
    pub fn trim(self) -> Option<Pod> {
        let metadata = self.metadata;
        let annotations = metadata.annotations.unwrap_or_default();
        let mut spec = self.spec.unwrap_or_default();
        let status = self.status.unwrap_or_default();
        let addresses = status.addresses(spec.host_network == Some(true));
        let statuses: HashMap<Box<str>, ContainerStatus> = [
            status.init_container_statuses,
            status.container_statuses,
            status.ephemeral_container_statuses,
        ]
        .into_iter()
        .flatten()
        .flatten()
        .map(|status| (status.name.clone(), status))
        .collect();
        let resources = spec.resources.take();
        let containers = trim_containers(spec, statuses);
        let acknowledged = status.start_time.is_some()
            || containers.iter().any(|container| container.id.is_some());
        Some(Pod {
            uid: PodUid::parse(&metadata.uid?)?,
            config_hash: annotations.mirrored().filter(|_| acknowledged),
            namespace: metadata.namespace?,
            name: metadata.name?,
            labels: bounded(metadata.labels.unwrap_or_default()),
            oom_group: annotations.oom_group.as_deref().map(shortened),
            oom_escalate: annotations.oom_escalate.as_deref().map(shortened),
            more_containers: containers.len() > MOST_CONTAINERS,
            containers: containers.into_iter().take(MOST_CONTAINERS).collect(),
            memory_limit: memory_limit(resources.as_ref()),
            addresses,
        })
    }
}

impl Status {
    fn addresses(&self, on_host: bool) -> Addresses {
        // Its network is torn down, and the status keeps what it had.
        if matches!(self.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return Addresses::default();
        }
        fn all<'a>(
            one: Option<&'a str>,
            more: Option<&'a Vec<Ip>>,
        ) -> impl Iterator<Item = &'a str> + Clone {
            let more = more.into_iter().flatten().filter_map(|it| it.ip.as_deref());
            // The first of the list is the one that servers have always had.
            more.clone().chain(one.filter(move |one| more.clone().all(|other| other != *one)))
        }
        let pods = all(self.pod_ip.as_deref(), self.pod_ips.as_ref());
        Addresses::new(pods, &all(self.host_ip.as_deref(), self.host_ips.as_ref()), on_host)
    }
}

impl Annotations {
    /// The uid of the static pod whose mirror this is (`CreateMirrorPod()`,
    /// pkg/kubelet/pod/mirror_client.go).
    ///
    /// Any client may give a pod both annotations, so that alone proves nothing. But the kubelet
    /// runs no pod that has them, and acknowledges in the status, which nothing else may write,
    /// only what has name, namespace and hash of a static pod.
    fn mirrored(&self) -> Option<PodUid> {
        let hash = self.config_hash.as_ref()?;
        let is_mirror = self.config_mirror.as_ref() == Some(hash);
        PodUid::parse_any(hash).filter(|_| is_mirror)
    }
}

fn trim_containers(spec: Spec, mut statuses: HashMap<Box<str>, ContainerStatus>) -> Vec<Container> {
    let init = spec.init_containers.unwrap_or_default().into_iter();
    let init = init.map(|container| match container.restart_policy.as_deref() {
        Some("Always") => (ContainerKind::Sidecar, container),
        _ => (ContainerKind::Init, container),
    });
    let regular = spec.containers.unwrap_or_default().into_iter();
    let ephemeral = spec.ephemeral_containers.unwrap_or_default().into_iter();
    init.chain(regular.map(|container| (ContainerKind::Regular, container)))
        .chain(ephemeral.map(|container| (ContainerKind::Ephemeral, container)))
        .map(|(kind, container)| {
            let status = statuses.remove(&container.name).unwrap_or_default();
            trim_container(kind, container, status)
        })
        // One more shows that there are more.
        .take(MOST_CONTAINERS + 1)
        .collect()
}

fn trim_container(kind: ContainerKind, spec: ContainerSpec, status: ContainerStatus) -> Container {
    let id = |text: Option<String>| text.and_then(|text| ContainerId::parse_status(&text));
    let last_terminated = status.last_state.and_then(|state| state.terminated);
    let ended = status.state.and_then(|state| state.terminated);
    let both = |of: fn(Option<&Resources>) -> Option<u64>| {
        of(status.resources.as_ref()).or_else(|| of(spec.resources.as_ref()))
    };
    Container {
        name: spec.name,
        kind,
        id: id(status.container_id),
        restarts: u32::try_from(status.restart_count).unwrap_or_default(),
        last_terminated: last_terminated.map(|ended| Termination {
            reason: Reason::parse(&ended.reason.unwrap_or_default()),
            exit_code: ended.exit_code,
            finished_at: ended.finished_at.and_then(|time| time.parse::<Timestamp>().ok()),
            id: id(ended.container_id),
        }),
        // After a resize in place the status says what holds, not the spec.
        memory_request: both(memory_request).and_then(NonZero::new),
        memory_limit: both(memory_limit),
        completed: kind == ContainerKind::Init && ended.is_some_and(|ended| ended.exit_code == 0),
    }
}

fn memory_limit(resources: Option<&Resources>) -> Option<u64> {
    quantity::bytes(resources?.limits.as_ref()?.memory.as_ref()?)
}

fn memory_request(resources: Option<&Resources>) -> Option<u64> {
    quantity::bytes(resources?.requests.as_ref()?.memory.as_ref()?)
}

/// The annotations have to be spelled out for serde.
const _: () = assert!(matches!(OOM_GROUP_ANNOTATION.as_bytes(), b"herder.dev/oom-group"));
const _: () = assert!(matches!(OOM_ESCALATE_ANNOTATION.as_bytes(), b"herder.dev/oom-escalate"));

#[cfg(test)]
mod tests;
