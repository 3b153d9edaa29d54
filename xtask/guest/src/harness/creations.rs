//! Containers made as runc makes them, and what their programs find as their first deed.

use super::{
    agent::{Agent, MATCHED, capabilities},
    awake::{Stalls, Watch},
    container::Cgroup,
    role::role,
    say::say,
    wait::{eventually, monotonic},
};
use std::{
    fs,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    sync::Mutex,
    thread::{self, sleep},
    time::Duration,
};

/// How many programs saw a 1 with an agent whose cgroup has this CPU weight, and which has
/// these capabilities besides those that it needs.
pub fn saw_one_with_weight<T>(weight: &str, more: &[&str], busy: impl FnOnce() -> T) -> T {
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
    creations_while_awake(containers).assert_corrected();
    assert_eq!(agent.total("herder_oom_group_reverts_total"), 0.0);
}

/// How many of so many programs may have run with 1. An emulated processor may stand still for
/// longer than the runtime takes, and then for each program that starts meanwhile.
pub fn excused(programs: usize) -> usize {
    (programs / 20).max(1)
}

/// What programs saw, as their first deed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looks {
    all: usize,
    saw_one: usize,
    /// Those of all between whose 1 and whose look the machine did not stand still.
    awake: usize,
    awake_saw_one: usize,
}

impl Looks {
    /// An agent that is late by itself is late for nearly all, or without priority inheritance for
    /// more than these.
    pub fn assert_corrected(self) {
        say(&format!("{self:?}"));
        let Looks { awake, awake_saw_one, .. } = self;
        assert!(awake_saw_one <= excused(awake), "{awake_saw_one} of {awake} ran with 1");
    }
}

/// Containers, four at a time; how many programs saw a 1.
pub fn creations_that_saw_one(containers: u32) -> usize {
    creations(containers, Stalls::default).saw_one
}

/// The same, until so many programs have started while the machine was awake.
pub fn creations_while_awake(containers: u32) -> Looks {
    let mut looks = Looks::default();
    while looks.awake < containers as usize {
        assert!(looks.all < 20 * containers as usize, "the machine stands still: {looks:?}");
        let watch = Watch::start();
        let more = creations(containers, || watch.end());
        looks.all += more.all;
        looks.saw_one += more.saw_one;
        looks.awake += more.awake;
        looks.awake_saw_one += more.awake_saw_one;
    }
    looks
}

fn creations(containers: u32, stalls: impl FnOnce() -> Stalls) -> Looks {
    let found = Mutex::new(Vec::new());
    created(containers, |program, cgroup| {
        let status = program.status().unwrap();
        assert!(matches!(status.code(), Some(0 | 1)), "{status:?}");
        let times = fs::read_to_string(note(cgroup.path())).unwrap();
        let (written, looked) = times.split_once(' ').unwrap();
        let times = (written.parse().unwrap(), looked.parse().unwrap());
        found.lock().unwrap().push((status.code() == Some(1), times));
        cgroup.remove();
    });
    let stalls = stalls();
    let mut looks = Looks::default();
    for (saw_one, (written, looked)) in found.into_inner().unwrap() {
        let awake = stalls.was_awake(written, looked);
        looks.all += 1;
        looks.saw_one += usize::from(saw_one);
        looks.awake += usize::from(awake);
        looks.awake_saw_one += usize::from(awake && saw_one);
    }
    looks
}

/// Where a program notes when the 1 was written and when it looked.
fn note(path: &str) -> String {
    format!("/tmp/looked{}", path.replace('/', "-"))
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
    let written = monotonic().to_string();
    sleep(GAP);
    panic!("{}", role("read-value", &[rest[0], &written]).exec());
}

/// The container's program: its first deed is to look.
pub fn read_value(rest: &[&str]) -> ExitCode {
    let value = fs::read_to_string(format!("/sys/fs/cgroup{}/memory.oom.group", rest[0])).unwrap();
    fs::write(note(rest[0]), format!("{} {}", rest[1], monotonic())).unwrap();
    ExitCode::from(value.trim().parse::<u8>().unwrap())
}
