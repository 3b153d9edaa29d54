//! What the agent has to report of a kill, however it came about.

use super::{agent::Agent, container::Container};
use serde_json::Value;

/// A kill as the agent has reported it: what died, by whose limit, and where.
pub fn assert_kill(kill: &Value, kind: &str, limit: &str, cgroup: &str) {
    let reported = [&kill["kind"], &kill["limit"], &kill["cgroup"]];
    assert_eq!(reported, [kind, limit, cgroup], "{kill:#}");
}

/// What a cgroup had when its limit, in MiB, was hit. The kernel uncharges what it had charged in
/// advance before it looks for a victim: a batch of 64 pages at most (MEMCG_CHARGE_BATCH).
pub fn assert_at_limit(bytes: f64, mebibytes: u32) {
    let left = f64::from(mebibytes << 20) - bytes;
    assert!((0.0..=f64::from(64 << 12)).contains(&left), "{bytes} bytes of {mebibytes} MiB");
}

/// A container whose child is killed while its init lives on; the agent reports it as that.
pub fn sub_process_dies(agent: &Agent, path: &str) {
    let before = agent.kills().len();
    let container = Container::start_governed(path, 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(before + 1);
    let reported = [&kills[before]["kind"], &kills[before]["cgroup"]];
    assert_eq!(reported, ["subprocess", path], "{:#}", kills[before]);
    drop(container);
}

/// Kills that the last agent has logged.
pub fn reported_in_log() -> usize {
    Agent::log().matches("OOM kill.").count()
}
