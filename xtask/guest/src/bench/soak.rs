//! An hour of kills, and of pods that come and go: does anything grow, is anything lost?

use super::{
    crowd,
    figures::{found, size},
    process,
    programs::{Output, Program, Running},
};
use crate::harness::{
    api::Api,
    container::{Cgroup, Container},
    http::{self, metric},
    role::role,
};
use serde_json::json;
use std::{
    collections::VecDeque,
    fs,
    path::Path,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

/// Pods that are there all the time, and lose one sub-process after the other.
const STEADY: usize = 10;

/// From the start of one of the other pods until the start of the next, at least: long
/// enough for a host that does other work too, since only under one load can be seen what
/// is flat.
const PERIOD: Duration = Duration::from_secs(4);

/// How long a program may take to report a kill.
const PATIENCE: Duration = Duration::from_secs(15);

/// A file at which the steady ones stop losing processes.
const STOP: &str = "/tmp/stop";

/// Kills as their parents saw them, and what was reported of them.
#[derive(Default)]
struct Kills {
    /// Of pods that are gone, by their number, and when they went.
    waiting: VecDeque<(usize, u64, Instant)>,
    /// Of those of them that were compared.
    gone: u64,
    right: u64,
}

pub fn soak() {
    let time = Duration::from_secs(size("minutes") as u64 * 60);
    let api = Api::serve(&crowd::pods(0..STEADY));
    let running = Program::Herder.start(Output::File, crowd::HERDER);
    let steady: Vec<_> = (0..STEADY)
        .map(|number| {
            Container::start_program(&crowd::path(number), 24, &["paced", &notes(number)])
        })
        .collect();
    let (mut kills, mut next) = (Kills::default(), STEADY);
    let began = Instant::now();
    let mut minutes = 0;
    while began.elapsed() < time {
        let period = Instant::now();
        let killed = short_pod(&api, next);
        kills.waiting.push_back((next, killed, Instant::now()));
        next += 1;
        if began.elapsed().as_secs() / 60 > minutes {
            minutes += 1;
            sample(&running, &mut kills, minutes, next, began);
        }
        sleep(PERIOD.saturating_sub(period.elapsed()));
    }
    fs::write(STOP, "").unwrap();
    sleep(PATIENCE * 2);
    sample(&running, &mut kills, minutes, next, began);
    drop(steady);
}

/// Compares, and looks at the process.
fn sample(running: &Running, kills: &mut Kills, minutes: u64, next: usize, began: Instant) {
    let text = running.scrape().expect("metrics");
    let ended = |(_, _, at): &(usize, u64, Instant)| at.elapsed() > PATIENCE;
    while let Some((number, killed, _)) = kills.waiting.pop_front_if(|gone| ended(gone)) {
        kills.gone += killed;
        kills.right += reported(&text, number).min(killed);
    }
    // Reports are read first: what died meanwhile makes the truth greater, and never smaller.
    let steady_reported: u64 = (0..STEADY).map(|number| reported(&text, number)).sum();
    let steady: u64 = (0..STEADY).map(reaped).sum();
    let total = |family| http::total(&text, family);
    let count =
        |kind: &str| fs::read_dir(format!("/proc/{}/{kind}", running.pid())).unwrap().count();
    found(&json!({
        "minute": minutes, "seconds": began.elapsed().as_secs_f64(), "pods gone": next - STEADY,
        "kills": steady + kills.gone, "told right": steady_reported.min(steady) + kills.right,
        "told": metric(&text, "herder_kill_report_seconds_count"),
        "lost": total("herder_kills_lost_total"), "unseen": total("herder_kills_unseen_total"),
        "unattributed": total("herder_kills_unattributed_total"),
        "kibibytes": process::memory(running.pid()), "descriptors": count("fd"),
        "threads": count("task"), "series": text.lines().filter(|line| !line.starts_with('#')).count(),
    }));
}

/// Kills of a pod, as its series has them.
fn reported(exposition: &str, number: usize) -> u64 {
    let pod = format!("pod=\"pod-{number}\"");
    let lines = exposition.lines().filter(|line| line.starts_with("herder_oom_kills_total{"));
    let values =
        lines.filter(|line| line.contains(&pod)).filter_map(|line| line.rsplit(' ').next());
    values.filter_map(|value| value.parse::<u64>().ok()).sum()
}

fn notes(number: usize) -> String {
    format!("/tmp/soak-{number}")
}

fn reaped(number: usize) -> u64 {
    fs::read_to_string(notes(number)).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// A pod that is made, whose only process is killed, and that is deleted; how many
/// its parent saw killed.
fn short_pod(api: &Api, number: usize) -> u64 {
    let pod = crowd::pods(number..number + 1).remove(0);
    api.push("ADDED", &pod);
    let cgroup = Cgroup::make(&crowd::path(number));
    cgroup.limit(16);
    cgroup.set("memory.oom.group", "1");
    let status = role("enter", &[cgroup.path(), "hog", "32"]).status().unwrap();
    cgroup.remove();
    let (of_pod, _) = cgroup.path().rsplit_once('/').expect("a pod's cgroup");
    Cgroup::made(of_pod).remove();
    api.push("DELETED", &pod);
    u64::from(status.code().is_none())
}

/// The role of the steady ones: an init whose children grow until they are killed,
/// one after the other, with a pause.
pub fn paced(notes: &str) -> ExitCode {
    let mut killed = 0;
    while !Path::new(STOP).exists() {
        killed += u64::from(crate::harness::system::child_is_killed(crate::harness::storm::grow));
        // A reader meanwhile gets the whole number.
        let whole = format!("{notes}.new");
        fs::write(&whole, killed.to_string()).unwrap();
        fs::rename(&whole, notes).unwrap();
        sleep(Duration::from_secs(3));
    }
    loop {
        sleep(Duration::from_secs(3600));
    }
}
