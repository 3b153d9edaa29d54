//! What happens when another program writes the value back, again and again?

use crate::harness::{
    agent::{Agent, MATCHED},
    container::{Cgroup, Container, write_one},
    role::role,
    say::say,
    test::{Test, tests},
    wait::eventually,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{fs, process::ExitCode, thread::sleep, time::Duration};

pub const TESTS: &[Test] = tests![fight_without_end];

/// What depends on nothing else being emulated beside it.
pub const TIMED: &[Test] = tests![thousand_reverts];

/// Another process writes 1, and again as soon as it is back to 0.
fn thousand_reverts() {
    let agent = Agent::start(MATCHED);
    let cgroup = Cgroup::make("/matched/c1");
    eventually("it is governed", || agent.container("/matched/c1").is_some());
    write_one(&cgroup, 1001);
    eventually("all are counted", || {
        agent.metric(r#"herder_oom_group_writes_total{result="ok",rule="matched"}"#) == 1001.0
    });
    // The first write is what the runtime does at creation, and no revert.
    assert_eq!(agent.metric(r#"herder_oom_group_reverts_total{rule="matched"}"#), 1000.0);
    assert_eq!(agent.metric("herder_enforce_seconds_count"), 1001.0);
    say(&agent.median("herder_enforce_seconds"));
    let state = agent.container("/matched/c1").unwrap();
    assert_eq!((&state["reverts"], &state["first"]), (&1000.into(), &1.into()));
}

/// A process writes 1 for ever: kills elsewhere are reported all the same, and the
/// agent ends when it is asked to.
fn fight_without_end() {
    let mut agent = Agent::start(MATCHED);
    let fought = Cgroup::make("/matched/c1");
    let mut fighter = role("fight", &[fought.path()]).spawn().unwrap();
    eventually("they fight", || agent.total("herder_oom_group_reverts_total") > 100.0);
    let container = Container::start_governed("/matched/c2", 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    assert_eq!([&kills[0]["kind"], &kills[0]["cgroup"]], ["subprocess", "/matched/c2"]);
    assert!(agent.container("/matched/c1").is_some(), "the core answers");
    agent.assert_nothing_lost();
    let reverts = || agent.total("herder_oom_group_reverts_total");
    eventually("the agent has had enough", || {
        let before = reverts();
        sleep(Duration::from_secs(1));
        reverts() - before < 20.0
    });
    assert!(reverts() > 1500.0, "only {} were answered", reverts());
    let (before, spent) = (reverts(), agent.total("process_cpu_seconds_total"));
    sleep(Duration::from_secs(5));
    let (answers, spent) = (reverts() - before, agent.total("process_cpu_seconds_total") - spent);
    say(&format!("in 5 s of a long fight: {answers} corrections, {spent:.2} s of CPU"));
    // Twenty a second at most; the host may make the seconds longer.
    assert!((10.0..=200.0).contains(&answers), "{answers} corrections in 5 s");
    let pid = Pid::from_raw(i32::try_from(fighter.id()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    eventually("the agent has the last word", || fought.oom_group() == "0");
    kill_process(pid, Signal::CONT).unwrap();
    assert!(agent.stop().success());
    fighter.kill().unwrap();
    fighter.wait().unwrap();
    drop(container);
}

/// The role of [`fight_without_end`].
pub fn fight(rest: &[&str]) -> ExitCode {
    loop {
        fs::write(format!("/sys/fs/cgroup{}/memory.oom.group", rest[0]), "1").unwrap();
    }
}
