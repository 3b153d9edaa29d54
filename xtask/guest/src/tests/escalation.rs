//! What follows when a container keeps losing processes: does its next kill take all of it, or is
//! it restarted, and does nothing else happen to anything else?

use crate::harness::{
    agent::{Agent, MATCHED},
    api::Api,
    container::{Cgroup, Container, run_in},
    pod::{ID, cgroup, pod, sandbox},
    test::{Test, tests},
    wait::{alive, eventually},
};
use serde_json::Value;
use std::{path::Path, thread::sleep, time::Duration};

pub const TESTS: &[Test] = tests![
    escalates_to_a_group,
    escalates_to_a_restart,
    escalates_by_counts,
    escalation_has_a_budget,
    escalation_in_a_dry_run,
    escalation_outlives_the_agent
];

/// With an API server.
pub const TESTS_OF_PODS: &[Test] = tests![pod_asks_for_a_restart];

/// A rule that matches every cgroup right below `/matched`.
fn rules(escalate: &str) -> String {
    MATCHED.replace("single-process", &format!("single-process, escalate: {{{escalate}}}"))
}

fn result(agent: &Agent, to: &str, result: &str) -> f64 {
    agent.metric(&format!(
        "herder_escalations_total{{result=\"{result}\",rule=\"matched\",to=\"{to}\"}}"
    ))
}

/// Linux 5.14 has it.
pub fn has_kill(cgroup: &Cgroup) -> bool {
    Path::new(&cgroup.file("cgroup.kill")).exists()
}

fn kinds(agent: &Agent) -> Vec<String> {
    agent.kills().iter().map(|kill| kill["kind"].as_str().unwrap().to_owned()).collect()
}

/// Three children die, one after the other, and then the kernel takes all.
fn escalates_to_a_group() {
    let agent = Agent::start(&rules("to: group"));
    let path = "/matched/c1";
    let mut container = Container::start(path, 60, &["grower:3!", "idle"]);
    let mut other = Container::start("/matched/c2", 60, &["idle", "hog:100"]);
    eventually("the container has ended", || container.ended());
    let state = agent.container(path).unwrap();
    assert_eq!(state["escalation"]["after"], 3, "{state:#}");
    let kinds: Vec<_> = kinds(&agent).into_iter().filter(|kind| kind != "init").collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "group").count(), 1, "{kinds:?}");
    // One of them is the other container's.
    assert!(kinds.iter().filter(|kind| *kind == "subprocess").count() >= 4, "{kinds:?}");
    assert_eq!(result(&agent, "group", "ok"), 1.0);
    assert!(Agent::log().contains("Escalated repeated OOM kills."), "{}", Agent::log());
    assert!(!other.ended() && other.cgroup.oom_group() == "0", "one kill is none of many");
    eventually("what is made in it anew has the rule's value", || {
        container.cgroup.oom_group() == "0"
    });
    container.cgroup.set("memory.oom.group", "1");
    eventually("which is enforced", || container.cgroup.oom_group() == "0");
    agent.assert_nothing_lost();
}

/// Two children die, and then all of the container, with what it has made below itself.
fn escalates_to_a_restart() {
    let agent = Agent::start(&rules("after: 2, within: 10m, to: restart"));
    let path = "/matched/c1";
    let below = Cgroup::make("/matched/c1/below");
    let mut deep = run_in(&below, &["idle"]);
    eventually("it is in", || below.processes().contains(&deep.id()));
    let cgroup = Cgroup::made(path);
    // The kernel lets no process into a cgroup that gives its children controllers.
    cgroup.set("cgroup.subtree_control", "-memory");
    let mut unmatched = Container::start("/unmatched", 60, &["idle", "idle"]);
    let bystander = Cgroup::make("/matched/c2");
    let mut beside = run_in(&bystander, &["idle"]);
    let mut container = Container::start(path, 60, &["grower:3!", "idle"]);
    let init = container.init();
    eventually("the container has ended", || container.ended());
    let kinds = kinds(&agent);
    if has_kill(&cgroup) {
        assert!(kinds.iter().all(|kind| kind == "subprocess"), "{kinds:?}");
        assert!(kinds.len() >= 2, "{kinds:?}");
        assert!(!deep.wait().unwrap().success(), "what lay below it");
        eventually("it is counted", || result(&agent, "restart", "ok") == 1.0);
        assert!(!alive(init) && cgroup.processes().is_empty());
        assert_eq!(cgroup.oom_group(), "0");
    } else {
        assert!(kinds.contains(&"group".to_owned()), "{kinds:?}");
        assert_eq!(result(&agent, "restart", "group-instead"), 1.0);
        assert!(Agent::log().contains("this kernel has no cgroup.kill"), "{}", Agent::log());
        let _ = deep.kill();
        deep.wait().unwrap();
    }
    assert!(!unmatched.ended() && beside.try_wait().unwrap().is_none(), "nothing else is hit");
    beside.kill().unwrap();
    beside.wait().unwrap();
    agent.assert_nothing_lost();
}

/// Without programs there are only counts, which are kills too.
fn escalates_by_counts() {
    let flags = ["--source", "memory-events"];
    let agent = Agent::start_with(&rules("after: 2, within: 10m, to: restart"), &flags);
    let mut container = Container::start("/matched/c1", 60, &["grower:3!", "idle"]);
    eventually("the container has ended", || container.ended());
    let results = || result(&agent, "restart", "ok") + result(&agent, "restart", "group-instead");
    eventually("it is counted", || results() == 1.0);
    drop(container);
}

/// Two are due; the second has to wait, and the first is not hit again.
fn escalation_has_a_budget() {
    let flags = ["--escalation-restart-seconds", "3600"];
    let agent = Agent::start_with(&rules("after: 1, within: 10m, to: restart"), &flags);
    let mut first = Container::start("/matched/c1", 60, &["idle", "hog:100"]);
    if !has_kill(&first.cgroup) {
        return eventually("it is a group", || first.cgroup.oom_group() == "1");
    }
    eventually("the first has ended", || first.ended());
    let mut second = Container::start("/matched/c2", 60, &["idle", "hog:100"]);
    eventually("the second waits", || result(&agent, "restart", "over-budget") == 1.0);
    let state = agent.container("/matched/c2").unwrap();
    assert_eq!([&state["escalation"]["state"], &state["escalation"]["to"]], ["waiting", "restart"]);
    sleep(Duration::from_secs(2));
    assert!(!second.ended());
    assert_eq!(result(&agent, "restart", "ok"), 1.0);
    agent.assert_nothing_lost();
}

/// It says what it would do, once, and does nothing.
fn escalation_in_a_dry_run() {
    for to in ["group", "restart"] {
        let escalate = format!("after: 1, within: 10m, to: {to}");
        let path = format!("/matched/{to}");
        let cgroup = Cgroup::make(&path);
        if to == "restart" && !has_kill(&cgroup) {
            return;
        }
        let agent = Agent::start_with(&rules(&escalate), &["--dry-run"]);
        let mut container = Container::start(&path, 60, &["idle", "hog:100"]);
        container.cgroup.set("memory.oom.group", "0");
        let _kills = agent.wait_for_kills(1);
        eventually("it says so", || result(&agent, to, "dry-run") == 1.0);
        assert!(Agent::log().contains("would escalate"), "{}", Agent::log());
        assert!(!container.ended() && container.cgroup.oom_group() == "0");
        assert_eq!(result(&agent, to, "ok"), 0.0);
    }
}

/// The next agent goes on where this one was.
fn escalation_outlives_the_agent() {
    let flags = ["--state-file", "/tmp/state-escalation.json"];
    let rules = rules("after: 1, within: 10m, to: group");
    let mut agent = Agent::start_with(&rules, &flags);
    let path = "/matched/c1";
    let container = Container::start(path, 60, &["idle", "hog:100"]);
    eventually("it is a group", || container.cgroup.oom_group() == "1");
    assert!(agent.stop().success());
    assert_eq!(container.cgroup.oom_group(), "1");
    let agent = Agent::start_with(&rules, &flags);
    let state = agent.container(path).unwrap();
    let shown = [&state["wanted"], &state["effective"], &state["escalation"]["state"]];
    assert_eq!(shown, [&Value::from(1), &Value::from(1), &Value::from("group")], "{state:#}");
    assert!(!Agent::log().contains("Wrote memory.oom.group"), "{}", Agent::log());
    Agent::reconfigure(MATCHED);
    eventually("without its rule it is over", || container.cgroup.oom_group() == "0");
    std::fs::remove_file("/tmp/state-escalation.json").unwrap();
}

/// By its annotations; the pause container, and the pod's owner.
fn pod_asks_for_a_restart() {
    let mut object = pod(1, Some(ID), Some("worker=single-process"));
    object["metadata"]["annotations"]["herder.dev/oom-escalate"] = "1/10m=restart".into();
    let api = Api::start(&object);
    let sandbox = sandbox();
    let mut pause = run_in(&sandbox, &["idle"]);
    let agent = Agent::start_with("rules: []", &["--kubernetes", "on", "--node-name", "node-1"]);
    let mut container = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    let event = api.event("OOMKillsEscalated");
    let field = &event["involvedObject"]["fieldPath"];
    assert_eq!([&event["type"], field], ["Warning", "spec.containers{worker}"], "{event:#}");
    let message = event["message"].as_str().unwrap();
    assert!(message.contains("As the pod's annotation says, "), "{message}");
    if has_kill(&container.cgroup) {
        eventually("the container has ended", || container.ended());
        assert!(message.contains("all of its processes were killed"), "{message}");
        let series = r#"herder_escalations_total{result="ok",rule="annotation",to="restart"}"#;
        assert_eq!(agent.metric(series), 1.0);
    } else {
        assert_eq!(container.cgroup.oom_group(), "1");
    }
    assert!(pause.try_wait().unwrap().is_none(), "the pause container is left alone");
    assert!(agent.container(sandbox.path()).is_none_or(|state| state["escalation"].is_null()));
    pause.kill().unwrap();
    pause.wait().unwrap();
}
