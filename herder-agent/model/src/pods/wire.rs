//! A Pod as the API server writes it, and of that only the fields in use: what
//! is not named here is skipped while it is read and never takes memory.
//!
//! Nothing but broken JSON is an error here. A server newer than this agent may
//! leave out or add what it likes.

use super::{
    Container, ContainerKind, MOST_CONTAINERS, OOM_GROUP_ANNOTATION, Pod, Termination, bounded,
    quantity, restarts::Reason, shortened,
};
use crate::owner::id::{ContainerId, PodUid};
use jiff::Timestamp;
use serde::{Deserialize, de::IgnoredAny};
use std::collections::{BTreeMap, HashMap};

/// A v1 Pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodObject {
    /// `kind`, which the items of a list do not have.
    pub kind: Option<Box<str>>,
    /// `metadata`.
    pub metadata: Metadata,
    spec: Option<Spec>,
    status: Option<Status>,
}

/// Its `metadata`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    /// `name`.
    pub name: Option<Box<str>>,
    /// `namespace`.
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
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
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
    init_container_statuses: Option<Vec<ContainerStatus>>,
    container_statuses: Option<Vec<ContainerStatus>>,
    ephemeral_container_statuses: Option<Vec<ContainerStatus>>,
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
        let status = self.status.unwrap_or_default();
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
        let mut spec = self.spec.unwrap_or_default();
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
            more_containers: containers.len() > MOST_CONTAINERS,
            containers: containers.into_iter().take(MOST_CONTAINERS).collect(),
            memory_limit: memory_limit(resources),
        })
    }
}

impl Annotations {
    /// The uid of the static pod whose mirror this is (`CreateMirrorPod()`,
    /// pkg/kubelet/pod/mirror_client.go).
    ///
    /// Anybody may give a pod both annotations, so that alone proves nothing. But the
    /// kubelet runs no pod that has them, and acknowledges in the status, which nobody
    /// else may write, only what has name, namespace and hash of a static pod.
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
        memory_limit: memory_limit(status.resources).or_else(|| memory_limit(spec.resources)),
        completed: kind == ContainerKind::Init && ended.is_some_and(|ended| ended.exit_code == 0),
    }
}

fn memory_limit(resources: Option<Resources>) -> Option<u64> {
    quantity::bytes(&resources?.limits?.memory?)
}

/// The annotation has to be spelled out for serde.
const _: () = assert!(matches!(OOM_GROUP_ANNOTATION.as_bytes(), b"herder.dev/oom-group"));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::LARGEST_LABELS;
    use serde_json::{Value, json};

    const UID: &str = "2c39abf0-f543-4c05-8cfe-3839410aef01";

    fn trim(object: Value) -> Option<Pod> {
        serde_json::from_value::<PodObject>(object).unwrap().trim()
    }

    /// A pod with one container of this list, and the status of it.
    fn container(list: &str, spec: &Value, status: &Value) -> Container {
        let statuses = match list {
            "initContainers" => "initContainerStatuses",
            "containers" => "containerStatuses",
            _ => "ephemeralContainerStatuses",
        };
        let pod = trim(json!({
            "metadata": { "name": "a", "namespace": "b", "uid": UID },
            "spec": { list: [spec] },
            "status": { statuses: [status] },
        }));
        pod.unwrap().containers[0].clone()
    }

    #[test]
    fn all_kinds_of_containers_are_read() {
        let id = "51c89318749f37429d5fa724d212f00472bced49ff32a7674085aba73d1992eb";
        let table = [
            ("initContainers", json!({}), ContainerKind::Init),
            ("initContainers", json!({ "restartPolicy": "Always" }), ContainerKind::Sidecar),
            ("containers", json!({}), ContainerKind::Regular),
            ("ephemeralContainers", json!({}), ContainerKind::Ephemeral),
        ];
        for (list, mut spec, kind) in table {
            spec["name"] = "x".into();
            let status = json!({
                "name": "x", "restartCount": 2, "containerID": format!("cri-o://{id}"),
            });
            let container = container(list, &spec, &status);
            assert_eq!((container.kind, container.restarts), (kind, 2));
            assert_eq!(container.id, ContainerId::parse(id), "{list}");
        }
    }

    /// Pod-level resources: what the pod has as a whole, beside its containers.
    #[test]
    fn the_limit_of_the_pod_itself_is_read() {
        let table = [
            (json!({ "limits": { "memory": "128Mi" } }), Some(128 << 20)),
            (json!({ "limits": { "cpu": "1" } }), None),
            (json!({ "requests": { "memory": "128Mi" } }), None),
            (Value::Null, None),
        ];
        for (resources, expected) in table {
            let pod = trim(json!({
                "metadata": { "name": "a", "namespace": "b", "uid": UID },
                "spec": { "resources": resources, "containers": [
                    { "name": "x", "resources": { "limits": { "memory": "64Mi" } } }
                ] },
            }));
            let pod = pod.unwrap();
            assert_eq!(
                (pod.memory_limit, pod.containers[0].memory_limit),
                (expected, Some(64 << 20))
            );
        }
    }

    #[test]
    fn the_limit_that_holds_is_the_one_of_the_status() {
        let limit = |memory: &str| json!({ "limits": { "memory": memory } });
        let table = [
            (limit("64Mi"), limit("32Mi"), Some(32 << 20)),
            (limit("64Mi"), Value::Null, Some(64 << 20)),
            (limit("64Mi"), json!({}), Some(64 << 20)),
            (json!({ "limits": { "cpu": "1" } }), Value::Null, None),
            (Value::Null, Value::Null, None),
            (limit("much"), Value::Null, None),
        ];
        for (spec, status, expected) in table {
            let container = container(
                "containers",
                &json!({ "name": "x", "resources": spec }),
                &json!({ "name": "x", "resources": status }),
            );
            assert_eq!(container.memory_limit, expected);
        }
    }

    #[test]
    fn what_a_server_leaves_out_is_no_error() {
        let metadata = json!({ "name": "a", "namespace": "b", "uid": UID });
        for object in [
            json!({ "metadata": metadata }),
            json!({ "metadata": metadata, "spec": {}, "status": {} }),
            json!({ "metadata": metadata, "spec": null, "status": null }),
            json!({ "metadata": metadata, "spec": { "containers": null }, "new": [1] }),
        ] {
            assert_eq!(trim(object).unwrap().containers.len(), 0);
        }
        for object in [
            json!({}),
            json!({ "metadata": { "name": "a", "namespace": "b" } }),
            json!({ "metadata": { "name": "a", "namespace": "b", "uid": "odd" } }),
            json!({ "metadata": { "name": "a", "uid": UID } }),
        ] {
            assert_eq!(trim(object), None);
        }
    }

    #[test]
    fn labels_are_kept_up_to_a_size_or_not_at_all() {
        let labels = |count: usize, length: usize| -> Value {
            (0..count).map(|number| (number.to_string(), Value::from("v".repeat(length)))).collect()
        };
        let table = [
            ("none", json!({}), Some(0)),
            ("null", Value::Null, Some(0)),
            ("as many as a pod may well have", labels(60, 63), Some(60)),
            ("too long", labels(300, 63), None),
            ("one that is too long", labels(1, LARGEST_LABELS), None),
            ("very many short ones", labels(1000, 0), None),
        ];
        for (case, labels, kept) in table {
            let pod = trim(json!({ "metadata": {
                "name": "a", "namespace": "b", "uid": UID, "labels": labels,
            } }));
            let found = pod.unwrap().labels.map(|labels| labels.len());
            assert_eq!(found, kept, "{case}");
        }
    }

    #[test]
    fn containers_are_kept_up_to_a_number() {
        for (count, kept, more) in [
            (1, 1, false),
            (MOST_CONTAINERS, MOST_CONTAINERS, false),
            (2000, MOST_CONTAINERS, true),
        ] {
            let containers: Vec<_> =
                (0..count).map(|number| json!({ "name": format!("c{number}") })).collect();
            let pod = trim(json!({
                "metadata": { "name": "a", "namespace": "b", "uid": UID },
                "spec": { "containers": containers },
            }));
            let pod = pod.unwrap();
            assert_eq!((pod.containers.len(), pod.more_containers), (kept, more), "{count}");
        }
    }

    #[test]
    fn annotations_in_use_are_read_and_others_are_not() {
        let pod = trim(json!({ "metadata": {
            "name": "a", "namespace": "b", "uid": UID,
            "labels": { "z": "1", "app": "x" },
            "annotations": {
                OOM_GROUP_ANNOTATION: "worker=group",
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
            },
        } }));
        let pod = pod.unwrap();
        assert_eq!(pod.oom_group.as_deref(), Some("worker=group"));
        assert_eq!((pod.label("app"), pod.label("b")), (Some("x"), None));
        assert_eq!(pod.label("z"), Some("1"));
    }

    /// Anybody who may make pods can give one any annotation.
    #[test]
    fn only_what_the_kubelet_acknowledged_is_a_mirror() {
        const HASH: &str = "ca0757b5d25d60b3db9d57dce6d10c2d";
        let id = format!("containerd://{}", "5f".repeat(32));
        let started = json!({ "startTime": "2026-11-23T23:54:36Z" });
        let running = json!({ "containerStatuses": [{ "name": "x", "containerID": id }] });
        let waiting = json!({ "phase": "Pending", "containerStatuses": [{ "name": "x" }] });
        let annotated = |hash: &str, mirror: &str| {
            json!({
                "kubernetes.io/config.hash": hash, "kubernetes.io/config.mirror": mirror,
                "kubernetes.io/config.source": "file",
            })
        };
        let table = [
            ("a mirror", annotated(HASH, HASH), &started, Some(HASH)),
            ("one that runs", annotated(HASH, HASH), &running, Some(HASH)),
            ("of a pod with a UUID", annotated(UID, UID), &started, Some(UID)),
            ("of a pod with a word", annotated("etcd", "etcd"), &started, Some("etcd")),
            ("not acknowledged", annotated(HASH, HASH), &waiting, None),
            ("not acknowledged, no status", annotated(HASH, HASH), &Value::Null, None),
            ("another mirror", annotated(HASH, UID), &started, None),
            ("no hash", json!({ "kubernetes.io/config.mirror": HASH }), &started, None),
            ("no mirror", json!({ "kubernetes.io/config.hash": HASH }), &running, None),
            ("no uid of a cgroup", annotated("a/b", "a/b"), &started, None),
            ("empty", annotated("", ""), &started, None),
        ];
        for (case, annotations, status, expected) in table {
            let pod = trim(json!({
                "metadata": { "name": "a", "namespace": "b", "uid": UID, "annotations": annotations },
                "spec": { "containers": [{ "name": "x" }] },
                "status": status,
            }));
            assert_eq!(pod.unwrap().config_hash, expected.and_then(PodUid::parse_any), "{case}");
        }
    }

    #[test]
    fn only_an_init_container_that_ended_well_is_completed() {
        let ended = |code: i32| json!({ "terminated": { "exitCode": code } });
        let table = [
            ("initContainers", Value::Null, ended(0), true),
            ("initContainers", Value::Null, ended(1), false),
            ("initContainers", Value::Null, json!({ "running": {} }), false),
            ("initContainers", Value::Null, Value::Null, false),
            ("initContainers", "Always".into(), ended(0), false),
            ("containers", Value::Null, ended(0), false),
        ];
        for (list, policy, state, expected) in table {
            let spec = json!({ "name": "x", "restartPolicy": policy });
            let container = container(list, &spec, &json!({ "name": "x", "state": state }));
            assert_eq!(container.completed, expected, "{list} {policy} {state}");
        }
    }
}
