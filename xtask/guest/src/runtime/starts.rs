//! Many starts: does any program run with the runtime's 1, and how long
//! does the runtime leave between writing it and starting the program?

use super::{
    agent,
    bundle::{Name, WEB, object},
    engine::Engine,
    trace::{Seen, Trace, What},
};
use crate::{agent::eventually, pods::Api, say};
use std::{fs, os::unix::fs::MetadataExt, process::ExitCode};

/// What one start looked like.
struct Start {
    /// What the program read as its first deed.
    value: String,
    /// From the runtime's write of 1 to the program's start, milliseconds.
    gap: f64,
    /// From the runtime's write of 1 to the agent's write of 0, milliseconds.
    answer: f64,
}

pub fn starts(engine: Engine) {
    let _api = Api::serve(&[object(WEB, &[])]);
    let agent = agent();
    let _daemon = engine.begin();
    let trace = Trace::start();
    let mut starts = Vec::new();
    for number in 0..engine.starts() {
        trace.clear();
        starts.push(start(engine, Name { pod: WEB, container: "worker", number }, &trace));
    }
    let with_one = starts.iter().filter(|start| start.value == "1").count();
    say(&format!("{}: {with_one} of {} programs ran with 1", engine.version(), starts.len()));
    tell("write of 1 → start of the program", starts.iter().map(|start| start.gap));
    tell("write of 1 → the agent's write of 0", starts.iter().map(|start| start.answer));
    assert_eq!(with_one, 0);
    assert_eq!(agent.total("herder_oom_group_reverts_total"), 0.0);
}

fn start(engine: Engine, name: Name, trace: &Trace) -> Start {
    let program = format!("/look-{}", name.number);
    let running = engine.run(name, 64, &[&program, "role", "look"]);
    let file = running.bundle.join("rootfs/looked");
    eventually("the program has looked", || file.exists());
    let looked = fs::read_to_string(file).unwrap();
    let (value, id) = looked.split_once(' ').unwrap();
    let id: u64 = id.parse().unwrap();
    let seen = trace.seen();
    let write = |wanted: &str| {
        let write = |seen: &&Seen| matches!(&seen.what, What::Write { cgroup, value } if *cgroup == id && value == wanted);
        seen.iter().rfind(write).unwrap_or_else(|| panic!("no write of {wanted}: {seen:#?}")).at
    };
    let exec = seen.iter().find(|seen| seen.what == What::Exec { file: program.clone() });
    let exec = exec.unwrap_or_else(|| panic!("{program} was not started: {seen:#?}")).at;
    let (one, zero) = (write("1"), write("0"));
    Start { value: value.to_owned(), gap: (exec - one) * 1e3, answer: (zero - one) * 1e3 }
}

fn tell(what: &str, milliseconds: impl Iterator<Item = f64>) {
    let mut all: Vec<_> = milliseconds.collect();
    all.sort_by(f64::total_cmp);
    let (least, median, most) = (all[0], all[all.len() / 2], all[all.len() - 1]);
    say(&format!("  {what}: least {least:.2} ms, median {median:.2} ms, most {most:.2} ms"));
}

/// The container's program: its first deed is to look, then it tells what it saw
/// and which cgroup it is in.
pub fn look() -> ExitCode {
    let value = fs::read_to_string("/sys/fs/cgroup/memory.oom.group").unwrap();
    let id = fs::metadata("/sys/fs/cgroup").unwrap().ino();
    fs::write("/looking", format!("{} {id}", value.trim())).unwrap();
    fs::rename("/looking", "/looked").unwrap();
    ExitCode::SUCCESS
}
