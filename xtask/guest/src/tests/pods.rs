//! Are the pod's wishes followed as long as it is there, and is it known which cgroups are its own?
//!
//! The cgroups are as the kubelet and containerd make them; the API server is a
//! thread of the test, which streams its pod to who watches and takes Events.

use crate::harness::{
    agent::Agent,
    api::Api,
    container::{Cgroup, Container},
    pod::{ID, UID, agent, cgroup, pod, sandbox},
    test::{Test, tests},
    wait::eventually,
};
use serde_json::{Value, json};
use std::{thread::sleep, time::Duration};

pub const TESTS: &[Test] = tests![
    annotation_of_a_running_pod,
    pod_that_is_deleted,
    pod_restart_is_tied_to_its_kill,
    pod_sandbox_is_never_touched,
    pods_are_the_kubelets_only,
    log_as_json
];

/// The annotation of a running pod is followed, and when it goes, the value
/// comes back.
fn annotation_of_a_running_pod() {
    let api = Api::start(&pod(1, Some(ID), None));
    let agent = Agent::start_with("rules: []", &["--kubernetes", "on", "--node-name", "node-1"]);
    let container = Container::start(&cgroup(), 60, &["idle"]);
    sleep(Duration::from_millis(500));
    assert_eq!(container.cgroup.oom_group(), "1", "no annotation asks for anything");
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

/// A pod that was deleted by force: its containers end later. Until then its rule holds,
/// and their kills are its own.
fn pod_that_is_deleted() {
    let api = Api::start(&pod(1, Some(ID), None));
    let agent = agent(&[]);
    api.push("DELETED", &pod(2, Some(ID), None));
    let container = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    let reported = ["namespace", "pod", "container", "rule"].map(|key| kills[0][key].clone());
    assert_eq!(reported, ["shop", "web-0", "worker", "web"]);
    container.cgroup.set("memory.oom.group", "1");
    eventually("the rule holds", || container.cgroup.oom_group() == "0");
    assert_eq!(api.event("SubprocessOOMKilled")["involvedObject"]["uid"], UID);
    agent.assert_nothing_lost();
}

/// The kubelet reports a restart; the kill that was its cause says so.
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
    let line =
        log.lines().find(|line| line.contains("Container restarted.")).expect("it is logged");
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

/// The owner of a cgroup can name those in it like a pod's.
fn pods_are_the_kubelets_only() {
    let _api = Api::start(&pod(1, Some(ID), None));
    let mut agent = agent(&["--resync-seconds", "1"]);
    let uid = UID;
    let of_others = [
        format!("/system.slice/ci-runner.service/kubepods/burstable/pod{uid}/{ID}"),
        format!("/machine.slice/x{}", cgroup()),
        format!("/lxc.payload.c1/kubepods/pod{uid}/{ID}"),
        // The kubelet's own, which was given to another user.
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
    let logged = log.lines().filter(|line| line.contains("does not belong to root")).count();
    assert!(logged == 1 && log.contains("uid=1000"), "{log}");
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
    let logged = of("OOM kill.");
    for key in ["kind", "limit", "cgroup", "container", "limit_bytes", "limit_cgroup"] {
        assert_eq!(logged[key], kill[key], "{logged:#}");
    }
    assert_eq!(logged["comm"], kill["victim"]["comm"]);
}
