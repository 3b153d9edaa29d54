//! What happens when the kernel has more notifications than inotify's queue holds?

use crate::harness::{
    agent::{Agent, MATCHED},
    container::{Cgroup, Container, run_in},
    kill::assert_kill,
    sysctl::Sysctl,
    test::{Test, tests},
    wait::eventually,
};

pub const TESTS: &[Test] =
    tests![values_that_overflow_are_corrected, counts_that_overflow_are_read];

/// Notifications that a queue holds. It is read when the agent makes its queues.
const QUEUE: &str = "4";

/// More than that, and each is a notification of its own.
const MANY: usize = 20;

/// No resync corrects in time what the overflow has hidden.
const RARELY: [&str; 2] = ["--resync-seconds", "3600"];

fn overflows(agent: &Agent, queue: &str) -> f64 {
    agent.metric(&format!("herder_records_lost_total{{reason=\"{queue}-queue-full\"}}"))
}

/// Something writes more values than the agent is notified of.
fn values_that_overflow_are_corrected() {
    let _queue = Sysctl::set("fs.inotify.max_queued_events", QUEUE);
    let agent = Agent::start_with(MATCHED, &RARELY);
    let paths = (0..MANY).map(|number| format!("/matched/c{number}"));
    let cgroups: Vec<_> = paths.map(|path| Cgroup::make(&path)).collect();
    let all_are_0 = || cgroups.iter().all(|cgroup| cgroup.oom_group() == "0");
    for cgroup in &cgroups {
        cgroup.set("memory.oom.group", "1");
        eventually("the first value is corrected", || cgroup.oom_group() == "0");
    }
    let reverts = || agent.metric(r#"herder_oom_group_reverts_total{rule="matched"}"#);
    let before = (overflows(&agent, "value"), reverts());
    agent.pause();
    for cgroup in &cgroups {
        cgroup.set("memory.oom.group", "1");
    }
    assert!(!all_are_0());
    agent.resume();
    eventually("all are corrected", all_are_0);
    // The agent's own writes may be too many for the queue too.
    eventually("the overflow is counted", || overflows(&agent, "value") > before.0);
    assert_eq!(reverts(), before.1 + MANY as f64, "and each is a revert");
    agent.assert_nothing_lost();
}

/// Without eBPF. A kill and a new cgroup come when the queue is full.
fn counts_that_overflow_are_read() {
    let _queue = Sysctl::set("fs.inotify.max_queued_events", QUEUE);
    let flags = [&RARELY[..], &["--source", "memory-events"]].concat();
    let agent = Agent::start_with(MATCHED, &flags);
    let container = Container::start_governed("/matched/c1", 60, &["idle"]);
    let before = overflows(&agent, "count");
    agent.pause();
    for number in 0..MANY {
        Cgroup::make(&format!("/noise-{number}")).remove();
    }
    run_in(&container.cgroup, &["hog", "100"]).wait().unwrap();
    assert_eq!(container.cgroup.event("oom_kill"), 1);
    let new = Cgroup::make("/matched/new");
    new.set("memory.oom.group", "1");
    agent.resume();
    eventually("the overflow is counted", || overflows(&agent, "count") > before);
    eventually("the new cgroup is found", || new.oom_group() == "0");
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "subprocess", "container", "/matched/c1");
    agent.assert_nothing_lost();
}
