//! Of many kills at once, how many does each program see, and of how many does it
//! know the container? What the parents reaped is the truth.

use super::{
    crowd,
    figures::{found, size},
    lines::Lines,
    programs::{Herder, Output, Program, Running},
    shown::stream,
};
use crate::harness::{
    api::Api,
    container::{Cgroup, Container},
    http::{self, metric},
    role::role,
    say::say,
    storm::GO,
    system::{forked, is_killed},
    wait::within,
};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

/// All see the same kills. Those in C and bpftrace write line by line, as on a
/// terminal.
const PROGRAMS: [(Program, Output); 5] = [
    (Program::Herder, Output::Pipe),
    (Program::Oomkill, Output::Terminal),
    (Program::Bpftrace, Output::Terminal),
    (Program::NodeExporter, Output::File),
    (Program::Cadvisor, Output::File),
];

/// Containers whose sub-processes are killed; each is a pod's.
pub(super) const MATCHED: usize = 50;

/// How long a program may take to report: the slowest read the kernel's log, or look only
/// now and then.
const PATIENCE: Duration = Duration::from_secs(15);

/// Processes of each that is killed as a group.
const MEMBERS: usize = 20;

pub(super) const HERDER: Herder = Herder {
    rules: "\
rules:
- name: storm
  pods: {selector: {matchLabels: {app: storm}}}
  oomGroup: single-process
",
    ..crowd::HERDER
};

/// Kills by the number of the container.
type Kills = BTreeMap<usize, u64>;

/// What a program has said so far.
#[derive(Clone, Debug, Default)]
struct Reported {
    /// Kills whose container it names.
    named: Kills,
    /// Kills of which it only says that they happened.
    unnamed: u64,
    processes: u64,
}

pub fn seen() {
    let (kills, groups) = (size("kills") / MATCHED, size("groups"));
    let _api = Api::serve(&pods(groups));
    let steered_by_hand = || {
        (0..MATCHED)
            .for_each(|number| Cgroup::made(&crowd::path(number)).set("memory.oom.group", "0"));
    };
    let (truth, took) = storm(kills, steered_by_hand);
    found(&json!({
        "kind": "nobody looks", "kills": truth.values().sum::<u64>(), "seconds": took.as_secs_f64(),
    }));
    let running: Vec<_> = PROGRAMS.iter().map(|(one, to)| one.start(*to, HERDER)).collect();
    let stream = stream();
    let steered = || crowd::wait_until_steered(MATCHED);
    phase("subprocess", &running, &stream, 1, || storm(kills, steered));
    phase("group", &running, &stream, MEMBERS as u64, || group_kills(groups));
    while_stopped(&running[0], size("stopped") / MATCHED);
}

/// The pods of the storm, and so many whose containers are killed whole.
pub(super) fn pods(groups: usize) -> Vec<Value> {
    let mut pods = crowd::pods(0..MATCHED + groups);
    for (number, pod) in pods.iter_mut().enumerate() {
        let app = if number < MATCHED { "storm" } else { "group" };
        pod["metadata"]["labels"] = json!({"app": app});
    }
    pods
}

/// Kills while Herder gets no CPU at all, more than its buffer has room for.
fn while_stopped(herder: &Running, kills: usize) {
    let reported = || {
        let text = herder.scrape().expect("metrics");
        (by_series(&text, "subprocess"), missing(&text))
    };
    let (before, missing_before) = reported();
    let (truth, _) = storm(kills, || {
        crowd::wait_until_steered(MATCHED);
        herder.signal(Signal::STOP);
    });
    herder.signal(Signal::CONT);
    sleep(PATIENCE);
    let (now, missing) = reported();
    found(&json!({
        "kind": "stopped", "program": herder.program.name(),
        "kills": truth.values().sum::<u64>(), "told right": right(&truth, &before.named, &now.named),
        "lost": missing[0] - missing_before[0], "unseen": missing[1] - missing_before[1],
    }));
}

/// What Herder counts as lost, as unseen, and as unattributed.
fn missing(exposition: &str) -> [u64; 3] {
    ["herder_kills_lost_total", "herder_kills_unseen_total", "herder_kills_unattributed_total"]
        .map(|family| http::total(exposition, family))
}

/// How many kills were reported of the right container.
fn right(truth: &Kills, before: &Kills, now: &Kills) -> u64 {
    let of = |kills: &Kills, number| kills.get(&number).copied().unwrap_or(0);
    let right =
        |(number, kills): (&usize, &u64)| (of(now, *number) - of(before, *number)).min(*kills);
    truth.iter().map(right).sum()
}

/// Some kills, of so many processes each, and what every program says of them.
fn phase(
    kind: &str,
    running: &[Running],
    stream: &Lines,
    members: u64,
    kill: impl FnOnce() -> (Kills, Duration),
) {
    let all = || running.iter().map(|running| reported(running, kind)).collect::<Vec<_>>();
    let (before, log_before, stream_before) =
        (all(), running[0].lines.all().len(), stream.all().len());
    let (truth, took) = kill();
    sleep(PATIENCE);
    let kills: u64 = truth.values().sum();
    for ((running, before), now) in running.iter().zip(before).zip(all()) {
        let named = now.named.values().sum::<u64>() - before.named.values().sum::<u64>();
        let mut figures = json!({
            "kind": kind, "program": running.program.name(), "seconds": took.as_secs_f64(),
            "kills": kills, "processes": kills * members,
            "told": named + now.unnamed - before.unnamed,
            "told processes": now.processes - before.processes,
            "told right": right(&truth, &before.named, &now.named),
        });
        if running.program == Program::Herder {
            let none = Kills::new();
            let log =
                by_lines(&running.lines, log_before, ["pod=\"pod-", &format!("kind={kind:?}")]);
            let api = [r#""pod":"pod-"#, &format!("\"kind\":{kind:?}")];
            let api = by_lines(stream, stream_before, api);
            figures["right in the log"] = right(&truth, &none, &log).into();
            figures["right in the stream"] = right(&truth, &none, &api).into();
            figures["untold"] = json!(missing(&running.scrape().expect("metrics")));
        }
        found(&figures);
    }
}

/// Kills of lines from some on, by the number that the pod's name has; the first text is
/// before the number, and each line has the other too.
fn by_lines(lines: &Lines, from: usize, [before, too]: [&str; 2]) -> Kills {
    let mut kills = Kills::new();
    for line in lines.all().iter().skip(from).filter(|line| line.text.contains(too)) {
        let rest = line.text.split_once(before).and_then(|(_, rest)| rest.split_once('"'));
        if let Some(number) = rest.and_then(|(number, _)| number.parse().ok()) {
            *kills.entry(number).or_default() += 1;
        }
    }
    kills
}

fn reported(running: &Running, kind: &str) -> Reported {
    match running.program {
        Program::Herder => by_series(&running.scrape().expect("metrics"), kind),
        Program::Oomkill | Program::Bpftrace => {
            let lines = running.lines.all();
            let kills = lines.iter().filter(|line| line.text.contains(" OOM kill of PID ")).count();
            Reported { unnamed: kills as u64, processes: kills as u64, ..Reported::default() }
        }
        Program::NodeExporter => {
            let text = running.scrape().expect("metrics");
            let processes = metric(&text, "node_vmstat_oom_kill").expect("the kernel's count");
            // It counts processes, and does not know which of them died of one kill.
            Reported { processes, ..Reported::default() }
        }
        Program::Cadvisor => by_events(
            &http::get(
                8080,
                "/api/v1.3/events?oom_kill_events=true&max_events=1000000&subcontainers=true",
            )
            .expect("events"),
        ),
        Program::Loop(_) => unreachable!("it reports nothing"),
    }
}

/// Herder's series of kills of this kind at the container's limit, by the number that the
/// pod's name has.
fn by_series(exposition: &str, kind: &str) -> Reported {
    let mut reported = Reported::default();
    let kind = format!("kind={kind:?}");
    for line in exposition.lines() {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let count = value.parse().unwrap_or(0);
        let pod = series.split_once("pod=\"pod-").and_then(|(_, rest)| rest.split_once('"'));
        let number = pod.and_then(|(number, _)| number.parse().ok());
        match (series.split('{').next(), number) {
            (Some("herder_oom_kills_total"), Some(number))
                if series.contains(&kind) && series.contains("limit=\"container\"") =>
            {
                *reported.named.entry(number).or_default() += count;
            }
            (Some("herder_oom_killed_processes_total"), _) => reported.processes += count,
            (Some("herder_host_oom_kills_total"), _) => reported.unnamed += count,
            _ => {}
        }
    }
    reported
}

/// cAdvisor's events, by the cgroup that it gives as the container.
fn by_events(events: &str) -> Reported {
    let events: Vec<Value> = serde_json::from_str(events).unwrap_or_default();
    let mut reported = Reported { processes: events.len() as u64, ..Reported::default() };
    for event in &events {
        let name = event["container_name"].as_str().unwrap_or_default();
        // The ID is the number in hexadecimal.
        let number = name.rsplit('/').next().filter(|id| id.len() == 64);
        match number.and_then(|id| usize::from_str_radix(id, 16).ok()) {
            Some(number) => *reported.named.entry(number).or_default() += 1,
            None => reported.unnamed += 1,
        }
    }
    reported
}

/// Sub-processes of all matched containers die as fast as the kernel kills, and a
/// fifth of the containers' have threads. `first` sees to it that all are steered: a kill
/// before would take the container. What the inits reaped, which is what the kernel counts,
/// and how long it took.
pub(super) fn storm(kills: usize, first: impl FnOnce()) -> (Kills, Duration) {
    let _ = fs::remove_file(GO);
    let containers: Vec<_> = (0..MATCHED)
        .map(|number| {
            let notes = format!("/tmp/storm-{number}");
            // What an earlier storm has left would be taken for this one's.
            let _ = fs::remove_file(&notes);
            let count = kills.to_string();
            let threads = if number % 5 == 0 { "threads" } else { "one" };
            let program = ["storm", &notes, &count, threads];
            let container = Container::start_program(&crowd::path(number), 6, &program);
            // An earlier storm may have been in the same cgroup.
            let before = container.cgroup.event("oom_kill");
            (number, container, notes, before)
        })
        .collect();
    first();
    fs::write(GO, "").unwrap();
    let began = Instant::now();
    let reaped = |notes: &str| -> u64 {
        let text = fs::read_to_string(notes).unwrap_or_default();
        text.parse().unwrap_or(0)
    };
    let patience = Duration::from_secs(60 + (kills * MATCHED) as u64);
    for (number, _, notes, _) in &containers {
        within(patience, &format!("container {number} is through"), || {
            reaped(notes) == kills as u64
        });
    }
    let took = began.elapsed();
    let mut truth = Kills::new();
    for (number, container, notes, before) in &containers {
        let reaped = reaped(notes);
        assert_eq!(container.cgroup.event("oom_kill") - before, reaped, "container {number}");
        truth.insert(*number, reaped);
    }
    (truth, took)
}

/// Containers are killed whole, one after the other.
fn group_kills(groups: usize) -> (Kills, Duration) {
    let began = Instant::now();
    let numbers = MATCHED..MATCHED + groups;
    let each = |number: usize| {
        let done = number - MATCHED;
        if done.is_multiple_of(20) {
            say(&format!("{done} of {groups} groups"));
        }
        let cgroup = Cgroup::make(&crowd::path(number));
        cgroup.limit(24);
        cgroup.set("memory.oom.group", "1");
        let status = role("group", &[cgroup.path()]).status().unwrap();
        assert!(status.success(), "{number}: not all of the group were killed");
        (number, 1)
    };
    (numbers.map(each).collect(), began.elapsed())
}

/// The role: a parent outside of the container, whose children in it are killed.
pub fn group(cgroup: &str) -> ExitCode {
    let processes = Cgroup::made(cgroup).file("cgroup.procs");
    let member = |grows: bool| {
        forked(|| {
            fs::write(&processes, "0").expect("enter the cgroup");
            if grows {
                crate::harness::storm::grow();
            }
            loop {
                sleep(Duration::from_secs(3600));
            }
        })
    };
    let mut members: Vec<Pid> = (1..MEMBERS).map(|_| member(false)).collect();
    within(Duration::from_secs(60), "all are in", || {
        fs::read_to_string(&processes).unwrap().lines().count() == members.len()
    });
    members.push(member(true));
    let killed = members.into_iter().filter(|member| is_killed(*member)).count();
    if killed == MEMBERS { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
