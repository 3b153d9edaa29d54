//! How much memory each program takes with few and with many containers at rest.

use super::{
    crowd,
    figures::found,
    process,
    programs::{Output, Program},
};
use crate::harness::{api::Api, role::role};
use serde_json::json;
use std::{process::ExitCode, thread::sleep, time::Duration};

const PROGRAMS: [Program; 6] = [
    Program::Herder,
    Program::Oomkill,
    Program::Bpftrace,
    Program::NodeExporter,
    Program::Loop(60),
    Program::Cadvisor,
];

const CONTAINERS: [usize; 3] = [30, 250, 1000];

/// How often each is asked for its metrics before it is looked at.
const SCRAPES: usize = 5;

const BETWEEN: Duration = Duration::from_secs(3);

pub fn memory() {
    let most = crate::bench::figures::size("containers");
    let mut there = 0;
    for count in CONTAINERS.into_iter().filter(|count| *count <= most) {
        crowd::start(there..count);
        there = count;
        // The API server has the pods that it began with for ever.
        let of = role("memory-of", &[&count.to_string()]).status().unwrap();
        assert!(of.success(), "{of}");
    }
}

/// The programs one after the other with so many containers.
pub fn of(count: usize) -> ExitCode {
    crate::harness::say::say_panics();
    let _api = Api::serve(&crowd::pods(0..count));
    for program in PROGRAMS {
        let running = program.begin(Output::File, crowd::HERDER);
        let ready = running.ready_in_time();
        if program == Program::Herder {
            crowd::wait_until_steered(count);
        }
        sleep(BETWEEN);
        let unasked = process::memory(running.pid());
        let mut exposed = 0;
        for _ in 0..SCRAPES {
            sleep(BETWEEN);
            exposed = running.scrape().map_or(0, |text| text.len());
        }
        found(&json!({
            "containers": count, "program": program.name(), "ready": ready,
            "kibibytes unasked": unasked, "kibibytes": process::memory(running.pid()),
            "exposition": exposed,
        }));
    }
    ExitCode::SUCCESS
}
