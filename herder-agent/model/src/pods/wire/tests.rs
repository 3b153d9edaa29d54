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
        assert_eq!((pod.memory_limit, pod.containers[0].memory_limit), (expected, Some(64 << 20)));
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
        assert_eq!(container.memory_request, None);
    }
    let requests = |memory: &str| json!({ "requests": { "memory": memory } });
    let container = container(
        "containers",
        &json!({ "name": "x", "resources": requests("64Mi") }),
        &json!({ "name": "x", "resources": requests("32Mi") }),
    );
    assert_eq!(container.memory_request.map(std::num::NonZero::get), Some(32 << 20));
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
    for (count, kept, more) in
        [(1, 1, false), (MOST_CONTAINERS, MOST_CONTAINERS, false), (2000, MOST_CONTAINERS, true)]
    {
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

/// Any client that may make pods can give one any annotation.
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

/// Servers before 1.16 have only the first.
#[test]
fn addresses_are_those_of_a_pod_that_runs_bounded_in_number() {
    let pod = |spec: Value, status: Value| {
        let metadata = json!({ "name": "a", "namespace": "b", "uid": UID });
        trim(json!({ "metadata": metadata, "spec": spec, "status": status })).unwrap().addresses
    };
    let many: Vec<_> = (1..9).map(|last| json!({ "ip": format!("10.0.0.{last}") })).collect();
    let table = [
        (json!({}), vec![]),
        (json!({ "podIP": null, "podIPs": null, "hostIP": null, "hostIPs": null }), vec![]),
        (json!({ "podIP": "10.0.0.1" }), vec!["10.0.0.1"]),
        (
            json!({ "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }] }),
            vec!["10.0.0.1", "fd00::1"],
        ),
        (
            json!({ "podIPs": [{}, { "ip": null }, { "ip": "x" }, { "ip": "fd00::1" }] }),
            vec!["fd00::1"],
        ),
        (json!({ "podIPs": many }), vec!["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]),
        (json!({ "podIP": "10.0.0.1", "phase": "Failed" }), vec![]),
        (json!({ "podIP": "10.0.0.1", "phase": "Pending" }), vec!["10.0.0.1"]),
    ];
    for (status, ips) in table {
        let addresses = pod(json!({}), status.clone());
        let ips: Vec<core::net::IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        assert_eq!((&*addresses.ips, addresses.are_nodes), (&*ips, false), "{status}");
    }
    let nodes = json!({ "podIP": "10.0.0.9", "hostIPs": [{ "ip": "10.0.0.9" }] });
    assert!(pod(json!({}), nodes).are_nodes);
    assert!(pod(json!({ "hostNetwork": true }), json!({ "podIP": "10.0.0.9" })).are_nodes);
    assert!(!pod(json!({ "hostNetwork": null }), json!({ "podIP": "10.0.0.9" })).are_nodes);
}

/// As a real server has sent them.
#[test]
fn recorded_pods_have_addresses() {
    #[derive(Deserialize)]
    struct List {
        items: Vec<PodObject>,
    }
    let raw = include_str!("../../../../tests/fixtures/k8s-wire/list-pods-node-1-mixed.body");
    let list: List = serde_json::from_str(raw).unwrap();
    let pods: Vec<_> = list.items.into_iter().filter_map(PodObject::trim).collect();
    let of = |are_nodes| pods.iter().filter(move |pod| pod.addresses.are_nodes == are_nodes);
    assert!(of(true).count() > 0 && of(false).any(|pod| !pod.addresses.ips.is_empty()));
}
