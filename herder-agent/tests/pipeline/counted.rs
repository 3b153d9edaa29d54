//! Without the programs: counts of the kernel in, reports out. inotify on the files is real.

use super::{
    escalating::escalations,
    files::{make, write},
    node::{Node, SINGLE, container},
    walks::{bound_by_modes, mode},
};
use herder_agent::inside::{
    enforce::restart_channel,
    kernel::source::{MemoryEvents, Source},
};
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

impl Node {
    /// The kernel has counted so many kills in a cgroup.
    fn counted(&self, path: &str, kills: u64) {
        let text = format!("oom {kills}\noom_kill {kills}\n");
        write(&self.directory("/"), path, "memory.events.local", &text);
    }
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
    fs::create_dir(node.directory("/new")).unwrap();
    make(&node.directory("/"), "/new/below");
    write(&node.directory("/"), "/new/below", "memory.oom.group", "1");
    node.turn();
    assert_eq!(node.value_of("/new/below"), "0");
}

/// It must not pass for a find of the walk, whose 0 would be the value to restore.
#[test]
fn what_a_new_cgroup_contains_already_is_new_to_a_walk_too() {
    let mut node = single("counted-below-new", "/new/below");
    fs::create_dir(node.directory("/new")).unwrap();
    make(&node.directory("/"), "/new/below");
    node.core.begin().unwrap();
    write(&node.directory("/"), "/new/below", "memory.oom.group", "1");
    node.turn();
    assert_eq!(node.value_of("/new/below"), "0");
    node.rules_are("rules: []");
    assert_eq!(node.value_of("/new/below"), "1");
}

/// A part of the first walk is watched before the next is taken, and what is in its directories comes
/// first. A 0 there is the value to restore, whatever has written 1 since.
#[test]
fn what_is_found_in_directories_at_the_start_was_there_before() {
    // More than one part, wherever the walk begins.
    let paths: Vec<_> = (0..100).map(|number| format!("/{number}/one")).collect();
    let before = |root: &Path| {
        for path in &paths {
            make(root, path);
        }
        counts(root)
    };
    let rules = "rules: [{ name: one, cgroups: [\"/*/one\"], oomGroup: single-process }]";
    let mut node = Node::with_source("counted-start", rules, before);
    let values = |node: &Node| paths.iter().map(|path| node.value_of(path)).collect::<String>();
    for path in &paths {
        write(&node.directory("/"), path, "memory.oom.group", "1");
    }
    node.core.begin().unwrap();
    // Some are looked at in each.
    (0..50).for_each(|_| node.turn());
    assert_eq!(values(&node), "0".repeat(100));
    node.rules_are("rules: []");
    assert_eq!(values(&node), "0".repeat(100));
}

/// What was there before the agent has its past, whenever it is found; what was made since has not.
#[test]
fn what_a_later_walk_finds_has_a_past_only_if_it_was_there_before() {
    bound_by_modes(|| {
        let before = |root: &Path| {
            make(root, "/closed/before");
            write(root, "/closed/before", "memory.events.local", "oom_kill 5\n");
            // Neither a walk nor inotify looks into it.
            mode(&root.join("closed"), 0o300);
            make(root, "/open");
            counts(root)
        };
        let mut node = Node::with_source("counted-past", "rules: []", before);
        node.turn();
        make(&node.directory("/"), "/closed/since");
        node.counted("/closed/since", 2);
        mode(&node.directory("/closed"), 0o755);
        node.core.begin().unwrap();
        node.pass(Duration::from_secs(10));
        let kills = |node: &Node, path: &str| {
            node.kills().iter().filter(|it| it.cgroup.as_deref() == Some(path)).count()
        };
        assert_eq!((kills(&node, "/closed/before"), kills(&node, "/closed/since")), (0, 2));
        node.counted("/closed/before", 6);
        node.turn();
        node.pass(Duration::from_secs(10));
        assert_eq!((kills(&node, "/closed/before"), kills(&node, "/closed/since")), (1, 2));
    });
}

/// A walk did not find it, and the next one does. It is the same cgroup, whose kills were reported.
#[test]
fn what_was_reported_of_a_cgroup_that_seemed_to_be_gone_is_not_reported_again() {
    let mut node = node("counted-back");
    node.turn();
    let there = node.directory("/since");
    make(&node.directory("/"), "/since");
    node.core.begin().unwrap();
    let counts = |node: &mut Node, kills| {
        node.counted("/since", kills);
        node.turn();
        node.pass(Duration::from_secs(2));
        node.kills().len()
    };
    assert_eq!(counts(&mut node, 2), 2);
    let aside = node.directory("/").with_extension("aside");
    fs::rename(&there, &aside).unwrap();
    node.pass(Duration::from_secs(1));
    node.core.begin().unwrap();
    node.pass(Duration::from_secs(1));
    fs::rename(&aside, &there).unwrap();
    node.core.begin().unwrap();
    node.pass(Duration::from_secs(10));
    assert_eq!(node.kills().len(), 2);
    assert_eq!(counts(&mut node, 3), 3);
}

/// A node without the programs on which two containers are to be restarted. The first was, and the
/// second waits for that, with one more kill.
fn with_one_restarted(name: &str) -> Node {
    let mut node = Node::with_source(
        name,
        "rules: [{ name: web, cgroups: [\"/apps/*\"], oomGroup: single-process, \
         escalate: { after: 2, within: 1m, to: restart } }]",
        counts,
    );
    let root = node.directory("/");
    for path in ["/apps/first", "/apps/second"] {
        make(&root, path);
        node.has_kill(path);
    }
    node.turn();
    for path in ["/apps/first", "/apps/second"] {
        node.counted(path, 2);
        node.turn();
        node.pass(GATHERED);
        node.pass(Duration::from_secs(2));
    }
    node.restart();
    assert_eq!(escalations(&node, "restart", "over-budget"), Some(1.0));
    node.pass(Duration::from_secs(7));
    node.counted("/apps/second", 3);
    node.turn();
    node
}

fn kinds(node: &Node) -> Vec<Kind> {
    node.kills().iter().map(|kill| kill.kind).collect()
}

/// That it has no process then says nothing about the kill.
#[test]
fn a_kill_before_a_restart_by_the_agent_did_not_end_the_container() {
    let mut node = with_one_restarted("counted-restart");
    node.pass(Duration::from_secs(1));
    node.restart();
    assert_eq!(node.killed("/apps/second"), "1");
    write(&node.directory("/"), "/apps/second", "cgroup.events", "populated 0\n");
    node.pass(Duration::from_secs(2));
    assert_eq!(kinds(&node), [Kind::Subprocess; 5]);
}

/// Nothing but the kill ends it then.
#[test]
fn a_kill_before_a_restart_that_was_not_ordered_may_have_ended_the_container() {
    let mut node = with_one_restarted("counted-not-restarted");
    // What writes restarts has ended.
    node.restarts = restart_channel().1;
    node.pass(Duration::from_secs(1));
    assert_eq!(escalations(&node, "restart", "error"), Some(1.0));
    write(&node.directory("/"), "/apps/second", "cgroup.events", "populated 0\n");
    node.pass(Duration::from_secs(2));
    assert_eq!(kinds(&node)[4..], [Kind::Init]);
}

/// What has processes there is another container.
#[test]
fn a_container_whose_name_another_has_by_now_has_ended() {
    let mut node = node("counted-again");
    node.counts(1);
    node.turn();
    fs::remove_dir_all(node.directory(&container('a'))).unwrap();
    make(&node.directory("/"), &container('a'));
    node.pass(Duration::from_secs(2));
    assert_eq!(node.kill().kind, Kind::Init);
}

/// Notifications say only what a cgroup is called, and come late.
#[test]
fn a_cgroup_stays_when_the_end_of_one_before_it_is_read() {
    let mut node = single("counted-successor", "/a");
    let (a, other) = (node.directory("/a"), node.directory("/other"));
    fs::create_dir(&a).unwrap();
    // More notifications than one poll takes.
    for _ in 0..600 {
        fs::create_dir(&other).unwrap();
        fs::remove_dir(&other).unwrap();
    }
    fs::remove_dir(&a).unwrap();
    fs::create_dir(&a).unwrap();
    make(&node.directory("/"), "/a");
    write(&node.directory("/"), "/a", "memory.oom.group", "1");
    node.core.turn(None, false);
    // What is gone is looked for no longer.
    node.pass(Duration::from_millis(100));
    assert_eq!(node.value_of("/a"), "0");
}
