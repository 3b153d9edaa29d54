//! Many starts, four at once: does any program run with the runtime's 1, and how
//! long does the runtime leave between writing it and starting the program?

use super::{
    agent,
    bundle::{Name, WEB, object},
    engine::Engine,
    trace::{Seen, Trace, What},
};
use crate::{agent::eventually, init::parameter, pods::Api, say};
use std::{fs, os::unix::fs::MetadataExt, process::ExitCode, thread};

/// Containers that are made at the same time.
const AT_ONCE: u64 = 4;

/// What a program found as its first deed.
struct Looked {
    program: String,
    value: String,
    cgroup: u64,
}

pub fn starts(engine: Engine) {
    let _api = Api::serve(&[object(WEB, &[])]);
    let agent = agent();
    let _daemon = engine.begin();
    let trace = Trace::start();
    let looked = started(engine);
    let seen = trace.seen();
    let with_one = looked.iter().filter(|looked| looked.value == "1").count();
    say(&format!("{}: {with_one} of {} programs ran with 1", engine.version(), looked.len()));
    tell("write of 1 → start of the program", &looked, |one| {
        one.since_one(&seen, &one.executed())
    });
    tell("write of 1 → the agent's write of 0", &looked, |one| {
        one.since_one(&seen, &one.wrote("0"))
    });
    assert_eq!(with_one, 0);
    assert_eq!(agent.total("herder_oom_group_reverts_total"), 0.0);
}

/// Starts as many containers as `--starts` says.
fn started(engine: Engine) -> Vec<Looked> {
    let count = parameter("starts").map_or(AT_ONCE, |count| count.parse().unwrap());
    let all_of = |first: u64| {
        let numbers = (first..count).step_by(AT_ONCE.try_into().unwrap());
        let names = numbers.map(|number| Name { pod: WEB, container: "worker", number });
        names.map(|name| start(engine, name)).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let workers: Vec<_> =
            (0..AT_ONCE).map(|first| scope.spawn(move || all_of(first))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

fn start(engine: Engine, name: Name) -> Looked {
    let program = format!("/look-{}", name.number);
    let running = engine.run(name, 64, &[&program, "role", "look"]);
    let file = running.bundle.join("rootfs/looked");
    eventually("the program has looked", || file.exists());
    let looked = fs::read_to_string(file).unwrap();
    let (value, cgroup) = looked.split_once(' ').unwrap();
    Looked { program, value: value.to_owned(), cgroup: cgroup.parse().unwrap() }
}

impl Looked {
    fn executed(&self) -> What {
        What::Exec { file: self.program.clone() }
    }

    fn wrote(&self, value: &str) -> What {
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

fn tell(what: &str, looked: &[Looked], milliseconds: impl Fn(&Looked) -> f64) {
    let mut all: Vec<_> = looked.iter().map(milliseconds).collect();
    all.sort_by(f64::total_cmp);
    let (least, median, most) = (all[0], all[all.len() / 2], all[all.len() - 1]);
    say(&format!("  {what}: least {least:.2} ms, median {median:.2} ms, most {most:.2} ms"));
}

/// The container's program: its first deed is to look, then it tells what it saw
/// and which cgroup it is in, in its root or in this directory.
pub fn look(directory: &str) -> ExitCode {
    let value = fs::read_to_string("/sys/fs/cgroup/memory.oom.group").unwrap();
    let id = fs::metadata("/sys/fs/cgroup").unwrap().ino();
    let note = |name: &str| format!("{directory}/{name}");
    fs::write(note("looking"), format!("{} {id}", value.trim())).unwrap();
    fs::rename(note("looking"), note("looked")).unwrap();
    ExitCode::SUCCESS
}
