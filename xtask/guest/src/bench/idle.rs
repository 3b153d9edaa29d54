//! What each program does when nothing happens: how often it wakes, and how much
//! CPU that takes.

use super::{
    crowd,
    figures::{found, size},
    process::Work,
    programs::{Output, Program},
};
use crate::harness::api::Api;
use serde_json::json;
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// Without the shell loop, which is never idle: it writes to every container, and so wakes
/// who watches them.
const PROGRAMS: [Program; 5] = [
    Program::Herder,
    Program::Oomkill,
    Program::Bpftrace,
    Program::NodeExporter,
    Program::Cadvisor,
];

const CONTAINERS: usize = 250;

pub fn idle() {
    let time = Duration::from_secs(size("seconds") as u64);
    crowd::start(0..CONTAINERS);
    let _api = Api::serve(&crowd::pods(0..CONTAINERS));
    let running: Vec<_> =
        PROGRAMS.iter().map(|one| one.start(Output::File, crowd::HERDER)).collect();
    crowd::wait_until_steered(CONTAINERS);
    // Until all have read what was there.
    sleep(time / 5);
    let works = || running.iter().map(|one| Work::of(one.pid())).collect::<Vec<_>>();
    let (began, before) = (Instant::now(), works());
    sleep(time);
    let (took, now) = (began.elapsed().as_secs_f64(), works());
    for ((running, before), now) in running.iter().zip(before).zip(now) {
        found(&json!({
            "program": running.program.name(), "containers": CONTAINERS, "seconds": took,
            "wake-ups a second": (now.slept - before.slept) as f64 / took,
            "thousandths of a CPU": (now.cpu - before.cpu) as f64 / 1e6 / took,
        }));
    }
}
