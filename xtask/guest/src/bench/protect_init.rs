//! What `protectInit` costs those who fork, and how long a child is exempt from OOM kills.

use super::{
    counted::{BURSTS, fork_and_exit},
    figures::{found, size, spread},
    forking::Forking,
    process::Work,
    programs::{Herder, Output, Program, Running},
    runs::{Runs, tracepoints},
};
use crate::{
    harness::{http::metric, sysctl::Sysctl},
    runtime::trace::{Seen, Trace, What},
};
use serde_json::{Value, json};
use std::{fs, thread::sleep, time::Duration};

const STATE: &str = "/tmp/protected-inits.json";

const HERDER: Herder = Herder {
    rules: "rules:\n- {name: matched, cgroups: ['/matched/*'], oomGroup: single-process, protectInit: true}\n",
    flags: &["--kubernetes", "off", "--state-file", STATE],
    more: &["sys_resource", "dac_override"],
};

const TRACEPOINT: &str = "sched_process_fork";

/// Bursts that the kernel counts the programs' time for.
const COUNTED: usize = 4;

/// What the init is asked for while it is traced when children have their score.
const CHILDREN: [&str; 4] = ["wait", "grow", "storm", "stay"];

pub fn protect_init() {
    let turns = size("turns");
    // Until the kernel has what it keeps for processes to come.
    count(5);
    let (mut outside, mut inside) = ([vec![], vec![]], [vec![], vec![]]);
    let mut of_agent = Runs::default();
    for _ in 0..turns {
        let mut container = Forking::start();
        outside[0].extend(count(1));
        inside[0].extend(numbers(&container.ask("count", 1)));
        let agent = start(&container);
        outside[1].extend(count(1));
        let before = Work::of(agent.pid()).cpu;
        let bursts = numbers(&container.ask("count", 1));
        of_agent.time += Work::of(agent.pid()).cpu - before;
        of_agent.count += forks(bursts.len());
        inside[1].extend(bursts);
        container.end();
    }
    for (place, [without, with]) in [("outside", outside), ("inside", inside)] {
        found(&json!({
            "program": "herder", "place": place,
            "fork and exit": {"without": spread(without), "with": spread(with)},
        }));
    }
    found(&json!({"program": "herder", "agent": of_agent.each()}));
    let mut container = Forking::start();
    let agent = start(&container);
    counted_by_kernel(&mut container, &agent);
    let most = size("forks");
    for what in CHILDREN {
        scores(&mut container, &agent, what, most);
    }
    container.end();
}

/// An agent that protects the container.
fn start(container: &Forking) -> Running {
    let _ = fs::remove_file(STATE);
    let running = Program::Herder.start(Output::File, HERDER);
    container.wait_until_protected();
    running
}

/// Instructions of forks in so many times [`BURSTS`], outside of the container.
fn count(times: usize) -> Vec<f64> {
    (0..times * BURSTS).map(|_| fork_and_exit()).collect()
}

fn forks(bursts: usize) -> u64 {
    u64::try_from(bursts).unwrap() * u64::from(super::counted::BURST)
}

fn numbers(answer: &Value) -> Vec<f64> {
    let numbers = answer.as_array().expect("an array").iter();
    numbers.map(|number| number.as_f64().expect("a number")).collect()
}

/// The program's own instructions, for a fork outside of the container and for one in it.
fn counted_by_kernel(container: &mut Forking, agent: &Running) {
    let _counted = Sysctl::set("kernel.bpf_stats_enabled", "1");
    let runs = || tracepoints(agent.pid())[TRACEPOINT];
    let before = runs();
    count(COUNTED);
    let between = runs();
    container.ask("count", COUNTED);
    let [outside, inside] = [between.since(before), runs().since(between)];
    let least = forks(COUNTED * BURSTS);
    assert!(outside.count >= least && inside.count >= least, "{outside:?} {inside:?}");
    found(&json!({
        "program": "herder", "instructions of the program":
            {"outside": outside.each(), "inside": inside.each(), "runs": outside.count},
    }));
}

/// How long the children of a protected init are exempt.
fn scores(container: &mut Forking, agent: &Running, what: &str, most: usize) {
    let lost = || {
        let text = agent.scrape().expect("metrics");
        metric(&text, "herder_init_forks_lost_total").expect("the metric")
    };
    let (lost_before, cpu_before) = (lost(), Work::of(agent.pid()).cpu);
    let trace = Trace::of_scores();
    let took = numbers(&container.ask(what, most));
    // What stays may be seen to later.
    sleep(Duration::from_secs(1));
    let seen = trace.seen();
    drop(trace);
    let cpu = Work::of(agent.pid()).cpu - cpu_before;
    let exempt = container.exempt();
    if what == "stay" {
        container.ask("end", most);
    }
    let (forks, back) = back(&seen);
    found(&json!({
        "program": "herder", "children": what, "forks": forks, "ms of the init": spread(took),
        "ended exempt": forks - back.len() - exempt, "exempt after a second": exempt,
        "lost": lost() - lost_before, "ms": spread(back),
        "agent's ms": cpu as f64 / 1e6,
    }));
}

/// Processes that were born exempt, and the milliseconds until each had another score.
fn back(seen: &[Seen]) -> (usize, Vec<f64>) {
    let born = seen.iter().enumerate().filter_map(|(at, seen)| match seen.what {
        What::Fork { pid, score: -1000 } => Some((at, pid)),
        _ => None,
    });
    let born: Vec<_> = born.collect();
    let took = |&(at, born): &(usize, u32)| {
        let given = seen[at..].iter().find(
            |seen| matches!(seen.what, What::Score { pid, score } if pid == born && score != -1000),
        )?;
        Some((given.at - seen[at].at) * 1e3)
    };
    let back = born.iter().filter_map(took).collect();
    (born.len(), back)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_back_when_it_has_another_score() {
        let seen = |at, what| Seen { at, comm: "init".into(), what };
        let fork = |at, pid, score| seen(at, What::Fork { pid, score });
        let score = |at, pid, score| seen(at, What::Score { pid, score });
        let seen = [
            score(0.5, 7, 300),
            fork(1.0, 7, -1000),
            fork(1.25, 8, -1000),
            fork(1.25, 9, 300),
            score(1.5, 8, -1000),
            score(1.5, 9, 200),
            score(2.0, 7, 300),
        ];
        assert_eq!(back(&seen), (2, vec![1000.0]));
    }
}
