//! Without eBPF: what does an agent report that only reads the kernel's counts?

use crate::harness::{
    agent::{Agent, MATCHED, capabilities},
    container::{Cgroup, Container, run_in},
    creations::assert_corrected_in_time,
    kill::assert_kill,
    test::{Test, tests},
    wait::eventually,
};
use serde_json::Value;
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    thread::sleep,
    time::{Duration, Instant},
};

pub const TESTS: &[Test] = tests![
    counted_kinds_and_limits,
    counted_storm,
    counted_when_gone,
    refused_programs_are_reported,
    fallback_is_a_failure
];

pub const TIMED: &[Test] = tests![counted_creations];

/// For a kernel that is locked down, which it stays until it is booted anew.
pub const TESTS_OF_LOCKDOWN: &[Test] = tests![locked_down];

/// A kernel that protects its integrity lets the programs read, one that keeps its memory
/// confidential does not.
fn locked_down() {
    for (level, source) in [("integrity", "ebpf"), ("confidentiality", "memory-events")] {
        fs::write("/sys/kernel/security/lockdown", level).unwrap();
        let mut agent = Agent::spawn(MATCHED, &[], &capabilities()).reads(source);
        agent.wait_until_ready();
        let (_, ready) = agent.try_get("/readyz").unwrap();
        assert!(ready.contains(&format!("source: {source}")), "{level}: {ready} {}", Agent::log());
        let container = Container::start_governed("/matched/c1", 100, &["idle", "hog:200"]);
        let kills = agent.wait_for_kills(1);
        assert_kill(&kills[0], "subprocess", "container", "/matched/c1");
        assert_eq!(container.cgroup.oom_group(), "0", "{level}");
        agent.assert_nothing_lost();
        assert_eq!(Agent::log().contains("lockdown"), source != "ebpf", "{}", Agent::log());
        assert!(agent.stop().success());
    }
}

/// A test that wants the programs fails where the agent runs without them: here it may not
/// load any.
fn fallback_is_a_failure() {
    let mut agent = Agent::spawn(MATCHED, &[], &[]).reads("ebpf");
    let waited = catch_unwind(AssertUnwindSafe(|| agent.wait_until_ready()));
    let why = waited.unwrap_err();
    let why = why.downcast_ref::<String>().unwrap();
    assert!(why.contains("the agent's source") && why.contains("CAP_BPF"), "{why}");
}

/// Without any capability, as where nothing but the kernel's counts may be read.
fn unprivileged(flags: &[&str]) -> Agent {
    let mut agent = Agent::spawn(MATCHED, flags, &[]);
    agent.wait_until_ready();
    agent
}

fn counted_kinds_and_limits() {
    let agent = unprivileged(&[]);
    let (_, ready) = agent.try_get("/readyz").unwrap();
    assert!(ready.contains("source: memory-events"), "{ready}");
    assert!(agent.get("/metrics").contains(r#"source="memory-events""#));

    let mut container = Container::start_governed("/matched/c1", 100, &["idle", "hog:200"]);
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "subprocess", "container", "/matched/c1");
    assert_eq!((&kills[0]["rule"], &kills[0]["processes"]), (&"matched".into(), &1.into()));
    assert_eq!((&kills[0]["victim"]["pid"], &kills[0]["trigger"]), (&Value::Null, &Value::Null));
    assert!(!container.ended());
    assert_eq!(container.cgroup.oom_group(), "0");

    let mut init = Container::start_program("/matched/c2", 60, &["greedy-init", "100"]);
    let kills = agent.wait_for_kills(2);
    assert_kill(&kills[1], "init", "container", "/matched/c2");
    eventually("its container ended", || init.ended());

    let group = Cgroup::make("/unmatched");
    group.limit(100);
    group.set("memory.oom.group", "1");
    let mut members: Vec<_> = ["idle", "idle"].map(|role| run_in(&group, &[role])).into();
    eventually("both are in", || group.processes().len() == 2);
    members.push(run_in(&group, &["hog", "200"]));
    let kills = agent.wait_for_kills(3);
    assert_kill(&kills[2], "group", "container", "/unmatched");
    assert_eq!((&kills[2]["processes"], &kills[2]["rule"]), (&3.into(), &Value::Null));
    for mut member in members {
        member.wait().unwrap();
    }

    // A group that a container has made of its own.
    let (mut living, job) = Container::start_with_job("/matched/c3", false);
    run_in(&job, &["hog", "100"]).wait().unwrap();
    let kills = agent.wait_for_kills(4);
    assert_kill(&kills[3], "group", "container", job.path());
    assert_eq!([&kills[3]["group_cgroup"], &kills[3]["rule"]], [job.path(), "matched"]);
    assert_eq!(kills[3]["processes"], 3);
    assert!(!living.ended());

    // What is made in a directory that was made just before.
    let pod = Cgroup::make("/pod");
    pod.limit(120);
    let victim = Container::start("/pod/deep/c2", 1000, &["hog:90"]);
    eventually("the hog has grown", || {
        let current = fs::read_to_string(victim.cgroup.file("memory.current")).unwrap();
        current.trim().parse::<u64>().unwrap() > 90 << 20
    });
    victim.cgroup.set("memory.oom.group", "0");
    let _trigger = Container::start("/pod/c1", 1000, &["hog:60"]);
    // The pod's limit may be hit once more before the victim's memory is free.
    let killed = || agent.kills().into_iter().find(|kill| kill["cgroup"] == "/pod/deep/c2");
    eventually("the hog's kill is reported", || killed().is_some());
    assert_kill(&killed().unwrap(), "subprocess", "pod", "/pod/deep/c2");
    agent.assert_nothing_lost();
}

/// Children die for 20 seconds. What their init saw die is the truth.
fn counted_storm() {
    let agent = unprivileged(&["--source", "memory-events"]);
    let children = ["grower:4!", "grower:3!", "idle"];
    let mut container = Container::start("/matched/c1", 60, &children);
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        assert!(!container.ended(), "the container ended");
        sleep(Duration::from_millis(100));
    }
    container.cgroup.set("memory.max", "max");
    sleep(Duration::from_secs(3));
    let (deaths, kills) = (container.deaths(), agent.kills());
    assert!(deaths >= 3, "only {deaths} kills in 20 seconds");
    assert_eq!(kills.len(), deaths);
    for kill in &kills {
        assert_kill(kill, "subprocess", "container", "/matched/c1");
    }
    agent.assert_nothing_lost();
}

/// A cgroup goes with a count that the agent has not read, but the node's own count stays.
fn counted_when_gone() {
    let agent = unprivileged(&["--source", "memory-events", "--resync-seconds", "1"]);
    let cgroup = Cgroup::make("/gone");
    cgroup.limit(40);
    cgroup.set("memory.oom.group", "0");
    // Longer than two looks at everything: what was before is settled.
    sleep(Duration::from_secs(3));
    agent.pause();
    run_in(&cgroup, &["hog", "100"]).wait().unwrap();
    assert_eq!(cgroup.event("oom_kill"), 1);
    cgroup.remove();
    agent.resume();
    let unseen = r#"herder_kills_unseen_total{reason="missed"}"#;
    eventually("it is counted as missed", || agent.metric(unseen) == 1.0);
    assert_eq!(agent.kills(), [] as [Value; 0]);
}

/// An operator who asks for the programs gets them, or an error.
fn refused_programs_are_reported() {
    let mut agent = Agent::spawn(MATCHED, &["--source", "ebpf"], &[]);
    assert_eq!(agent.wait().code(), Some(1));
    let log = Agent::log();
    assert!(log.contains("CAP_BPF") && log.contains("CAP_PERFMON"), "{log}");
    drop(agent);
    let mut agent = unprivileged(&["--source", "auto"]);
    let log = Agent::log();
    assert!(log.contains("CAP_BPF") && log.contains("Kills are counted by memory.events"), "{log}");
    assert_eq!(agent.metric("herder_ebpf_refused"), 1.0);
    assert!(agent.stop().success());
    // Where counts were asked for, nothing was refused.
    let agent = unprivileged(&["--source", "memory-events"]);
    assert_eq!(agent.metric("herder_ebpf_refused"), 0.0);
}

/// No program may run with the runtime's value, though nothing but inotify reports its
/// cgroup.
fn counted_creations() {
    let agent = unprivileged(&["--source", "memory-events"]);
    assert_corrected_in_time(&agent, 100);
}
