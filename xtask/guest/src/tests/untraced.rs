//! Does the agent report kind and limit right where the kernel's functions cannot be traced?
//! Tracepoints and what the cgroups say at the mark stand in, on every kernel with BTF.

use super::{constraints, marks};
use crate::harness::{
    agent::{Agent, MATCHED},
    container::{Cgroup, Container, run_in},
    kill::assert_kill,
    say::say,
    test::{Test, tests},
    wait::{alive, eventually},
};
use std::process::Command;

pub const TESTS: &[Test] = tests![
    untraced_kinds,
    untraced_limit,
    untraced_removed_cgroups,
    untraced_dying_tasks,
    untraced_is_said_by_check
];

fn agent(rules: &str) -> Agent {
    let agent = Agent::start_with(rules, &["--no-functions"]);
    assert_eq!(means(&agent), "tracepoints", "{}", Agent::log());
    agent
}

/// By what means the agent distinguishes kills.
fn means(agent: &Agent) -> String {
    let metrics = agent.get("/metrics");
    let info = metrics.lines().find(|line| line.starts_with("herder_build_info")).unwrap();
    let label = info.split_once("means=\"").unwrap().1;
    label.split_once('"').unwrap().0.to_owned()
}

/// A process of a container, a group, and a single
/// process that is a group.
fn untraced_kinds() {
    let agent = agent(MATCHED);
    let container = Container::start("/matched/c1", 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "subprocess", "container", "/matched/c1");
    assert_eq!(kills[0]["trigger"]["cgroup_id"], container.cgroup.id());
    assert!(alive(container.init()) && !container.cgroup.processes().is_empty());
    let cgroup = Cgroup::make("/unmatched");
    cgroup.limit(100);
    cgroup.set("memory.oom.group", "1");
    let mut members: Vec<_> = ["idle", "idle"].map(|role| run_in(&cgroup, &[role])).into();
    eventually("both are in", || cgroup.processes().len() == 2);
    members.push(run_in(&cgroup, &["hog", "200"]));
    let kills = agent.wait_for_kills(2);
    assert_kill(&kills[1], "group", "container", "/unmatched");
    assert_eq!(kills[1]["processes"], 3, "{:#}", kills[1]);
    for member in &mut members {
        member.wait().unwrap();
    }
    let _single = Container::start_program("/single", 50, &["hog", "100"]);
    let kills = agent.wait_for_kills(3);
    assert_kill(&kills[2], "group", "container", "/single");
    agent.assert_nothing_lost();
}

fn untraced_limit() {
    constraints::the_pods_limit_is_hit(&agent(constraints::IN_POD));
}

fn untraced_removed_cgroups() {
    marks::cgroups_go_with_their_last_process(&agent(MATCHED));
}

fn untraced_dying_tasks() {
    marks::tasks_die(&agent(MATCHED));
}

/// What this node has, whichever that is: `check` says the same as the agent that runs.
fn untraced_is_said_by_check() {
    let means = means(&Agent::start(MATCHED));
    assert!(["functions", "tracepoints"].contains(&means.as_str()), "{means}");
    let output = Command::new("/bin/herder-agent").arg("check").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let line = said.lines().find(|line| line.contains("eBPF programs")).unwrap();
    assert!(line.starts_with("ok") && line.contains(&format!("  {means}: ")), "{said}");
    say(line);
}
