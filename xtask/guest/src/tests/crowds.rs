//! Many cgroups, containers and kills at once.

use crate::harness::{
    agent::{Agent, MATCHED},
    container::Cgroup,
    kill::{reported_in_log, sub_process_dies},
    role::role,
    say::say,
    storm::storm_in,
    test::{Test, tests},
    wait::eventually,
};
use serde_json::Value;
use std::{
    fs,
    process::Child,
    thread,
    time::{Duration, Instant},
};

pub const TESTS: &[Test] = tests![five_thousand_cgroups, containers_come_and_go, storm];

/// Most of a node's cgroups are none of the agent's business.
fn five_thousand_cgroups() {
    for slice in 0..50 {
        for scope in 0..100 {
            fs::create_dir_all(format!("/sys/fs/cgroup/plain/s{slice}.slice/c{scope}.scope"))
                .unwrap();
        }
    }
    let began = Instant::now();
    let agent = Agent::start(MATCHED);
    let took = began.elapsed().as_secs_f64();
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let rss = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    say(&format!("with 5,050 other cgroups: ready in {took:.2} s, {rss}"));
    sub_process_dies(&agent, "/matched/c1");
    agent.assert_nothing_lost();
}

/// Containers as short as a job that fails at once, some by the OOM killer.
fn containers_come_and_go() {
    const CONTAINERS: u32 = 200;
    let agent = Agent::start(MATCHED);
    Cgroup::make("/matched/first");
    let began = Instant::now();
    let killed: usize = thread::scope(|scope| {
        let worker = |worker: u32| {
            let mut killed = 0;
            for number in 0..CONTAINERS / 4 {
                let cgroup = Cgroup::make(&format!("/matched/w{worker}-{number}"));
                cgroup.limit(20);
                cgroup.set("memory.oom.group", "1");
                let program: &[&str] = if number % 5 == 0 { &["hog", "40"] } else { &["brief"] };
                let mut child: Child =
                    role("enter", &[cgroup.path()]).args(program).spawn().unwrap();
                killed += usize::from(child.wait().unwrap().code().is_none());
                cgroup.remove();
            }
            killed
        };
        let workers: Vec<_> = (0..4).map(|number| scope.spawn(move || worker(number))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    let rate = f64::from(CONTAINERS) / began.elapsed().as_secs_f64();
    say(&format!("{CONTAINERS} containers, {rate:.0} a second, {killed} of them killed"));
    let kills = agent.wait_for_kills(killed);
    assert!(killed >= 40, "{killed}");
    for kill in &kills {
        assert_eq!(kill["rule"], "matched", "{kill:#}");
    }
    eventually("only the first is left", || {
        agent.get("/api/v1/containers").matches("\"rule\":\"matched\"").count() == 1
    });
    agent.assert_nothing_lost();
}

/// Containers of a storm, and kills in each. An emulated kernel kills ten to twenty
/// processes a second.
const CONTAINERS: usize = 50;

const KILLS: usize = 5;

/// Sub-processes of many containers, some with threads, die as fast as the kernel kills. What each init
/// reaped is the truth, and the metrics, the log and the API agree with it.
pub fn storm() {
    let agent = Agent::start(MATCHED);
    let name = |number| (format!("/matched/c{number}"), format!("/tmp/storm-{number}"));
    let containers = storm_in((0..CONTAINERS).map(name), KILLS);
    let began = Instant::now();
    for (path, notes) in (0..CONTAINERS).map(name) {
        eventually(&format!("{path} is through"), || {
            fs::read_to_string(&notes).is_ok_and(|text| text == KILLS.to_string())
        });
    }
    let rate = (CONTAINERS * KILLS) as f64 / began.elapsed().as_secs_f64();
    say(&format!("{} kills in {CONTAINERS} containers, {rate:.0} a second", CONTAINERS * KILLS));
    say(&agent.median("herder_kill_report_seconds"));
    let metrics = || agent.get("/metrics");
    eventually("all are counted", || {
        agent.total("herder_host_oom_kills_total") == (CONTAINERS * KILLS) as f64
    });
    let text = metrics();
    eventually("all are in the log", || reported_in_log() == CONTAINERS * KILLS);
    let (kills, log) = (agent.kills(), Agent::log());
    let lines: Vec<_> = log.lines().filter(|line| line.contains("OOM kill.")).collect();
    for (number, container) in containers.iter().enumerate() {
        let (path, _) = name(number);
        let series = format!(
            "herder_host_oom_kills_total{{cgroup=\"{path}\",kind=\"subprocess\",limit=\"container\"}} {KILLS}"
        );
        assert!(text.lines().any(|line| line == series), "no {series} in:\n{text}");
        assert_eq!(container.cgroup.event("oom_kill"), KILLS as u64, "{path}");
        let of_it = |kill: &&Value| kill["cgroup"] == path && kill["kind"] == "subprocess";
        assert_eq!(kills.iter().filter(of_it).count(), KILLS, "{path} in the API");
        let named = format!("cgroup={path:?}");
        let in_log = lines.iter().filter(|line| line.contains(&named)).count();
        assert_eq!(in_log, KILLS, "{named} in the log");
    }
    // Until the kernel's counts have been compared.
    thread::sleep(Duration::from_secs(6));
    agent.assert_nothing_lost();
}
