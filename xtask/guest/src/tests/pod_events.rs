//! Does the agent emit an Event of the pod for what its owner has to know, and for nothing else?

use crate::harness::{
    agent::Agent,
    api::Api,
    container::{Cgroup, Container, run_in},
    pod::{ID, UID, agent, cgroup, pod},
    test::{Test, tests},
    wait::eventually,
};
use serde_json::{Value, json};
use std::{fs, process::Command, thread::sleep, time::Duration};

pub const TESTS: &[Test] = tests![
    pod_has_events_of_kills,
    pod_has_an_event_of_a_group_inside,
    pod_has_an_event_that_its_container_ended,
    pod_has_an_event_of_a_bad_annotation,
    pod_has_an_event_of_the_obstacle
];

const SURVIVED: &str =
    r#"herder_oom_kills_survived_total{container="worker",namespace="shop",pod="web-0"}"#;

/// Each kill is an Event on the pod: who died, by what limit, and what was left.
fn pod_has_events_of_kills() {
    let mut pod = pod(1, Some(ID), None);
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "60Mi"}});
    let api = Api::start(&pod);
    let mut agent = agent(&[]);
    let container = Container::start(&cgroup(), 60, &["idle", "idle", "hog:100"]);
    let event = api.event("SubprocessOOMKilled");
    let involved = json!({
        "apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web-0", "uid": UID,
        "fieldPath": "spec.containers{worker}"
    });
    assert_eq!(event["involvedObject"], involved);
    assert_eq!((event["type"].clone(), event["count"].clone()), ("Warning".into(), 1.into()));
    assert_eq!(event["source"], json!({"component": "herder", "host": "node-1"}));
    let message = event["message"].as_str().unwrap();
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
    let event = api.event("ContainerGroupOOMKilled");
    let message = event["message"].as_str().unwrap();
    // Its init is among the three, and when that goes first, the kernel may end the
    // others before it marks them.
    let group = "Container worker was killed as a group (";
    let seen = message.strip_prefix(group).and_then(|rest| rest.split_once(" seen)"));
    assert!(seen.is_some_and(|(seen, _)| ["1", "2", "3"].contains(&seen)), "{message}");
    let end = "The container ends. One process has most of the memory: init (pid ";
    assert!(message.contains(end), "{message}");
    eventually("the container has ended", || container.ended());
    eventually("it is counted", || agent.metric(r#"herder_events_total{result="created"}"#) == 1.0);
    assert_eq!(agent.total("herder_api_errors_total"), 0.0);
}

/// A cgroup that the container has made is killed as a group: that is no end of the
/// container, unless its init is in it.
fn pod_has_an_event_of_a_group_inside() {
    let api = Api::start(&pod(1, Some(ID), None));
    for (init_in_job, reason, end) in [
        (false, "SubprocessOOMKilled", "1 process of the container was left running."),
        (
            true,
            "ContainerGroupOOMKilled",
            "The container ends. One process has most of the memory: ",
        ),
    ] {
        let agent = agent(&[]);
        let (container, job) = Container::start_with_job(&cgroup(), init_in_job);
        run_in(&job, &["hog", "100"]).wait().unwrap();
        let event = api.event(reason);
        let message = event["message"].as_str().unwrap();
        let begin =
            if init_in_job { "Container worker" } else { "The cgroup job of container worker" };
        assert!(message.starts_with(&format!("{begin} was killed as a group (")), "{message}");
        assert!(message.contains(end), "{message}");
        assert_eq!(agent.wait_for_kills(1)[0]["kind"], "group");
        drop(container);
    }
}

/// A container whose program gives up because of its child has not survived; log, API, terminal
/// and Event say so when it is known.
fn pod_has_an_event_that_its_container_ended() {
    let api = Api::start(&pod(1, Some(ID), None));
    let agent = agent(&[]);
    let mut container = Container::start_program(&cgroup(), 60, &["gives-up", "100"]);
    let kill = agent.wait_for_kills(1).remove(0);
    assert_eq!((&kill["kind"], &kill["survived"]), (&"subprocess".into(), &Value::Null));
    eventually("it gives up", || container.ended());
    drop(container);
    let event = api.event("ContainerEndedAfterOOMKill");
    let message = event["message"].as_str().unwrap();
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
fn pod_has_an_event_of_a_bad_annotation() {
    let api = Api::start(&pod(1, Some(ID), None));
    let agent = Agent::start_with("rules: []", &["--kubernetes", "on", "--node-name", "node-1"]);
    let container = Container::start(&cgroup(), 60, &["idle"]);
    for version in 2..5 {
        api.modified(&pod(version, Some(ID), Some("worker=maybe")));
    }
    let event = api.event("BadOomGroupAnnotation");
    assert_eq!(event["involvedObject"]["uid"], UID);
    assert_eq!(event["involvedObject"].get("fieldPath"), None, "it is about the pod");
    let message = event["message"].as_str().unwrap();
    assert!(message.contains("worker=maybe") && message.contains("left alone"), "{message}");
    sleep(Duration::from_secs(1));
    assert_eq!(api.events("BadOomGroupAnnotation").len(), 1);
    assert_eq!(agent.metric("herder_bad_annotations_total"), 1.0);
    assert_eq!(container.cgroup.oom_group(), "1", "the pod is left alone");
}

/// An ancestor is in the way, and the test sets the value again and again.
fn pod_has_an_event_of_the_obstacle() {
    let api = Api::start(&pod(1, Some(ID), None));
    let agent = agent(&["--resync-seconds", "1"]);
    let container = Container::start(&cgroup(), 60, &["idle"]);
    eventually("the rule holds", || container.cgroup.oom_group() == "0");
    let parent = cgroup().rsplit_once('/').unwrap().0.to_owned();
    fs::write(format!("/sys/fs/cgroup{parent}/memory.oom.group"), "1").unwrap();
    let event = api.event("OomGroupNotEnforceable");
    let message = event["message"].as_str().unwrap();
    assert!(message.contains(&parent) && message.contains("set it to 0 there"), "{message}");
    for _ in 0..12 {
        container.cgroup.set("memory.oom.group", "1");
        eventually("it is set again", || container.cgroup.oom_group() == "0");
    }
    let event = api.event("OomGroupReverted");
    assert!(event["message"].as_str().unwrap().contains("5 times against rule web"), "{event}");
    sleep(Duration::from_secs(2));
    let counts = ["OomGroupNotEnforceable", "OomGroupReverted", "OomGroupEnforced"]
        .map(|reason| api.events(reason).len());
    assert_eq!(counts, [1, 1, 1]);
    drop(agent);
}
