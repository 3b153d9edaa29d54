//! Whether a container's init outlives its children in single-process mode, without and with
//! Herder.
//!
//! Some kernels hide processes that exit from the OOM killer before their memory is free, so
//! that the init may be the only one that it finds (ARCHITECTURE.md, "An init that is small").

use crate::harness::{
    agent::{Agent, MATCHED},
    container::{Cgroup, Container},
    kill::assert_kill,
    say::say,
    system,
    test::{Test, tests},
    wait::eventually,
};
use rustix::process::{WaitOptions, wait};
use std::{
    collections::VecDeque,
    process::{Command, ExitCode},
    thread::sleep,
    time::{Duration, Instant},
};

pub const TESTS: &[Test] = tests![init_and_its_dying_children];

/// How long a container is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// How many are, one after the other, without an agent, and at most with one.
const WITHOUT: usize = 1;
const WITH: usize = 3;

/// A container's init with three children, each of which grows to 40 MiB and stays so. A
/// killed one is reaped, and 200 ms later another is forked. All the while the init takes
/// 512 KiB and frees them: what counts is whether it ever asks for memory while all its
/// children are dying.
pub fn forks_again() -> ExitCode {
    let pause = Duration::from_millis(200);
    let mut due = VecDeque::from([Instant::now(); 3]);
    loop {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {
            due.push_back(Instant::now() + pause);
        }
        while due.pop_front_if(|when| *when <= Instant::now()).is_some() {
            // Of an exempt init whose children are all dying the kernel refuses what it would
            // kill another one for.
            if system::try_forked(|| grow_to(40)).is_err() {
                due.push_back(Instant::now() + pause);
            }
        }
        system::take_and_free(512 << 10);
        sleep(Duration::from_millis(1));
    }
}

/// Grows by 1 MiB each 2 ms, then stays for ever.
fn grow_to(mebibytes: usize) {
    let mut memory = Vec::with_capacity(mebibytes);
    for _ in 0..mebibytes {
        let mut more = vec![0u8; 1 << 20];
        more.chunks_mut(4096).for_each(|page| page[0] = 1);
        memory.push(more);
        sleep(Duration::from_millis(2));
    }
    loop {
        std::hint::black_box(&memory);
        sleep(Duration::from_secs(3600));
    }
}

/// Whether the init was found dead within the time.
fn init_dies(what: &str, path: &str, agent: Option<&Agent>) -> bool {
    let mut container = Container::start_program(path, 64, &["forks-again"]);
    match agent {
        Some(_) => eventually("the value is 0", || container.cgroup.oom_group() == "0"),
        None => container.cgroup.set("memory.oom.group", "0"),
    }
    let began = Instant::now();
    let mut dead = false;
    while !dead && began.elapsed() < WATCHED {
        sleep(Duration::from_millis(50));
        dead = container.ended();
    }
    let (kills, after) = (container.cgroup.event("oom_kill"), began.elapsed().as_secs_f64());
    say(&format!(
        "{what}: {kills} kills, init {} after {after:.1} s",
        if dead { "dead" } else { "alive" }
    ));
    drop(container);
    Cgroup::made(path).remove();
    dead
}

/// Whether `check` says of this kernel that such an init may be killed.
fn is_at_risk() -> bool {
    let check = Command::new("/bin/herder-agent").arg("check").output().unwrap();
    let said = String::from_utf8(check.stdout).unwrap();
    let about = said.lines().find(|line| line.contains("exiting processes")).expect("a line");
    about.contains("single-process mode can still kill the init")
}

/// The kernel decides whether the init lives. Where it dies, Herder says why. Where `check` says
/// that it may, one of these does: else `protected_init_outlives_its_children`, which has the same
/// children, would show nothing.
fn init_and_its_dying_children() {
    (0..WITHOUT).for_each(|_| {
        init_dies("without an agent", "/matched/c0", None);
    });
    let agent = Agent::start(MATCHED);
    let mut paths = (1..=WITH).map(|number| format!("/matched/c{number}"));
    let dead = paths.find(|path| init_dies("with an agent", path, Some(&agent)));
    assert!(dead.is_some() || !is_at_risk(), "all inits have outlived their children");
    let kills = agent.kills();
    let inits: Vec<_> = kills.iter().filter(|kill| kill["kind"] == "init").collect();
    assert_eq!(inits.len(), usize::from(dead.is_some()), "{inits:#?}");
    for kill in inits {
        assert_kill(kill, "init", "container", dead.as_deref().unwrap());
        assert!(kill["exiting"].as_u64().unwrap() > 0, "{kill:#}");
    }
    agent.assert_nothing_lost();
}
