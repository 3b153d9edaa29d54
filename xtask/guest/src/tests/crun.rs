//! Does the agent enforce both cgroups that crun makes for one container?

use crate::harness::{
    agent::{Agent, MATCHED},
    container::{Cgroup, Container, run_in},
    test::{Test, tests},
    wait::eventually,
};
use serde_json::{Value, json};
use std::{fs, thread::sleep, time::Duration};

pub const TESTS: &[Test] = tests![crun_subgroup];

/// crun writes to a cgroup inside of the scope; both count. What is deeper is the workload's
/// own, and so is one of that name where there is no scope.
fn crun_subgroup() {
    let agent = Agent::start(MATCHED);
    let paths = [
        "/matched/x.scope",
        "/matched/x.scope/container",
        "/matched/x.scope/container/deep",
        "/matched/b",
        "/matched/b/container",
    ];
    let cgroups = paths.map(Cgroup::make);
    for cgroup in &cgroups {
        cgroup.set("memory.oom.group", "1");
    }
    let values = || cgroups.iter().map(Cgroup::oom_group).collect::<Vec<_>>();
    eventually("both are 0", || values() == ["0", "0", "1", "0", "1"]);
    built_like_crun(&agent);
    let rows: Vec<_> = agent
        .containers()
        .iter()
        .map(|row| [&row["cgroup"], &row["inner_cgroup"]].map(|it| it.as_str().map(str::to_owned)))
        .collect();
    let row = |one: &str, inner: Option<&str>| [Some(one.to_owned()), inner.map(str::to_owned)];
    let expected = [
        row("/matched/b", None),
        row("/matched/x.scope", Some("/matched/x.scope/container")),
        row("/matched/z.scope", Some("/matched/z.scope/container")),
    ];
    assert_eq!(rows, expected, "each once");
    for inner in ["/matched/x.scope/container", "/matched/z.scope/container"] {
        assert!(!agent.get("/metrics").contains(inner), "{inner}");
    }
    let _container = Container::start("/matched/y.scope/container", 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    assert_eq!(
        [&kills[0]["kind"], &kills[0]["cgroup"]],
        ["subprocess", "/matched/y.scope/container"]
    );
    let series = r#"herder_host_oom_kills_total{cgroup="/matched/y.scope",kind="subprocess",limit="container"}"#;
    assert_eq!(agent.metric(series), 1.0);
}

/// crun moves the process into its cgroup first and enables the controller then, here a
/// second later. Until then nothing is amiss.
fn built_like_crun(agent: &Agent) {
    let scope = Cgroup::make("/matched/z.scope");
    let mut process = run_in(&scope, &["idle"]);
    eventually("it is in the scope", || scope.processes().len() == 1);
    let inner = Cgroup::made("/matched/z.scope/container");
    fs::create_dir(format!("/sys/fs/cgroup{}", inner.path())).unwrap();
    inner.set("cgroup.procs", &process.id().to_string());
    sleep(Duration::from_secs(1));
    let state = agent.container("/matched/z.scope").unwrap();
    assert_eq!((&state["obstacle"], &state["inner_cgroup"]), (&Value::Null, &Value::Null));
    scope.set("cgroup.subtree_control", "+memory");
    inner.set("memory.oom.group", "1");
    eventually("it is 0", || inner.oom_group() == "0");
    eventually("that is shown", || {
        let state = agent.container("/matched/z.scope").unwrap();
        [&state["inner_cgroup"], &state["effective"]] == [&json!(inner.path()), &json!(0)]
    });
    assert!(!Agent::log().contains("is not enforceable"), "{}", Agent::log());
    assert_eq!(agent.total("herder_not_enforceable"), 0.0);
    process.kill().unwrap();
    process.wait().unwrap();
}
