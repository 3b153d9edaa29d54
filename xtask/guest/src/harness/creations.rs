//! Containers made as runc makes them, and what their programs find as their first deed.

use super::{
    agent::{Agent, MATCHED, capabilities},
    container::Cgroup,
    role::role,
    say::say,
    wait::eventually,
};
use std::{
    fs,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    sync::atomic::{AtomicUsize, Ordering},
    thread::{self, sleep},
    time::Duration,
};

/// How many programs saw a 1 with an agent whose cgroup has this CPU weight, and which has
/// these capabilities besides those that it needs.
pub fn saw_one_with_weight(weight: &str, more: &[&str], busy: impl FnOnce() -> usize) -> usize {
    let allowed = [&capabilities(), more].concat();
    let mut agent = Agent::spawn(MATCHED, &[], &allowed);
    agent.wait_until_ready();
    let root = Cgroup::made("/");
    root.set("cgroup.subtree_control", "+cpu");
    let pod = Cgroup::make("/agent");
    pod.set("cpu.weight", weight);
    pod.set("cgroup.procs", &agent.pid().to_string());
    let saw_one = busy();
    root.set("cgroup.procs", &agent.pid().to_string());
    root.set("cgroup.subtree_control", "-cpu");
    saw_one
}

/// Containers on a node whose processors all have more than enough to do; how many
/// programs saw a 1.
pub fn while_others_spin(containers: u32) -> usize {
    while_busy(|| creations_that_saw_one(containers))
}

/// Does something while all processors have more than enough to do.
pub fn while_busy<T>(what: impl FnOnce() -> T) -> T {
    let busy = Cgroup::make("/busy");
    let mut spinners: Vec<_> =
        (0..4).map(|_| role("enter", &[busy.path(), "spin"]).spawn().unwrap()).collect();
    let done = what();
    for spinner in &mut spinners {
        spinner.kill().unwrap();
        spinner.wait().unwrap();
    }
    done
}

/// No program runs with 1, and nothing is corrected twice.
pub fn assert_corrected_in_time(agent: &Agent, containers: u32) {
    let saw_one = creations_that_saw_one(containers);
    say(&format!("{saw_one} of {containers} programs ran with 1"));
    assert!(saw_one <= excused(containers as usize), "{saw_one} of {containers} ran with 1");
    assert_eq!(agent.total("herder_oom_group_reverts_total"), 0.0);
}

/// How many of so many programs may have run with 1. An emulated processor may stand still for
/// longer than the runtime takes, and then for each program that starts meanwhile. An agent
/// that is late by itself is late for nearly all.
pub fn excused(programs: usize) -> usize {
    (programs / 20).max(1)
}

/// Containers, four at a time; how many programs saw a 1.
pub fn creations_that_saw_one(containers: u32) -> usize {
    let saw_one = AtomicUsize::new(0);
    created(containers, |program, cgroup| {
        let status = program.status().unwrap();
        assert!(matches!(status.code(), Some(0 | 1)), "{status:?}");
        saw_one.fetch_add(usize::from(status.code() == Some(1)), Ordering::Relaxed);
        cgroup.remove();
    });
    saw_one.into_inner()
}

/// The same, in which each cgroup stays until its value is corrected, however long that takes.
/// So nothing depends on how fast anything runs.
pub fn creations_that_wait(containers: u32) {
    created(containers, |program, cgroup| {
        let status = program.status().unwrap();
        assert!(matches!(status.code(), Some(0 | 1)), "{status:?}");
        eventually("the value is corrected", || cgroup.oom_group() == "0");
        cgroup.remove();
    });
}

/// Does something with each of so many containers, four at a time: the command that makes
/// it and becomes its program, and its cgroup.
fn created(containers: u32, each: impl Fn(&mut Command, &Cgroup) + Sync) {
    Cgroup::make("/matched/first").remove();
    let each = &each;
    thread::scope(|scope| {
        for worker in 0..4 {
            scope.spawn(move || {
                for number in 0..containers / 4 {
                    let path = format!("/matched/c{worker}-{number}");
                    each(&mut role("like-runc", &[&path]), &Cgroup::made(&path));
                }
            });
        }
    });
}

/// What real runtimes leave between their 1 and the start of the program, on the same
/// emulator: crun at least 30 ms, runc 65 (docs/runtimes.md).
const GAP: Duration = Duration::from_millis(30);

/// The role that plays runc's init.
pub fn like_runc(rest: &[&str]) -> ExitCode {
    let file = |name: &str| format!("/sys/fs/cgroup{}/{name}", rest[0]);
    fs::create_dir(format!("/sys/fs/cgroup{}", rest[0])).unwrap();
    fs::write(file("cgroup.procs"), "0").unwrap();
    fs::write(file("memory.max"), "100M").unwrap();
    fs::write(file("memory.oom.group"), "1").unwrap();
    sleep(GAP);
    panic!("{}", role("read-value", rest).exec());
}

/// The container's program: its first deed is to look.
pub fn read_value(rest: &[&str]) -> ExitCode {
    let value = fs::read_to_string(format!("/sys/fs/cgroup{}/memory.oom.group", rest[0])).unwrap();
    ExitCode::from(value.trim().parse::<u8>().unwrap())
}
