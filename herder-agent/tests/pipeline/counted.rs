//! Without the programs: counts of the kernel in, reports out. inotify on the files is real.

use super::{
    files::{make, write},
    node::{Node, SINGLE},
};
use herder_agent::inside::kernel::source::{MemoryEvents, Source};
use herder_model::oom::{Kind, Limit};
use std::{fs, path::Path, time::Duration};

/// Longer than counts of one kill are gathered.
const GATHERED: Duration = Duration::from_millis(100);

/// The counts below this root.
fn counts(root: &Path) -> Box<dyn Source> {
    fs::write(root.join("cgroup.controllers"), "cpu memory\n").unwrap();
    Box::new(MemoryEvents::new(root).unwrap())
}

fn node(name: &str) -> Node {
    let mut node = Node::with_source(name, SINGLE, counts);
    node.pods_are('a');
    node
}

/// A node whose rule matches one cgroup.
fn single(name: &str, path: &str) -> Node {
    let rules = format!("rules: [{{ name: one, cgroups: [{path:?}], oomGroup: single-process }}]");
    let mut node = Node::with_source(name, &rules, counts);
    node.turn();
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
fn what_a_new_cgroup_contains_already_is_taken_at_once() {
    let mut node = single("counted-below", "/new/below");
    fs::create_dir_all(node.directory("/new/below")).unwrap();
    make(&node.directory("/"), "/new/below");
    write(&node.directory("/"), "/new/below", "memory.oom.group", "1");
    node.turn();
    assert_eq!(node.value_of("/new/below"), "0");
}

/// It must not pass for a find of the walk, whose 0 would be the value to restore.
#[test]
fn what_a_new_cgroup_contains_already_is_new_to_a_walk_too() {
    let mut node = single("counted-below-new", "/new/below");
    fs::create_dir_all(node.directory("/new/below")).unwrap();
    make(&node.directory("/"), "/new/below");
    node.core.begin().unwrap();
    write(&node.directory("/"), "/new/below", "memory.oom.group", "1");
    node.turn();
    assert_eq!(node.value_of("/new/below"), "0");
    node.rules_are("rules: []");
    assert_eq!(node.value_of("/new/below"), "1");
}
