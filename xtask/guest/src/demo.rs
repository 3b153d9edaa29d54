//! A minute of Herder, for people: two identical containers, of which a rule matches one.
//!
//! Both have an init with children that grow beyond the limit, and both were
//! made with `memory.oom.group=1`, as the kubelet has it. A tiny runtime starts
//! the init again when it ends, as a kubelet would.

use crate::harness::{
    agent::Agent,
    container::{Cgroup, Container},
    say::say,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

const RULES: &str = "\
rules:
- name: demo
  cgroups: ['/demo.slice/docker-5teered*.scope']
  oomGroup: single-process
";

/// Limit of each container, MiB.
const LIMIT: u32 = 256;

/// What the init runs: three workers that grow at different speed, one that does
/// not. A worker that dies is started again.
const CHILDREN: [&str; 4] = ["grower:3!", "grower:4!", "grower:5!", "idle"];

const BOLD: &str = "\x1b[1m";

const DIM: &str = "\x1b[2m";

const GREEN: &str = "\x1b[32m";

const RED: &str = "\x1b[31m";

const RESET: &str = "\x1b[0m";

/// A container of the demo, with what the runtime knows of it.
struct Shown {
    name: &'static str,
    path: &'static str,
    container: Container,
    restarts: u32,
    kills: BTreeMap<String, u32>,
}

impl Shown {
    fn start(name: &'static str, path: &'static str) -> Self {
        let container = Container::start(path, LIMIT, &CHILDREN);
        Shown { name, path, container, restarts: 0, kills: BTreeMap::new() }
    }

    /// Starts the container again if its init has ended: a new cgroup, as a
    /// runtime makes one, and `memory.oom.group=1` in it.
    fn keep_running(&mut self, began: Instant) {
        if !self.container.ended() {
            return;
        }
        self.restarts += 1;
        show(
            began,
            RED,
            "restart",
            &format!("{}: its init was killed too, and all of its work is lost", self.name),
        );
        Cgroup::remove(&self.container.cgroup);
        self.container = Container::start(self.path, LIMIT, &CHILDREN);
    }
}

pub fn run(seconds: u64) -> ExitCode {
    crate::harness::system::interface_up("eth0", [10, 0, 2, 15]);
    let agent = Agent::start(RULES);
    say(&format!("{DIM}herder-agent runs with these rules:{RESET}"));
    say(RULES);
    let mut shown = [
        Shown::start("matched", "/demo.slice/docker-5teered0c0ffee.scope"),
        Shown::start("unmatched", "/demo.slice/docker-ne19hb0ur0decaf.scope"),
    ];
    for container in &shown {
        let value = container.container.cgroup.oom_group();
        say(&format!(
            "{BOLD}{:<9}{RESET} {}  limit {LIMIT} MiB, memory.oom.group now {value}",
            container.name, container.path
        ));
    }
    say("");
    let began = Instant::now();
    let mut shown_until = 0;
    while began.elapsed() < Duration::from_secs(seconds) {
        for kill in agent
            .kills()
            .into_iter()
            .filter(|kill| number(kill, "id") > shown_until)
            .collect::<Vec<_>>()
        {
            shown_until = number(&kill, "id");
            if let Some(container) = shown.iter_mut().find(|shown| kill["cgroup"] == shown.path) {
                *container.kills.entry(text(&kill, "kind")).or_default() += 1;
                feed(began, container, &kill);
            }
        }
        shown.iter_mut().for_each(|shown| shown.keep_running(began));
        sleep(Duration::from_millis(100));
    }
    table(&agent, &shown);
    let [matched, unmatched] = &shown;
    let as_promised = matched.restarts == 0
        && matched.kills.get("subprocess").is_some_and(|kills| *kills > 0)
        && unmatched.restarts > 0
        && unmatched.kills.contains_key("group");
    agent.assert_nothing_lost();
    if as_promised { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One line for one kill.
fn feed(began: Instant, shown: &Shown, kill: &Value) {
    let (kind, victim) = (text(kill, "kind"), &kill["victim"]);
    let processes = number(kill, "processes");
    let mebibytes = number(victim, "anon_rss") >> 20;
    let what = match kind.as_str() {
        "group" => format!("the whole container killed ({processes} processes marked)"),
        "init" => "its init was killed".to_owned(),
        _ => format!(
            "pid {} ({mebibytes} MiB) killed, the init and the others live on",
            number(victim, "pid")
        ),
    };
    let colour = if kind == "subprocess" { GREEN } else { RED };
    show(began, colour, &kind, &format!("{}: {what}", shown.name));
}

fn show(began: Instant, colour: &str, word: &str, text: &str) {
    let seconds = began.elapsed().as_secs_f64();
    say(&format!("{DIM}{seconds:5.1} s{RESET}  {colour}{word:<10}{RESET} {text}"));
}

fn table(agent: &Agent, shown: &[Shown]) {
    say("");
    say(&format!(
        "{BOLD}{:<10} {:>10} {:>6} {:>6} {:>17} {:>14}{RESET}",
        "container", "subprocess", "init", "group", "restarts of init", "oom.group now"
    ));
    for container in shown {
        let kills = |kind: &str| container.kills.get(kind).copied().unwrap_or(0);
        say(&format!(
            "{:<10} {:>10} {:>6} {:>6} {:>17} {:>14}",
            container.name,
            kills("subprocess"),
            kills("init"),
            kills("group"),
            container.restarts,
            container.container.cgroup.oom_group()
        ));
    }
    say("");
    say(&format!("{DIM}The same in /metrics:{RESET}"));
    let metrics = agent.get("/metrics");
    let interesting = [
        "herder_host_oom_kills_total{",
        "herder_host_oom_group{",
        "herder_kills_lost_total{reason=\"victim-ring",
    ];
    for line in
        metrics.lines().filter(|line| interesting.iter().any(|prefix| line.starts_with(prefix)))
    {
        say(&format!("  {line}"));
    }
    say("");
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or(0)
}
