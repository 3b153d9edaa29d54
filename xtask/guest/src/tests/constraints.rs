//! Does the agent report whose limit was hit: the container's, the pod's or the node's?

use crate::harness::{
    agent::{Agent, MATCHED},
    container::{Cgroup, Container, run_in},
    kill::assert_kill,
    test::{Test, tests},
    wait::{alive, eventually},
};
use serde_json::Value;
use std::fs;

pub const TESTS: &[Test] = tests![limit_of_the_pod, limit_that_is_only_a_sum, node_out_of_memory];

/// The pod's limit is hit by an allocation in one container while the biggest
/// process is in another: the victim's container is reported, not the trigger's.
fn limit_of_the_pod() {
    the_pods_limit_is_hit(&Agent::start(IN_POD));
}

/// Rules that match every container of `/pod`.
pub const IN_POD: &str = "rules:\n- {name: m, cgroups: ['/pod/*'], oomGroup: single-process}\n";

pub fn the_pods_limit_is_hit(agent: &Agent) {
    let pod = Cgroup::make("/pod");
    pod.limit(120);
    let victim = Container::start("/pod/c2", 1000, &["hog:90"]);
    eventually("the hog has grown", || {
        let current = fs::read_to_string(victim.cgroup.file("memory.current")).unwrap();
        current.trim().parse::<u64>().unwrap() > 90 << 20
    });
    let trigger = Container::start("/pod/c1", 1000, &["hog:60"]);
    // Before the victim's memory is free the limit may be hit once more.
    eventually("a kill", || !agent.kills().is_empty());
    let kills = agent.kills();
    assert_kill(&kills[0], "subprocess", "pod", "/pod/c2");
    assert_eq!(kills[0]["trigger"]["cgroup_id"], trigger.cgroup.id());
    assert!(alive(trigger.init()) && alive(victim.init()));
    agent.assert_nothing_lost();
}

/// The pod's limit is that of its only container, and is hit first since the pause
/// container counts too.
fn limit_that_is_only_a_sum() {
    let agent = Agent::start(IN_POD);
    let pod = Cgroup::make("/pod");
    pod.limit(60);
    let mut pause = run_in(&Cgroup::make("/pod/pause"), &["idle"]);
    let container = Container::start("/pod/c1", 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "subprocess", "container", "/pod/c1");
    let limits = ["limit_cgroup", "limit_bytes", "container_limit_bytes"].map(|key| &kills[0][key]);
    assert_eq!(limits, [&"/pod".into(), &Value::from(60 << 20), &Value::from(60 << 20)]);
    let events = fs::read_to_string(container.cgroup.file("memory.events.local")).unwrap();
    assert!(events.lines().any(|line| line == "oom 0"), "the kernel hit the pod's: {events}");
    pause.kill().unwrap();
    pause.wait().unwrap();
    agent.assert_nothing_lost();
}

/// No cgroup has a limit, and the node is full.
fn node_out_of_memory() {
    let agent = Agent::start(MATCHED);
    let cgroup = Cgroup::make("/matched/c1");
    // To fill the node takes as long as the emulator needs; only the report is the agent's.
    run_in(&cgroup, &["grower", "32"]).wait().unwrap();
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "subprocess", "node", "/matched/c1");
    agent.assert_nothing_lost();
}
