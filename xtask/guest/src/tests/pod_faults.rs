//! Faults of the API server, and of who makes pods. None of them may cost a kill, a write,
//! or more Events than a user reads.

use crate::harness::{
    agent::Agent,
    api::Api,
    container::{Cgroup, Container},
    pod::{ID, agent, cgroup, pod},
    role::role,
    say::say,
    test::{Test, tests},
    wait::eventually,
};
use serde_json::{Value, json};
use std::{
    thread::{self, sleep},
    time::{Duration, Instant},
};

pub const TESTS: &[Test] = tests![
    pods_come_and_go,
    watch_is_cut_each_second,
    api_server_goes_away,
    pod_of_reverts_has_one_event,
    pod_has_its_event_before_the_agent_ends
];

/// Another pod like the one of the other tests, and the cgroup of its container.
fn numbered(number: u32) -> (Value, String) {
    let (uid, id) = (format!("00000000-0000-4000-8000-{number:012x}"), format!("{number:064x}"));
    let mut pod = pod(number + 10, Some(&id), None);
    pod["metadata"]["uid"] = json!(uid);
    pod["metadata"]["name"] = json!(format!("job-{number}"));
    (pod, format!("/kubepods/burstable/pod{uid}/{id}"))
}

/// Pods that are gone at once, as many a second as the machine makes; of one in ten a
/// sub-process is killed.
fn pods_come_and_go() {
    const PODS: u32 = 200;
    const KILLED: u32 = 10;
    let api = Api::start(&pod(1, Some(ID), None));
    let agent = agent(&[]);
    let began = Instant::now();
    let one = |number: u32| {
        let (pod, path) = numbered(number);
        api.push("ADDED", &pod);
        let cgroup = Cgroup::make(&path);
        if number.is_multiple_of(KILLED) {
            let _container = Container::start(&path, 20, &["idle", "hog:40"]);
            eventually("its child is killed", || cgroup.event("oom_kill") == 1);
        } else {
            cgroup.set("memory.oom.group", "1");
            eventually("it is steered", || cgroup.oom_group() == "0");
        }
        cgroup.remove();
        let (above, _) = path.rsplit_once('/').unwrap();
        Cgroup::made(above).remove();
        api.push("DELETED", &pod);
    };
    thread::scope(|scope| {
        for first in 0..4 {
            scope.spawn(move || (first..PODS).step_by(4).for_each(one));
        }
    });
    let rate = f64::from(PODS) / began.elapsed().as_secs_f64();
    say(&format!("{PODS} pods came and went, {rate:.0} a second"));
    let kills = agent.wait_for_kills((PODS / KILLED) as usize);
    for kill in &kills {
        let reported = ["namespace", "container", "kind", "rule"].map(|key| kill[key].clone());
        assert_eq!(reported, ["shop", "worker", "subprocess", "web"], "{kill:#}");
        assert!(kill["pod"].as_str().unwrap().starts_with("job-"), "{kill:#}");
    }
    eventually("none is left", || !agent.get("/api/v1/containers").contains("job-"));
    agent.assert_nothing_lost();
}

/// A watch that ends after each second loses no pod, however long the agent then waits: up
/// to a minute, if that goes on.
fn watch_is_cut_each_second() {
    const CUTS: u32 = 5;
    let api = Api::start(&pod(1, Some(ID), None));
    let agent = agent(&[]);
    let mut containers = Vec::new();
    for number in 0..CUTS {
        let (pod, path) = numbered(number);
        api.push("ADDED", &pod);
        let container = Container::start(&path, 60, &["idle", "hog:100"]);
        eventually("it is steered", || container.cgroup.oom_group() == "0");
        containers.push(container);
        sleep(Duration::from_secs(1));
        api.cut();
    }
    let kills = agent.wait_for_kills(CUTS as usize);
    for (number, kill) in kills.iter().enumerate() {
        assert_eq!(kill["pod"], format!("job-{number}"), "{kill:#}");
    }
    agent.assert_nothing_lost();
}

/// Meanwhile values are enforced and kills reported of the pods that are known. Those of others
/// wait for their names; afterwards all goes on.
fn api_server_goes_away() {
    let api = Api::start(&pod(1, Some(ID), None));
    let agent = agent(&[]);
    let known = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    agent.wait_for_kills(1);
    api.go_away();
    known.cgroup.set("memory.oom.group", "1");
    eventually("the value is kept", || known.cgroup.oom_group() == "0");
    let (new, path) = numbered(1);
    let late = Container::start(&path, 60, &["idle", "hog:100"]);
    eventually("it is killed", || late.cgroup.event("oom_kill") > 0);
    sleep(Duration::from_secs(5));
    assert!(agent.total("herder_api_errors_total") > 0.0);
    api.come_back();
    api.push("ADDED", &new);
    let kills = agent.wait_for_kills(2);
    assert_eq!([&kills[0]["pod"], &kills[1]["pod"]], ["web-0", "job-1"], "{:#}", kills[1]);
    let (more, path) = numbered(2);
    api.push("ADDED", &more);
    let after = Container::start(&path, 60, &["idle"]);
    eventually("it is steered", || after.cgroup.oom_group() == "0");
    agent.assert_nothing_lost();
}

/// A process writes a pod's value without end: one Event says so, and the agent takes less CPU
/// than the writer.
fn pod_of_reverts_has_one_event() {
    let api = Api::start(&pod(1, Some(ID), None));
    let agent = agent(&[]);
    let container = Container::start(&cgroup(), 60, &["idle"]);
    eventually("the rule holds", || container.cgroup.oom_group() == "0");
    let mut fighter = role("fight", &[&cgroup()]).spawn().unwrap();
    api.event("OomGroupReverted");
    eventually("the agent has had enough", || rested(&agent));
    let spent = || [agent.pid(), fighter.id()].map(cpu);
    let before = spent();
    sleep(Duration::from_secs(5));
    let [agents, fighters] = [0, 1].map(|which| spent()[which] - before[which]);
    say(&format!("in 5 s of a long fight: {agents} ticks of CPU, its opponent {fighters}"));
    assert!(agents * 4 < fighters, "{agents} of {fighters} ticks");
    assert_eq!(api.events("OomGroupReverted").len(), 1);
    fighter.kill().unwrap();
    fighter.wait().unwrap();
}

/// An agent that ends writes what it has yet to report, and warns of nothing if it could.
fn pod_has_its_event_before_the_agent_ends() {
    let api = Api::start(&pod(1, Some(ID), None));
    let mut agent = agent(&[]);
    let _container = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    eventually("the kill is reported", || agent.kills().len() == 1);
    assert!(agent.stop().success());
    let events = api.events("SubprocessOOMKilled");
    assert_eq!(events.len(), 1, "{events:#?}");
    let log = Agent::log();
    assert!(!log.contains("not written"), "{log}");
}

fn rested(agent: &Agent) -> bool {
    let reverts = || agent.total("herder_oom_group_reverts_total");
    let before = reverts();
    sleep(Duration::from_secs(1));
    reverts() - before < 20.0
}

/// Ticks of CPU that a process has had, its own and the kernel's for it (proc(5), `stat`).
fn cpu(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let fields = rest.split_whitespace().skip(11).take(2);
    fields.map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}
