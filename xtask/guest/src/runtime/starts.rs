//! Many starts, four at once: does any program run with the runtime's 1, and how
//! long does the runtime leave between writing it and starting the program?

use super::{
    bundle::{Name, WEB, object},
    engine::{Engine, Running},
    trace::{Seen, Trace, What},
    web::agent,
};
use crate::harness::{
    agent::Agent, api::Api, creations::excused, parameter::parameter, say::say, wait::eventually,
};
use std::{fs, os::unix::fs::MetadataExt, process::ExitCode, thread, time::Duration};

/// Containers that are made at the same time.
const AT_ONCE: u64 = 4;

/// What a program found as its first deed.
pub struct Looked {
    program: String,
    pub value: String,
    pub cgroup: u64,
}

pub fn starts(engine: Engine) {
    let api = Api::serve(&[object(WEB, &[])]);
    let agent = agent();
    let _daemon = engine.begin();
    let trace = Trace::start();
    let count = parameter("starts").map_or(AT_ONCE, |count| count.parse().unwrap());
    let looked = started(engine, count, Duration::ZERO, &|_| true);
    let seen = trace.seen();
    let with_one = looked.iter().filter(|looked| looked.value == "1").count();
    say(&format!("{}: {with_one} of {} programs ran with 1", engine.version(), looked.len()));
    print("write of 1 → start of the program", &looked, |one| {
        one.since_one(&seen, &one.executed())
    });
    print("write of 1 → the agent's write of 0", &looked, |one| {
        one.since_one(&seen, &one.wrote("0"))
    });
    assert!(with_one <= excused(looked.len()), "{with_one} ran with 1");
    assert_eq!(agent.total("herder_oom_group_reverts_total"), 0.0);
    // crun's cgroup is there before its controllers are.
    assert!(!Agent::log().contains("is not enforceable"), "{}", Agent::log());
    assert_eq!(api.events("OomGroupNotEnforceable"), [] as [serde_json::Value; 0]);
}

/// Starts so many containers, with a pause after each, and removes them again when
/// they may go.
pub fn started(
    engine: Engine,
    count: u64,
    pause: Duration,
    may_go: &(dyn Fn(&Running) -> bool + Sync),
) -> Vec<Looked> {
    let all_of = |first: u64| {
        let (mut looked, mut there) = (Vec::new(), Vec::new());
        for number in (first..count).step_by(AT_ONCE.try_into().unwrap()) {
            let (found, running) = start(engine, Name { pod: WEB, container: "worker", number });
            looked.push(found);
            there.push(running);
            there.retain(|running| !may_go(running));
            thread::sleep(pause);
        }
        while !there.is_empty() {
            there.retain(|running| !may_go(running));
            thread::sleep(Duration::from_millis(50));
        }
        looked
    };
    thread::scope(|scope| {
        let workers: Vec<_> =
            (0..AT_ONCE).map(|first| scope.spawn(move || all_of(first))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

fn start(engine: Engine, name: Name) -> (Looked, Running) {
    let program = format!("/look-{}", name.number);
    let running = engine.run(name, 64, &[&program, "role", "look"]);
    let file = running.bundle.join("rootfs/looked");
    eventually("the program has looked", || file.exists());
    let looked = fs::read_to_string(file).unwrap();
    let (value, cgroup) = looked.split_once(' ').unwrap();
    (Looked { program, value: value.to_owned(), cgroup: cgroup.parse().unwrap() }, running)
}

impl Looked {
    pub fn executed(&self) -> What {
        What::Exec { file: self.program.clone() }
    }

    pub fn wrote(&self, value: &str) -> What {
        What::Write { cgroup: self.cgroup, value: value.to_owned() }
    }

    /// From the runtime's write of 1 to the last time of something, milliseconds.
    fn since_one(&self, seen: &[Seen], what: &What) -> f64 {
        let at = |what: &What| {
            let found = seen.iter().rfind(|seen| seen.what == *what);
            found.unwrap_or_else(|| panic!("{}: {what:?} was not seen", self.program)).at
        };
        (at(what) - at(&self.wrote("1"))) * 1e3
    }
}

fn print(what: &str, looked: &[Looked], milliseconds: impl Fn(&Looked) -> f64) {
    let mut all: Vec<_> = looked.iter().map(milliseconds).collect();
    all.sort_by(f64::total_cmp);
    let (least, median, most) = (all[0], all[all.len() / 2], all[all.len() - 1]);
    say(&format!("  {what}: least {least:.2} ms, median {median:.2} ms, most {most:.2} ms"));
}

/// The container's program: its first deed is to look, then it notes what it saw
/// and which cgroup it is in, in its root or in this directory.
pub fn look(directory: &str) -> ExitCode {
    let value = fs::read_to_string("/sys/fs/cgroup/memory.oom.group").unwrap();
    let id = fs::metadata("/sys/fs/cgroup").unwrap().ino();
    let note = |name: &str| format!("{directory}/{name}");
    fs::write(note("looking"), format!("{} {id}", value.trim())).unwrap();
    fs::rename(note("looking"), note("looked")).unwrap();
    ExitCode::SUCCESS
}
