//! Without the programs: counts of the kernel in, reports out. inotify on the files is real.

use super::node::{Node, SINGLE};
use herder_model::oom::{Kind, Limit};
use std::{fs, time::Duration};

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

/// inotify's queue holds more than one poll takes, and what comes last is as much a kill.
#[test]
fn what_waits_behind_thousands_of_cgroups_is_reported_at_the_end() {
    let mut node = node("counted-behind");
    node.turn();
    let made = node.directory("/made");
    for _ in 0..3000 {
        fs::create_dir(&made).unwrap();
        fs::remove_dir(&made).unwrap();
    }
    node.counts(1);
    node.core.end();
    assert_eq!(node.kill().kind, Kind::Subprocess);
}

/// It was made before its parent was watched, so no notification comes for it.
#[test]
fn what_a_new_cgroup_contains_already_is_due_at_once() {
    let mut node = node("counted-below");
    node.turn();
    fs::create_dir_all(node.directory("/new/below")).unwrap();
    node.core.turn(None, false);
    assert!(node.core.next_deadline().is_some_and(|due| due <= node.clock.now()));
    node.turn();
    assert!(node.core.next_deadline().is_none_or(|due| due > node.clock.now()));
}
