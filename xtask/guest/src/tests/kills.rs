//! Does the agent report each kind of kill, with all of its processes?

use crate::harness::{
    agent::{Agent, MATCHED},
    container::{Cgroup, Container, run_in},
    kill::assert_kill,
    say::say,
    test::{Test, tests},
    wait::{alive, eventually},
};
use serde_json::Value;
use std::{
    fs,
    os::unix::process::ExitStatusExt,
    thread::sleep,
    time::{Duration, Instant},
};

pub const TESTS: &[Test] = tests![
    subprocess_kill,
    continuing_kills,
    group_kill,
    group_kill_of_a_container,
    group_kill_of_one,
    group_kill_inside,
    init_is_the_victim,
    unkillable_member_survives
];

fn rss(kill: &Value) -> u64 {
    kill["victim"]["anon_rss"].as_u64().unwrap() >> 20
}

/// One process of a steered container dies, and only that one.
fn subprocess_kill() {
    let agent = Agent::start(MATCHED);
    let mut container = Container::start_governed("/matched/c1", 100, &["idle", "idle", "hog:200"]);
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "subprocess", "container", "/matched/c1");
    assert_eq!(kills[0]["rule"], "matched");
    assert_eq!(kills[0]["processes"], 1);
    assert!(kills[0]["victim"]["ns_pid"].as_u64().unwrap() > 1);
    assert!((50..=100).contains(&rss(&kills[0])), "{:#}", kills[0]);
    assert_eq!(kills[0]["trigger"]["cgroup_id"], container.cgroup.id());
    let victim = u32::try_from(kills[0]["victim"]["pid"].as_u64().unwrap()).unwrap();
    assert!(!alive(victim) && alive(container.init()) && !container.ended());
    assert_eq!(container.cgroup.processes().len(), 3, "the init and its other children");
    assert_eq!(container.cgroup.oom_group(), "0");
    let series =
        r#"herder_host_oom_kills_total{cgroup="/matched/c1",kind="subprocess",limit="container"}"#;
    assert_eq!(agent.metric(series), 1.0);
    assert_eq!(agent.metric(r#"herder_host_oom_group{cgroup="/matched/c1"}"#), 0.0);
    eventually("the exit is counted", || agent.metric("herder_victim_exit_seconds_count") == 1.0);
    assert_eq!(agent.metric("herder_kill_report_seconds_count"), 1.0);
    agent.assert_nothing_lost();
}

/// The use for which the product exists: children die for half a minute, the init
/// never. What the init saw die is the truth that the agent's reports are held against.
fn continuing_kills() {
    let agent = Agent::start(MATCHED);
    let mut container = Container::start("/matched/c1", 80, &["grower:4!", "grower:3!", "idle"]);
    let init = container.init();
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        assert!(!container.ended(), "the container ended");
        sleep(Duration::from_millis(100));
    }
    assert_eq!(container.init(), init);
    // Stop the growth, then compare.
    container.cgroup.set("memory.max", "max");
    sleep(Duration::from_secs(2));
    let (deaths, kills) = (container.deaths(), agent.kills());
    assert!(deaths >= 3, "only {deaths} kills in half a minute");
    assert_eq!(kills.len(), deaths);
    assert_eq!(container.cgroup.event("oom_kill"), u64::try_from(deaths).unwrap());
    for kill in &kills {
        assert_kill(kill, "subprocess", "container", "/matched/c1");
    }
    say(&agent.median("herder_kill_report_seconds"));
    say(&agent.median("herder_victim_exit_seconds"));
    agent.assert_nothing_lost();
}

/// An unmatched cgroup dies whole: one kill, three processes.
fn group_kill() {
    let agent = Agent::start(MATCHED);
    let cgroup = Cgroup::make("/unmatched");
    cgroup.limit(100);
    cgroup.set("memory.oom.group", "1");
    let mut members: Vec<_> = ["idle", "idle"].map(|role| run_in(&cgroup, &[role])).into();
    eventually("both are in", || cgroup.processes().len() == 2);
    members.push(run_in(&cgroup, &["hog", "200"]));
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "group", "container", "/unmatched");
    assert_eq!(kills[0]["processes"], 3, "{:#}", kills[0]);
    assert_eq!(kills[0]["rule"], Value::Null);
    for member in &mut members {
        assert_eq!(member.wait().unwrap().signal(), Some(9));
    }
    agent.assert_nothing_lost();
}

/// A container dies whole. Its init is among the group, and when that goes, the
/// kernel kills the rest of the namespace too: some members may be gone before
/// they are marked, and only those that were marked are reported.
fn group_kill_of_a_container() {
    let agent = Agent::start(MATCHED);
    let mut container = Container::start("/unmatched", 100, &["idle", "hog:200"]);
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "group", "container", "/unmatched");
    let processes = kills[0]["processes"].as_u64().unwrap();
    assert!((1..=3).contains(&processes), "{:#}", kills[0]);
    eventually("the container ended", || container.cgroup.processes().is_empty());
    eventually("its init is reaped", || container.ended());
    agent.assert_nothing_lost();
}

/// With one process a group kill looks like any other, but is none.
fn group_kill_of_one() {
    let agent = Agent::start(MATCHED);
    let _container = Container::start_program("/unmatched", 50, &["hog", "100"]);
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "group", "container", "/unmatched");
    assert_eq!(kills[0]["processes"], 1);
    agent.assert_nothing_lost();
}

/// A container has made a cgroup that is killed as a group. It lives on, unless its init is
/// in that. Neither is its value the agent's.
fn group_kill_inside() {
    let agent = Agent::start(MATCHED);
    for (number, path) in (1..).zip(["/matched/c1", "/matched/c2"]) {
        let init_in_job = number == 2;
        let (mut container, job) = Container::start_with_job(path, init_in_job);
        let whole = Cgroup::made(path);
        eventually("the container's own is 0", || whole.oom_group() == "0");
        run_in(&job, &["hog", "100"]).wait().unwrap();
        let kill = &agent.wait_for_kills(number)[number - 1];
        assert_kill(kill, "group", "container", job.path());
        assert_eq!([&kill["group_cgroup"], &kill["rule"]], [job.path(), "matched"], "{kill:#}");
        let processes = kill["processes"].as_u64().unwrap();
        if init_in_job {
            // When the init goes, the kernel ends what it has not marked yet.
            assert!((2..=4).contains(&processes), "{kill:#}");
            eventually("the container ended", || container.ended());
        } else {
            assert_eq!(processes, 3, "{kill:#}");
            eventually("both were reaped", || container.deaths() == 2);
            let lives_on = r#"herder_host_oom_kills_total{cgroup="/matched/c1",kind="subprocess",limit="container"}"#;
            assert_eq!(agent.metric(lives_on), 1.0);
            assert!(alive(container.init()) && !container.ended());
        }
        assert_eq!(job.oom_group(), "1", "not the agent's");
    }
    agent.assert_nothing_lost();
}

/// The init dies, and with it, unmarked, all of its namespace.
fn init_is_the_victim() {
    let agent = Agent::start(MATCHED);
    let mut container = Container::start_program("/matched/c1", 60, &["greedy-init", "100"]);
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "init", "container", "/matched/c1");
    assert_eq!((&kills[0]["processes"], &kills[0]["victim"]["ns_pid"]), (&1.into(), &1.into()));
    eventually("the container ended", || container.ended());
    eventually("its sibling died with it", || container.cgroup.processes().is_empty());
    agent.assert_nothing_lost();
}

/// A member with oom_score_adj -1000 is left out of a group kill.
fn unkillable_member_survives() {
    let agent = Agent::start(MATCHED);
    let cgroup = Cgroup::make("/unmatched");
    cgroup.limit(60);
    cgroup.set("memory.oom.group", "1");
    let mut protected = run_in(&cgroup, &["idle"]);
    fs::write(format!("/proc/{}/oom_score_adj", protected.id()), "-1000").unwrap();
    let mut idle = run_in(&cgroup, &["idle"]);
    eventually("both are in", || cgroup.processes().len() == 2);
    let mut hog = run_in(&cgroup, &["hog", "100"]);
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "group", "container", "/unmatched");
    assert_eq!(kills[0]["processes"], 2, "{:#}", kills[0]);
    assert!(alive(protected.id()));
    protected.kill().unwrap();
    for child in [&mut protected, &mut idle, &mut hog] {
        child.wait().unwrap();
    }
    agent.assert_nothing_lost();
}
