//! Are kills reported by the names that Kubernetes has, whenever those are known?

use crate::harness::{
    agent::Agent,
    api::Api,
    container::{Cgroup, Container},
    kill::assert_at_limit,
    pod::{ID, UID, agent, cgroup, pod, sandbox},
    test::{Test, tests},
    wait::eventually,
};
use serde_json::{Value, json};
use std::{fs, thread::sleep, time::Duration};

pub const TESTS: &[Test] = tests![
    pod_is_named,
    names_that_come_late,
    names_that_never_come,
    bundle_has_the_name,
    names_that_come_in_part,
    only_container_is_named_at_once,
    kill_in_the_pods_own_cgroup,
    static_pod_is_found_by_its_mirror_only
];

const KILLS: &str = r#"herder_oom_kills_total{container="worker",kind="subprocess",limit="container",namespace="shop",pod="web-0"}"#;

/// A rule by namespace and label; the kill is reported by namespace, pod, container.
fn pod_is_named() {
    let _api = Api::start(&pod(1, Some(ID), None));
    let agent = agent(&[]);
    let container = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    let reported =
        ["kind", "namespace", "pod", "container", "rule"].map(|key| kills[0][key].clone());
    assert_eq!(reported, ["subprocess", "shop", "web-0", "worker", "web"]);
    assert_eq!(container.cgroup.oom_group(), "0");
    assert_eq!(agent.metric(KILLS), 1.0);
    let value = r#"herder_container_oom_group{container="worker",namespace="shop",pod="web-0"}"#;
    assert!(agent.get("/metrics").contains(&format!("{value} 0")));
    let used =
        r#"herder_container_oom_memory_bytes{container="worker",namespace="shop",pod="web-0"}"#;
    assert_at_limit(agent.metric(used), 60);
    agent.assert_nothing_lost();
}

/// The kubelet reports the container's ID after its first kill: the rule was enforced
/// all the same, and the kill is reported when the name is known.
fn names_that_come_late() {
    let api = Api::start(&pod(1, None, None));
    let agent = agent(&[]);
    let container = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    eventually("the kill has happened", || container.cgroup.event("oom_kill") == 1);
    assert_eq!(container.cgroup.oom_group(), "0");
    sleep(Duration::from_secs(1));
    assert_eq!(agent.kills().len(), 0, "not under a wrong name");
    api.modified(&pod(2, Some(ID), None));
    let kills = agent.wait_for_kills(1);
    assert_eq!(kills[0]["container"], "worker");
    assert_eq!(agent.metric(KILLS), 1.0);
    agent.assert_nothing_lost();
}

/// A pod that the API server does not know: the kill is reported with its cgroup, and
/// counted as unattributed, when the agent ends at the latest.
fn names_that_never_come() {
    let _api = Api::start(&pod(1, Some(ID), None));
    let mut agent = agent(&[]);
    let path = cgroup().replace("4e5f", "ffff");
    let container = Container::start(&path, 60, &["idle", "hog:100"]);
    eventually("the kill has happened", || container.cgroup.event("oom_kill") >= 1);
    sleep(Duration::from_millis(500));
    assert!(agent.stop().success());
    let log = Agent::log();
    let line = log.lines().find(|line| line.contains("OOM kill.")).expect("the kill is logged");
    assert!(line.contains(&path) && line.contains(r#"kind="group""#), "{line}");
    assert!(log.contains("cgroup of an OOM kill is unknown"), "{log}");
}

/// The runtime's bundle names the container before the kubelet does.
fn bundle_has_the_name() {
    let bundle = format!("/tmp/bundles/{ID}");
    fs::create_dir_all(&bundle).unwrap();
    let annotations = json!({
        "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.container-name": "worker"
    });
    fs::write(format!("{bundle}/config.json"), json!({"annotations": annotations}).to_string())
        .unwrap();
    let _api = Api::start(&pod(1, None, None));
    let agent = agent(&["--bundle-dir", "/tmp/bundles"]);
    let _container = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    assert_eq!(kills[0]["container"], "worker");
    agent.assert_nothing_lost();
}

/// Two containers, of which the kubelet has reported no ID, since it waits for an image.
/// What is known of the kill is reported when it was waited for long enough, or the agent ends.
fn names_that_come_in_part() {
    let mut pod = pod(1, None, None);
    pod["spec"]["containers"] = json!([{"name": "worker"}, {"name": "logger"}]);
    let _api = Api::start(&pod);
    let mut agent = agent(&[]);
    let _sandbox = sandbox();
    let container = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    eventually("the kill has happened", || container.cgroup.event("oom_kill") == 1);
    sleep(Duration::from_millis(500));
    assert!(agent.stop().success());
    let log = Agent::log();
    let line = log.lines().find(|line| line.contains("OOM kill.")).expect("the kill is logged");
    for part in [r#"namespace="shop""#, r#"pod="web-0""#, r#"container="""#, r#"rule="web""#] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(log.contains("The container of an OOM kill is unknown."), "{log}");
}

/// Where a pod has a single container, its name needs no report of the kubelet's.
fn only_container_is_named_at_once() {
    let _api = Api::start(&pod(1, None, None));
    let agent = agent(&[]);
    let _sandbox = sandbox();
    let _container = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    let reported = ["pod", "container", "rule"].map(|key| kills[0][key].clone());
    assert_eq!(reported, ["web-0", "worker", "web"]);
    assert_eq!(agent.metric(KILLS), 1.0);
    agent.assert_nothing_lost();
}

/// As gVisor has it: all of a pod runs in the pod's cgroup, and no container is known. The
/// API server sends the pod after the kill.
fn kill_in_the_pods_own_cgroup() {
    let api = Api::serve(&[]);
    let agent = agent(&[]);
    let path = format!("/kubepods/burstable/pod{UID}");
    let container = Container::start(&path, 60, &["idle", "hog:100"]);
    eventually("the kill has happened", || container.cgroup.event("oom_kill") >= 1);
    api.push("ADDED", &pod(1, Some(ID), None));
    let kills = agent.wait_for_kills(1);
    let reported =
        ["namespace", "pod", "container", "limit", "rule"].map(|key| kills[0][key].clone());
    assert_eq!(reported[..4], ["shop", "web-0", "", "pod"]);
    assert_eq!(reported[4], Value::Null, "it is no container that a rule could name");
    let series = r#"herder_oom_kills_total{container="",kind="group",limit="pod",namespace="shop",pod="web-0"}"#;
    assert_eq!(agent.metric(series), 1.0);
    let event = api.event("ContainerGroupOOMKilled");
    assert_eq!(event["involvedObject"]["uid"], UID);
    assert_eq!(event["involvedObject"].get("fieldPath"), None, "it is about the pod");
    assert_eq!(container.cgroup.oom_group(), "1", "left alone");
    agent.assert_nothing_lost();
}

/// Its manifest has a uid of its own. A pod that claims to be it decides nothing, also
/// while the mirror's status has no container yet.
fn static_pod_is_found_by_its_mirror_only() {
    let annotations = |mirror: Option<&str>, wish: Option<&str>| {
        json!({
            "kubernetes.io/config.hash": "etcd-node-1", "kubernetes.io/config.mirror": mirror,
            "herder.dev/oom-group": wish
        })
    };
    let mut forged = pod(1, Some(&ID.replace('e', "f")), None);
    forged["metadata"]["uid"] = UID.replace('0', "1").into();
    forged["metadata"]["namespace"] = "tenant".into();
    forged["metadata"]["annotations"] = annotations(None, Some("single-process"));
    let mut mirror = pod(2, None, None);
    mirror["metadata"]["annotations"] = annotations(Some("etcd-node-1"), None);
    mirror["status"]["startTime"] = "2026-11-23T23:54:36Z".into();
    let api = Api::serve(std::slice::from_ref(&forged));
    let agent = agent(&[]);
    let path = cgroup().replace(&UID.replace('-', "_"), "etcd_node_1");
    let container = Container::start(&path, 60, &["idle"]);
    sleep(Duration::from_secs(1));
    assert_eq!(container.cgroup.oom_group(), "1", "the other pod's wish is its own");
    api.push("ADDED", &mirror);
    eventually("the rule holds", || container.cgroup.oom_group() == "0");
    mirror["status"]["containerStatuses"] =
        pod(3, Some(ID), None)["status"]["containerStatuses"].clone();
    api.modified(&mirror);
    drop(container);
    let scope = Cgroup::made(&path);
    eventually("the container has ended", || scope.processes().is_empty());
    let _container = Container::start(&path, 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    let reported = ["namespace", "pod", "container", "pod_uid"].map(|key| kills[0][key].clone());
    assert_eq!(reported, ["shop", "web-0", "worker", "etcd-node-1"]);
    agent.assert_nothing_lost();
}
