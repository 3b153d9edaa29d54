//! Without the programs: counts of the kernel in, reports out. inotify on the files is real.

use super::node::{Node, SINGLE};
use herder_model::oom::{Kind, Limit};
use std::time::Duration;

/// Longer than counts of one kill are gathered.
const GATHERED: Duration = Duration::from_millis(100);

fn node(name: &str) -> Node {
    let mut node = Node::without_programs(name, SINGLE);
    node.pods_are('a');
    node
}

#[test]
fn a_container_that_lives_on_had_subprocesses_killed() {
    let mut node = node("counted");
    node.counts(2);
    node.turn();
    node.pass(GATHERED);
    assert_eq!(node.kills().len(), 0, "its fate is not known");
    node.pass(Duration::from_secs(2));
    let kills = node.kills();
    assert_eq!(kills.len(), 2, "one for each process");
    for kill in kills {
        assert_eq!(
            (kill.kind, kill.limit, kill.victim.pid),
            (Kind::Subprocess, Limit::Container, None)
        );
        assert_eq!(
            (kill.container.as_deref(), kill.rule.as_deref()),
            (Some("worker"), Some("other"))
        );
    }
    node.pass(Duration::from_secs(60));
    let unseen = r#"herder_kills_unseen_total{reason="missed"}"#;
    assert_eq!((node.kills().len(), node.metric(unseen)), (2, Some(0.0)));
}

#[test]
fn a_container_without_processes_has_lost_its_init() {
    let mut node = node("counted-init");
    node.counts(1);
    node.write("cgroup.events", "populated 0\n");
    node.turn();
    assert_eq!(node.kills().len(), 0, "its counts are gathered");
    node.pass(GATHERED);
    assert_eq!(node.kill().kind, Kind::Init);
}

#[test]
fn what_was_counted_before_the_agent_is_no_kill_of_its_time() {
    let mut node = node("counted-before");
    node.counts(0);
    node.turn();
    node.pass(Duration::from_secs(10));
    assert_eq!(node.kills().len(), 0);
    // The agent ends before the container's fate is known.
    node.counts(1);
    node.turn();
    node.core.end();
    assert_eq!(node.kill().kind, Kind::Subprocess);
}
