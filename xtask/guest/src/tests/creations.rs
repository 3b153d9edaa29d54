//! Does a container's program ever run with the runtime's 1?

use crate::harness::{
    agent::{Agent, MATCHED},
    container::Cgroup,
    creations::{
        assert_corrected_in_time, creations_that_saw_one, creations_that_wait, saw_one_with_weight,
        while_busy, while_others_spin,
    },
    http,
    say::say,
    test::{Test, tests},
    wait::eventually,
};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

/// What depends on nothing else being emulated beside it.
pub const TIMED: &[Test] = tests![
    created_like_runc,
    created_uncorrected,
    created_on_a_busy_node,
    created_with_little_weight
];

/// As runc makes a container: cgroup, process, limits, memory.oom.group=1 last;
/// some milliseconds later its program runs. It must never see the 1.
fn created_like_runc() {
    let agent = Agent::start(MATCHED);
    assert_corrected_in_time(&agent, 200);
}

/// The test of the test: without corrections every program runs with 1.
fn created_uncorrected() {
    let _agent = Agent::start_with(MATCHED, &["--dry-run"]);
    assert_eq!(creations_that_saw_one(20), 20);
}

/// Every CPU has more to do than it can. The scheduler may then keep the agent waiting longer
/// than the runtime takes, so how many programs run with 1 is a figure (`cargo xtask bench
/// --only busy`) and no promise. What holds is that each is corrected, once.
fn created_on_a_busy_node() {
    let agent = Agent::start(MATCHED);
    while_busy(|| creations_that_wait(BUSY));
    let written = r#"herder_oom_group_writes_total{result="ok",rule="matched"}"#;
    eventually("all writes are counted", || agent.metric(written) >= f64::from(BUSY));
    assert_eq!(agent.total("herder_oom_group_writes_total"), f64::from(BUSY));
    assert_eq!(agent.total("herder_oom_group_reverts_total"), 0.0);
}

/// The least weight that a request gives a pod's processes is enough if they may run before
/// ordinary ones, also while the long metrics of many containers are written for a client.
/// Without that 52 of 60 ran with 1 (docs/benchmarks.md), with it none. Locks without priority
/// inheritance made it 12 to 40 of 200, which is more than three of 60.
fn created_with_little_weight() {
    for number in 0..450 {
        Cgroup::make(&format!("/matched/other-{number}"));
    }
    let busy = || while_asked(|| while_others_spin(BUSY));
    let saw_one = saw_one_with_weight("1", &["sys_nice"], busy);
    say(&format!("with little weight: {saw_one} of {BUSY} programs ran with 1"));
    assert!(saw_one <= BUSY as usize / 20, "{saw_one} of {BUSY} ran with 1");
}

/// A client asks for the metrics again and again meanwhile.
fn while_asked<T>(what: impl FnOnce() -> T) -> T {
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !ends.load(Ordering::Relaxed) {
                    let _ = http::get(9469, "/metrics");
                }
            });
        }
        let done = what();
        ends.store(true, Ordering::Relaxed);
        done
    })
}

/// Containers on a busy node.
const BUSY: u32 = 60;
