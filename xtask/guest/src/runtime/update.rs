//! A real `update` brings the 1 back, as the kubelet's resize does; and so may
//! anybody.

use super::{
    bundle::{Name, WEB, object, resources},
    engine::Engine,
    trace::{Trace, What},
    web::agent,
};
use crate::harness::{agent::Agent, api::Api, container::write_one, say::say, wait::eventually};
use serde_json::json;
use std::{thread::sleep, time::Duration};

const WORKER: Name = Name { pod: WEB, container: "worker", number: 1 };

const REVERTS: &str = r#"herder_oom_group_reverts_total{rule="web"}"#;

pub fn update(engine: Engine) {
    let api = Api::serve(&[object(WEB, &[WORKER])]);
    let agent = agent();
    let _daemon = engine.begin();
    let worker = engine.run(WORKER, 64, &["/init", "role", "idle"]);
    worker.wait_for_processes(1);
    eventually("it is steered", || worker.cgroup.oom_group() == "0");
    listed_once(&agent, &engine);
    // Where the pod is known only after the runtime has made the cgroup, its own 1 is one.
    let begun = agent.metric(REVERTS);
    let reverts = || agent.metric(REVERTS) - begun;
    let trace = Trace::start();
    for (number, mebibytes) in [(1.0, 96), (2.0, 128), (3.0, 96)] {
        engine.update(&WORKER, &resources(mebibytes));
        eventually("it is back to 0", || reverts() >= number && worker.cgroup.oom_group() == "0");
        let limit = std::fs::read_to_string(worker.cgroup.file("memory.max")).unwrap();
        assert_eq!(limit.trim(), (mebibytes << 20).to_string(), "the update was one");
    }
    assert_eq!(reverts(), 3.0);
    let ones = ones(&trace);
    say(&format!("{}: 3 updates with memory.oom.group wrote 1 {ones} times", engine.version()));
    // The kubelet resizes memory and CPUs by an update of its own each.
    for shares in [1024, 2048] {
        let mut both = resources(128);
        both["cpu"]["shares"] = shares.into();
        let before = reverts();
        engine.update(&WORKER, &both);
        eventually("it is counted", || reverts() > before);
        eventually("it is back to 0", || worker.cgroup.oom_group() == "0");
    }
    assert_eq!(reverts(), 5.0, "two for a resize of both");
    let ones = self::ones(&trace);
    // As CRI-O passes on a change of CPUs, without what the kubelet once sent.
    engine.update(&WORKER, &json!({"cpu": {"shares": 512}}));
    sleep(Duration::from_millis(500));
    let more = self::ones(&trace) - ones;
    say(&format!("{}: an update without it wrote 1 {more} times", engine.version()));
    eventually("it is 0 all the same", || worker.cgroup.oom_group() == "0");
    drop(trace);
    let before = reverts();
    write_one(&worker.cgroup, 1000);
    eventually("all are counted", || reverts() >= before + 1000.0);
    assert_eq!(reverts(), before + 1000.0);
    assert!(!Agent::log().contains("is not enforceable"), "{}", Agent::log());
    assert_eq!(api.events("OomGroupNotEnforceable"), [] as [serde_json::Value; 0]);
}

/// One container, one row, whatever cgroups its runtime has made for it.
fn listed_once(agent: &Agent, engine: &Engine) {
    let rows = agent.containers();
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!(rows[0]["owner"]["container"], WORKER.container);
    let scope = WORKER.cgroup(engine.is_systemd());
    assert_eq!(rows[0]["cgroup"], *scope, "the container's own");
    let inner = engine.inner().map(|inner| format!("{scope}{inner}"));
    assert_eq!(rows[0]["inner_cgroup"].as_str(), inner.as_deref());
    let values = agent.get("/metrics");
    let values = values.lines().filter(|line| line.starts_with("herder_container_oom_group{"));
    assert_eq!(values.count(), 1);
}

/// How often 1 was written.
fn ones(trace: &Trace) -> usize {
    let one = |what: &What| matches!(what, What::Write { value, .. } if value == "1");
    trace.seen().iter().filter(|seen| one(&seen.what)).count()
}
