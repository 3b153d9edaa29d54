//! Does a running agent take another log level, and show what it goes by?

use crate::harness::{
    agent::{Agent, MATCHED},
    container::Container,
    test::{Test, tests},
    wait::eventually,
};
use serde_json::Value;

pub const TESTS: &[Test] = tests![log_level_changes];

const SUCCESSFUL: &str = "herder_config_last_reload_successful";
const SUCCESS_AT: &str = "herder_config_last_reload_success_timestamp_seconds";

/// What the agent goes by, as the API and the metrics show it, which have to agree.
fn in_force(agent: &Agent) -> (String, String) {
    let node: Value = serde_json::from_str(&agent.get("/api/v1/node")).unwrap();
    let text = |key: &str| node[key].as_str().unwrap().to_owned();
    (text("config_hash"), text("log_level"))
}

/// Kills, and how many of them are in the log.
fn kill(agent: &Agent, name: &str) -> (usize, usize) {
    let before = agent.kills().len();
    let container = Container::start(&format!("/matched/{name}"), 60, &["idle", "hog:100"]);
    agent.wait_for_kills(before + 1);
    drop(container);
    (before + 1, Agent::log().matches("OOM kill.").count())
}

/// A kill is counted at any level, and logged at `info`. One process all the time.
fn log_level_changes() {
    let agent = Agent::start_with(MATCHED, &["--log-level", "error"]);
    let (hash, level) = in_force(&agent);
    assert_eq!(level, "error");
    assert_eq!(agent.metric(SUCCESSFUL), 1.0);
    let read_at = agent.metric(SUCCESS_AT);
    assert!(read_at > 0.0);
    assert_eq!(kill(&agent, "c1"), (1, 0), "{}", Agent::log());

    let with = |level: &str| format!("{MATCHED}logLevel: {level}\n");
    Agent::reconfigure(&with("info"));
    eventually("the file's level is in force", || in_force(&agent).1 == "info");
    let (other, _) = in_force(&agent);
    assert_ne!(other, hash);
    let series = |hash: &str, level: &str| {
        format!("herder_config_info{{hash=\"{hash}\",log_level=\"{level}\"}}")
    };
    assert_eq!(agent.metric(&series(&other, "info")), 1.0);
    assert_eq!(agent.total("herder_config_info{"), 1.0, "and no other series");
    assert_eq!(kill(&agent, "c2"), (2, 1), "{}", Agent::log());

    Agent::reconfigure(&with("inof"));
    eventually("a level that is none is rejected", || agent.metric(SUCCESSFUL) == 0.0);
    assert!(
        Agent::log().contains("/tmp/rules.yaml:3:11: \"inof\" is no log level"),
        "{}",
        Agent::log()
    );
    assert_eq!(in_force(&agent), (other.clone(), "info".into()));
    assert_eq!(kill(&agent, "c3"), (3, 2), "{}", Agent::log());

    Agent::reconfigure(&with("info"));
    eventually("what is in force comes back", || agent.metric(SUCCESSFUL) == 1.0);
    let reloads = r#"herder_config_reloads_total{result="ok"}"#;
    let before = agent.metric(reloads);
    agent.hang_up();
    eventually("SIGHUP reads the file again", || agent.metric(reloads) == before + 1.0);
    assert_eq!(in_force(&agent), (other, "info".into()));
    assert!(agent.metric(SUCCESS_AT) >= read_at);

    Agent::reconfigure(MATCHED);
    eventually("the flag's level is in force", || {
        in_force(&agent) == (hash.clone(), "error".into())
    });
    let logged = Agent::log().matches("OOM kill.").count();
    assert_eq!(kill(&agent, "c4"), (4, logged), "{}", Agent::log());
    agent.assert_nothing_lost();
}
