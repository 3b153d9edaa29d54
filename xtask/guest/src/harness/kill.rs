//! What the agent has to report of a kill, however it came about.

use super::{agent::Agent, container::Container};
use serde_json::Value;

/// A kill as the agent has reported it: what died, by whose limit, and where.
pub fn assert_kill(kill: &Value, kind: &str, limit: &str, cgroup: &str) {
    let told = [&kill["kind"], &kill["limit"], &kill["cgroup"]];
    assert_eq!(told, [kind, limit, cgroup], "{kill:#}");
}

/// A container whose child is killed while its init lives on; the agent reports it as that.
pub fn sub_process_dies(agent: &Agent, path: &str) {
    let before = agent.kills().len();
    let container = Container::start_governed(path, 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(before + 1);
    let told = [&kills[before]["kind"], &kills[before]["cgroup"]];
    assert_eq!(told, ["subprocess", path], "{:#}", kills[before]);
    drop(container);
}

/// Kills that the last agent has logged.
pub fn told_in_log() -> usize {
    Agent::log().matches("OOM kill.").count()
}
