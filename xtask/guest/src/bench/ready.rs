//! How long each program takes from its start until it does what it is for, on a
//! node full of containers, and then to answer a scrape.

use super::{
    crowd,
    figures::{found, size, spread},
    programs::{Herder, Output, Program},
};
use crate::harness::api::Api;
use serde_json::json;
use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

/// Without cAdvisor, which looks at every container for seconds.
const PROGRAMS: [Program; 4] =
    [Program::Herder, Program::Oomkill, Program::Bpftrace, Program::NodeExporter];

/// Scrapes of each start.
const SCRAPES: usize = 5;

/// An agent without containers, which looks for them in an empty directory.
const ALONE: Herder = Herder {
    rules: "rules: []\n",
    flags: &["--kubernetes", "off", "--cgroup-root", NOTHING],
    more: &[],
};

const NOTHING: &str = "/tmp/no-cgroups";

/// What the host does too, to compare its time with this guest's.
fn alone() {
    fs::create_dir_all(NOTHING).unwrap();
    let mut times = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let running = Program::Herder.begin(Output::File, ALONE);
        assert!(running.ready_in_time(), "it becomes ready");
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    found(&json!({"program": "herder alone, in the guest", "ready": spread(times)}));
}

pub fn ready() {
    alone();
    let (containers, times) = (size("containers"), size("times"));
    crowd::start(0..containers);
    let _api = Api::serve(&crowd::pods(0..containers));
    for program in PROGRAMS {
        let (mut starts, mut steered, mut scrapes) = (Vec::new(), Vec::new(), Vec::new());
        let mut series = 0;
        for _ in 0..times {
            crowd::remove(containers);
            let began = Instant::now();
            let milliseconds = || began.elapsed().as_secs_f64() * 1e3;
            let running = program.begin(Output::File, crowd::HERDER);
            if !running.ready_in_time() {
                break;
            }
            starts.push(milliseconds());
            if program == Program::Herder {
                crowd::wait_until_steered(containers);
                steered.push(milliseconds());
            }
            sleep(Duration::from_secs(5));
            for _ in 0..SCRAPES {
                let began = Instant::now();
                let Some(text) = running.scrape() else { continue };
                scrapes.push(began.elapsed().as_secs_f64() * 1e3);
                series = text.lines().filter(|line| !line.starts_with('#')).count();
            }
        }
        found(&json!({
            "program": program.name(), "containers": containers, "ready": spread(starts),
            "steered": spread(steered), "scrape": spread(scrapes), "series": series,
        }));
    }
}
