//! Are kills and values told by the names that Kubernetes has?
//!
//! The cgroups are as the kubelet and containerd make them; the API server is a
//! thread of the test, which streams its pod to who watches and takes Events.

use crate::{
    Test,
    agent::{Agent, eventually},
    api::Api,
    container::{Cgroup, Container, run_in},
};
use serde_json::{Value, json};
use std::{fs, process::Command, thread::sleep, time::Duration};

pub const TESTS: &[Test] = &[
    ("pod_is_named", pod_is_named),
    ("names_that_come_late", names_that_come_late),
    ("names_that_never_come", names_that_never_come),
    ("annotation_of_a_running_pod", annotation_of_a_running_pod),
    ("bundle_tells_the_name", bundle_tells_the_name),
    ("names_that_come_in_part", names_that_come_in_part),
    ("only_container_is_named_at_once", only_container_is_named_at_once),
    ("kill_in_the_pods_own_cgroup", kill_in_the_pods_own_cgroup),
    ("static_pod_is_found_by_its_mirror_only", static_pod_is_found_by_its_mirror_only),
    ("pod_that_is_deleted", pod_that_is_deleted),
    ("pod_is_told_of_kills", pod_is_told_of_kills),
    ("pod_is_told_of_a_group_inside", pod_is_told_of_a_group_inside),
    ("pod_is_told_that_its_container_ended", pod_is_told_that_its_container_ended),
    ("pod_is_told_of_a_bad_annotation", pod_is_told_of_a_bad_annotation),
    ("pod_is_told_what_is_in_the_way", pod_is_told_what_is_in_the_way),
    ("pod_restart_is_tied_to_its_kill", pod_restart_is_tied_to_its_kill),
    ("pod_sandbox_is_never_touched", pod_sandbox_is_never_touched),
    ("pods_are_the_kubelets_only", pods_are_the_kubelets_only),
    ("log_as_json", log_as_json),
];

const UID: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
pub const ID: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const SURVIVED: &str =
    r#"herder_oom_kills_survived_total{container="worker",namespace="shop",pod="web-0"}"#;
const KILLS: &str = r#"herder_oom_kills_total{container="worker",kind="subprocess",limit="container",namespace="shop",pod="web-0"}"#;

pub const RULES: &str = "\
rules:
- name: web
  pods: {namespaces: [shop], selector: {matchLabels: {app: web}}}
  oomGroup: single-process
";

pub fn cgroup() -> String {
    let uid = UID.replace('-', "_");
    format!(
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice/cri-containerd-{ID}.scope"
    )
}

/// The pod, with its container's ID or, before the kubelet has told it, without.
pub fn pod(version: u32, id: Option<&str>, annotation: Option<&str>) -> Value {
    let statuses = id.map(|id| {
        json!([{
            "name": "worker", "containerID": format!("containerd://{id}"), "image": "x",
            "imageID": "", "ready": true, "restartCount": 0
        }])
    });
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": "web-0", "namespace": "shop", "uid": UID, "resourceVersion": version.to_string(),
            "labels": {"app": "web"},
            "annotations": annotation.map(|value| json!({"herder.dev/oom-group": value}))
        },
        "spec": {"containers": [{"name": "worker"}]},
        "status": {"containerStatuses": statuses}
    })
}

/// The pod's sandbox, which is made before its containers.
fn sandbox() -> Cgroup {
    Cgroup::make(&cgroup().replace(ID, &ID.replace('e', "0")))
}

pub fn agent(more: &[&str]) -> Agent {
    let flags = ["--kubernetes", "on", "--node-name", "node-1"];
    Agent::start_with(RULES, &[&flags, more].concat())
}

/// A rule by namespace and label; the kill is told by namespace, pod, container.
fn pod_is_named() {
    let _api = Api::start(&pod(1, Some(ID), None));
    let agent = agent(&[]);
    let container = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    let told = ["kind", "namespace", "pod", "container", "rule"].map(|key| kills[0][key].clone());
    assert_eq!(told, ["subprocess", "shop", "web-0", "worker", "web"]);
    assert_eq!(container.cgroup.oom_group(), "0");
    assert_eq!(agent.metric(KILLS), 1.0);
    let value = r#"herder_container_oom_group{container="worker",namespace="shop",pod="web-0"}"#;
    assert!(agent.get("/metrics").contains(&format!("{value} 0")));
    agent.assert_nothing_lost();
}

/// The kubelet tells the container's ID after its first kill: the container was
/// steered all the same, and the kill is told when the name is known.
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

/// A pod that the API server does not know: the kill is told with its cgroup, and
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
    let line = log.lines().find(|line| line.contains("OOM kill.")).expect("the kill is told");
    assert!(line.contains(&path) && line.contains(r#"kind="group""#), "{line}");
    assert!(log.contains("cgroup of an OOM kill is unknown"), "{log}");
}

/// The annotation of a running pod is followed, and when it goes, the value
/// comes back.
fn annotation_of_a_running_pod() {
    let api = Api::start(&pod(1, Some(ID), None));
    let agent = Agent::start_with("rules: []", &["--kubernetes", "on", "--node-name", "node-1"]);
    let container = Container::start(&cgroup(), 60, &["idle"]);
    sleep(Duration::from_millis(500));
    assert_eq!(container.cgroup.oom_group(), "1", "nobody asked for anything");
    api.modified(&pod(2, Some(ID), Some("worker=single-process,other=group")));
    eventually("the annotation is followed", || container.cgroup.oom_group() == "0");
    api.modified(&pod(3, Some(ID), Some("nonsense")));
    eventually("a bad one leaves the pod alone", || container.cgroup.oom_group() == "1");
    api.modified(&pod(4, Some(ID), Some("single-process")));
    eventually("a good one again", || container.cgroup.oom_group() == "0");
    api.modified(&pod(5, Some(ID), None));
    eventually("the value comes back", || container.cgroup.oom_group() == "1");
    drop(agent);
}

/// The runtime's bundle names the container before the kubelet does.
fn bundle_tells_the_name() {
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

/// Two containers, of which the kubelet has told no ID, since it waits for an image. What
/// is known of the kill is told when it was waited for long enough, or the agent ends.
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
    let line = log.lines().find(|line| line.contains("OOM kill.")).expect("the kill is told");
    for part in [r#"namespace="shop""#, r#"pod="web-0""#, r#"container="""#, r#"rule="web""#] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(log.contains("The container of an OOM kill is unknown."), "{log}");
}

/// Where a pod has a single container, nobody has to tell its name.
fn only_container_is_named_at_once() {
    let _api = Api::start(&pod(1, None, None));
    let agent = agent(&[]);
    let _sandbox = sandbox();
    let _container = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    let told = ["pod", "container", "rule"].map(|key| kills[0][key].clone());
    assert_eq!(told, ["web-0", "worker", "web"]);
    assert_eq!(agent.metric(KILLS), 1.0);
    agent.assert_nothing_lost();
}

/// As gVisor has it: all of a pod runs in the pod's cgroup, and no container is known. The
/// API server tells the pod after the kill.
fn kill_in_the_pods_own_cgroup() {
    let api = Api::serve(&[]);
    let agent = agent(&[]);
    let path = format!("/kubepods/burstable/pod{UID}");
    let container = Container::start(&path, 60, &["idle", "hog:100"]);
    eventually("the kill has happened", || container.cgroup.event("oom_kill") >= 1);
    api.tell("ADDED", &pod(1, Some(ID), None));
    let kills = agent.wait_for_kills(1);
    let told = ["namespace", "pod", "container", "limit", "rule"].map(|key| kills[0][key].clone());
    assert_eq!(told[..4], ["shop", "web-0", "", "pod"]);
    assert_eq!(told[4], Value::Null, "it is no container that a rule could name");
    let series = r#"herder_oom_kills_total{container="",kind="group",limit="pod",namespace="shop",pod="web-0"}"#;
    assert_eq!(agent.metric(series), 1.0);
    let told = api.event("ContainerGroupOOMKilled");
    assert_eq!(told["involvedObject"]["uid"], UID);
    assert_eq!(told["involvedObject"].get("fieldPath"), None, "it is about the pod");
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
    api.tell("ADDED", &mirror);
    eventually("the rule holds", || container.cgroup.oom_group() == "0");
    mirror["status"]["containerStatuses"] =
        pod(3, Some(ID), None)["status"]["containerStatuses"].clone();
    api.modified(&mirror);
    drop(container);
    let scope = Cgroup::made(&path);
    eventually("the container has ended", || scope.processes().is_empty());
    let _container = Container::start(&path, 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    let told = ["namespace", "pod", "container", "pod_uid"].map(|key| kills[0][key].clone());
    assert_eq!(told, ["shop", "web-0", "worker", "etcd-node-1"]);
    agent.assert_nothing_lost();
}

/// A pod that was deleted by force: its containers end later. Until then its rule holds,
/// and their kills are its own.
fn pod_that_is_deleted() {
    let api = Api::start(&pod(1, Some(ID), None));
    let agent = agent(&[]);
    api.tell("DELETED", &pod(2, Some(ID), None));
    let container = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    let told = ["namespace", "pod", "container", "rule"].map(|key| kills[0][key].clone());
    assert_eq!(told, ["shop", "web-0", "worker", "web"]);
    container.cgroup.set("memory.oom.group", "1");
    eventually("the rule holds", || container.cgroup.oom_group() == "0");
    assert_eq!(api.event("SubprocessOOMKilled")["involvedObject"]["uid"], UID);
    agent.assert_nothing_lost();
}

/// Each kill is an Event on the pod: who died, by what limit, and what was left.
fn pod_is_told_of_kills() {
    let mut pod = pod(1, Some(ID), None);
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "60Mi"}});
    let api = Api::start(&pod);
    let mut agent = agent(&[]);
    let container = Container::start(&cgroup(), 60, &["idle", "idle", "hog:100"]);
    let told = api.event("SubprocessOOMKilled");
    let involved = json!({
        "apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web-0", "uid": UID,
        "fieldPath": "spec.containers{worker}"
    });
    assert_eq!(told["involvedObject"], involved);
    assert_eq!((told["type"].clone(), told["count"].clone()), ("Warning".into(), 1.into()));
    assert_eq!(told["source"], json!({"component": "herder", "host": "node-1"}));
    let message = told["message"].as_str().unwrap();
    let kill = agent.wait_for_kills(1).remove(0);
    for part in [
        format!("(pid {}, {} inside, ", kill["victim"]["pid"], kill["victim"]["ns_pid"]),
        " MiB of memory) of container worker".into(),
        "the container's limit is 60 MiB.".into(),
        "3 processes of the container were left running.".into(),
    ] {
        assert!(message.contains(&part), "{part}: {message}");
    }
    // Whether it lives on is said when it is known.
    assert_eq!((&kill["survived"], agent.metric(SURVIVED)), (&Value::Null, 0.0));
    eventually("it is known to live on", || agent.kills()[0]["survived"] == true);
    assert_eq!(agent.metric(SURVIVED), 1.0);
    let enforced = api.event("OomGroupEnforced");
    assert!(enforced["message"].as_str().unwrap().contains("rule web"), "{enforced}");
    // Without the rule the next kill takes the group.
    assert!(agent.stop().success());
    let agent = Agent::start_with("rules: []", &["--kubernetes", "on", "--node-name", "node-1"]);
    drop(container);
    let scope = Cgroup::make(&cgroup());
    eventually("the container has ended", || scope.processes().is_empty());
    let mut container = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    let told = api.event("ContainerGroupOOMKilled");
    let message = told["message"].as_str().unwrap();
    // Its init is among the three, and when that goes first, the kernel may end the
    // others before it marks them.
    let group = "Container worker was killed as a group (";
    let seen = message.strip_prefix(group).and_then(|rest| rest.split_once(" seen)"));
    assert!(seen.is_some_and(|(seen, _)| ["1", "2", "3"].contains(&seen)), "{message}");
    assert!(message.ends_with("The container ends."), "{message}");
    eventually("the container has ended", || container.ended());
    eventually("it is counted", || agent.metric(r#"herder_events_total{result="created"}"#) == 1.0);
    assert_eq!(agent.total("herder_api_errors_total"), 0.0);
}

/// A cgroup that the container has made is killed as a group: that is no end of the
/// container, unless its init is in it.
fn pod_is_told_of_a_group_inside() {
    let api = Api::start(&pod(1, Some(ID), None));
    for (init_in_job, reason, end) in [
        (false, "SubprocessOOMKilled", "1 process of the container was left running."),
        (true, "ContainerGroupOOMKilled", "The container ends."),
    ] {
        let agent = agent(&[]);
        let (container, job) = Container::start_with_job(&cgroup(), init_in_job);
        run_in(&job, &["hog", "100"]).wait().unwrap();
        let told = api.event(reason);
        let message = told["message"].as_str().unwrap();
        let begin =
            if init_in_job { "Container worker" } else { "The cgroup job of container worker" };
        assert!(message.starts_with(&format!("{begin} was killed as a group (")), "{message}");
        assert!(message.ends_with(end), "{message}");
        assert_eq!(agent.wait_for_kills(1)[0]["kind"], "group");
        drop(container);
    }
}

/// A container whose program gives up because of its child has not survived; log, API, terminal
/// and Event say so when it is known.
fn pod_is_told_that_its_container_ended() {
    let api = Api::start(&pod(1, Some(ID), None));
    let agent = agent(&[]);
    let mut container = Container::start_program(&cgroup(), 60, &["gives-up", "100"]);
    let kill = agent.wait_for_kills(1).remove(0);
    assert_eq!((&kill["kind"], &kill["survived"]), (&"subprocess".into(), &Value::Null));
    eventually("it gives up", || container.ended());
    drop(container);
    let told = api.event("ContainerEndedAfterOOMKill");
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("Container worker ended ") && message.contains("(pid "), "{message}");
    let kill = agent.kills().remove(0);
    assert_eq!(kill["survived"], false);
    assert!((1.0..30.0).contains(&kill["ended_seconds"].as_f64().unwrap()), "{kill:#}");
    assert!(Agent::log().contains("Container ended after an OOM kill"), "{}", Agent::log());
    let shown = Command::new("/bin/herder-agent").arg("kills").output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("no, ended "), "{shown}");
    assert_eq!((agent.kills().len(), agent.metric(SURVIVED)), (1, 0.0));
}

/// One Event for a value that cannot be understood, and the count.
fn pod_is_told_of_a_bad_annotation() {
    let api = Api::start(&pod(1, Some(ID), None));
    let agent = Agent::start_with("rules: []", &["--kubernetes", "on", "--node-name", "node-1"]);
    let container = Container::start(&cgroup(), 60, &["idle"]);
    for version in 2..5 {
        api.modified(&pod(version, Some(ID), Some("worker=maybe")));
    }
    let told = api.event("BadOomGroupAnnotation");
    assert_eq!(told["involvedObject"]["uid"], UID);
    assert_eq!(told["involvedObject"].get("fieldPath"), None, "it is about the pod");
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("worker=maybe") && message.contains("left alone"), "{message}");
    sleep(Duration::from_secs(1));
    assert_eq!(api.events("BadOomGroupAnnotation").len(), 1);
    assert_eq!(agent.metric("herder_bad_annotations_total"), 1.0);
    assert_eq!(container.cgroup.oom_group(), "1", "the pod is left alone");
}

/// An ancestor is in the way, and somebody sets the value again and again.
fn pod_is_told_what_is_in_the_way() {
    let api = Api::start(&pod(1, Some(ID), None));
    let agent = agent(&["--resync-seconds", "1"]);
    let container = Container::start(&cgroup(), 60, &["idle"]);
    eventually("the rule holds", || container.cgroup.oom_group() == "0");
    let parent = cgroup().rsplit_once('/').unwrap().0.to_owned();
    fs::write(format!("/sys/fs/cgroup{parent}/memory.oom.group"), "1").unwrap();
    let told = api.event("OomGroupNotEnforceable");
    let message = told["message"].as_str().unwrap();
    assert!(message.contains(&parent) && message.contains("set it to 0 there"), "{message}");
    for _ in 0..12 {
        container.cgroup.set("memory.oom.group", "1");
        eventually("it is set again", || container.cgroup.oom_group() == "0");
    }
    let told = api.event("OomGroupReverted");
    assert!(told["message"].as_str().unwrap().contains("5 times against rule web"), "{told}");
    sleep(Duration::from_secs(2));
    let counts = ["OomGroupNotEnforceable", "OomGroupReverted", "OomGroupEnforced"]
        .map(|reason| api.events(reason).len());
    assert_eq!(counts, [1, 1, 1]);
    drop(agent);
}

/// The kubelet tells a restart; the kill that was its cause says so.
fn pod_restart_is_tied_to_its_kill() {
    let api = Api::start(&pod(1, Some(ID), None));
    let agent = Agent::start_with("rules: []", &["--kubernetes", "on", "--node-name", "node-1"]);
    let container = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    let kill = agent.wait_for_kills(1).remove(0);
    assert_eq!(kill["restarted"], Value::Null);
    assert_eq!([&kill["container_id"], &kill["pod_uid"]], [ID, UID]);
    assert_eq!([&kill["runtime"], &kill["qos_class"]], ["containerd", "Burstable"]);
    drop(container);
    let next = ID.replace('e', "f");
    let mut after = pod(2, Some(&next), None);
    let status = &mut after["status"]["containerStatuses"][0];
    status["restartCount"] = 1.into();
    status["lastState"] = json!({"terminated": {
        "exitCode": 137, "reason": "OOMKilled", "containerID": format!("containerd://{ID}")
    }});
    api.modified(&after);
    eventually("the restart is tied", || agent.kills()[0]["restarted"]["reason"] == "OOMKilled");
    let series = r#"herder_container_restarts_total{container="worker",namespace="shop",pod="web-0",reason="OOMKilled"}"#;
    assert_eq!(agent.metric(series), 1.0);
    let log = Agent::log();
    let line = log.lines().find(|line| line.contains("Container restarted.")).expect("it is told");
    assert!(line.contains("kill_id=1") && line.contains(r#"kill_kind="group""#), "{line}");
}

/// The sandbox has the form of a container, and no rule of pods is about it.
fn pod_sandbox_is_never_touched() {
    let api = Api::start(&pod(1, None, None));
    let agent = agent(&[]);
    let sandbox = sandbox();
    let path = sandbox.path().to_owned();
    let container = Container::start(&cgroup(), 60, &["idle"]);
    eventually("the rule holds", || container.cgroup.oom_group() == "0");
    api.modified(&pod(2, Some(ID), None));
    eventually("it is known to be none", || agent.container(sandbox.path()).is_none());
    sandbox.set("memory.oom.group", "1");
    sleep(Duration::from_secs(1));
    assert_eq!(sandbox.oom_group(), "1");
    let writes =
        Agent::log().lines().filter(|line| line.contains("Wrote") && line.contains(&path)).count();
    assert_eq!(writes, 0);
}

/// Whoever owns a cgroup can name those in it like a pod's.
fn pods_are_the_kubelets_only() {
    let _api = Api::start(&pod(1, Some(ID), None));
    let mut agent = agent(&["--resync-seconds", "1"]);
    let uid = UID;
    let of_others = [
        format!("/system.slice/ci-runner.service/kubepods/burstable/pod{uid}/{ID}"),
        format!("/machine.slice/x{}", cgroup()),
        format!("/lxc.payload.c1/kubepods/pod{uid}/{ID}"),
        // The kubelet's own, which somebody has given to another user.
        format!("/kubepods/burstable/pod{uid}/{ID}"),
    ];
    let given = Cgroup::make("/kubepods/burstable");
    std::os::unix::fs::chown(given.file(""), Some(1000), Some(1000)).unwrap();
    for (number, path) in of_others.iter().enumerate() {
        let container = Container::start(path, 60, &["hog:100"]);
        let kill = agent.wait_for_kills(number + 1).remove(number);
        assert_eq!(
            [&kill["cgroup"], &kill["pod"], &kill["pod_uid"]],
            [&path.as_str().into(), &Value::Null, &Value::Null]
        );
        assert_eq!(container.cgroup.oom_group(), "1", "{path} is left alone");
    }
    let log = Agent::log();
    let told = log.lines().filter(|line| line.contains("does not belong to root")).count();
    assert!(told == 1 && log.contains("uid=1000"), "{log}");
    let container = Container::start(&cgroup(), 60, &["idle"]);
    eventually("the kubelet's own is enforced", || container.cgroup.oom_group() == "0");
    assert!(agent.stop().success());
    drop(agent);
    // Where the operator says, they are, and nowhere else.
    let agent = self::agent(&["--kubelet-cgroup-root", "/system.slice/ci-runner.service,/x"]);
    let there = Cgroup::made(&of_others[0]);
    eventually("it is enforced", || there.oom_group() == "0");
    container.cgroup.set("memory.oom.group", "1");
    sleep(Duration::from_millis(500));
    assert_eq!(container.cgroup.oom_group(), "1");
    agent.assert_nothing_lost();
}

/// Each line is an object with each text as it is, as the DaemonSet has it.
fn log_as_json() {
    let _api = Api::start(&pod(1, Some(ID), None));
    let mut agent = agent(&["--log-format", "json"]);
    let _container = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    let kill = agent.wait_for_kills(1).remove(0);
    assert!(agent.stop().success());
    let log = Agent::log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        for (key, value) in line.as_object().unwrap() {
            let text = value.as_str().unwrap_or_default();
            assert!(!text.starts_with('"') && !text.starts_with("Some("), "{key}: {line:#}");
        }
    }
    let of = |message: &str| {
        let found = lines.iter().find(|line| line["message"] == message);
        found.unwrap_or_else(|| panic!("no {message} in {log}"))
    };
    assert_eq!(of("Attached.")["mark"], "Task");
    assert_eq!(of("Wrote memory.oom.group.")["cgroup"], cgroup());
    let told = of("OOM kill.");
    for key in ["kind", "limit", "cgroup", "container", "limit_bytes", "limit_cgroup"] {
        assert_eq!(told[key], kill[key], "{told:#}");
    }
    assert_eq!(told["comm"], kill["victim"]["comm"]);
}
