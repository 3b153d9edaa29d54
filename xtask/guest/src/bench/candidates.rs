//! What the OOM killer's look at a process costs with the programs attached: the instructions of
//! the program that sees it, by the kernel's own count of its programs' time.
//!
//! The clock goes on by a nanosecond with each instruction, so that time is a count of them.

use super::{
    figures::{found, size},
    programs::{Herder, Output, Program},
    runs::programs,
};
use crate::harness::{
    agent::MATCHED,
    container::{Cgroup, run_in},
    sysctl::Sysctl,
    wait::eventually,
};
use serde_json::json;
use std::{fs, process::Child};

const HERDER: Herder = Herder { rules: MATCHED, flags: &["--kubernetes", "off"], more: &[] };

/// So many are handed over.
const LARGEST: u64 = 16;

pub fn candidates() {
    let processes = size("processes");
    let _counted = Sysctl::set("kernel.bpf_stats_enabled", "1");
    let running = Program::Herder.start(Output::File, HERDER);
    // Each is larger than all before it, so that each comes among the largest.
    let growing: Vec<_> = (1..=processes / 4).map(|mebibytes| mebibytes.to_string()).collect();
    let (time, runs) = walk(&running, "/growing", &growing);
    let entered = time / runs;
    // Of like ones all but the first are passed over.
    let like = vec!["1".to_owned(); processes];
    let (time, runs) = walk(&running, "/like", &like);
    let walks = (runs / processes as f64).round().max(1.0);
    let passed = (time - entered * LARGEST as f64 * walks) / (runs - LARGEST as f64 * walks);
    found(&json!({
        "program": "herder",
        "processes": processes,
        "among the largest": entered,
        "passed over": passed,
    }));
}

/// Instructions of the program that sees candidates, and how often it ran, while a cgroup with
/// these processes (MiB) has one killed that joins it last.
fn walk(running: &super::programs::Running, path: &str, sizes: &[String]) -> (f64, f64) {
    let cgroup = Cgroup::make(path);
    let mut members: Vec<Child> = Vec::new();
    for size in sizes {
        members.push(run_in(&cgroup, &["hog", size]));
        eventually("it is in", || cgroup.processes().len() == members.len());
    }
    let all: usize = sizes.iter().map(|size| size.parse::<usize>().expect("MiB")).sum();
    eventually("all have grown", || current(&cgroup) > all << 20);
    let before = programs(running.pid());
    cgroup.set("memory.max", &(current(&cgroup) + (8 << 20)).to_string());
    let last = all.max(64).to_string();
    run_in(&cgroup, &["hog", &last]).wait().expect("its end");
    let after = programs(running.pid());
    for member in &mut members {
        member.kill().expect("kill it");
        member.wait().expect("its end");
    }
    let ran =
        after.iter().map(|(id, runs)| runs.since(before.get(id).copied().unwrap_or_default()));
    let ran = ran.max_by_key(|ran| ran.count).expect("programs");
    assert!(ran.count > sizes.len() as u64, "only {} candidates were seen", ran.count);
    (ran.time as f64, ran.count as f64)
}

fn current(cgroup: &Cgroup) -> usize {
    fs::read_to_string(cgroup.file("memory.current")).unwrap().trim().parse().unwrap()
}
