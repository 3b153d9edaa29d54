//! What a walk makes of what an earlier agent left.

use super::{
    files::make,
    looped::run,
    node::{Node, container, pod},
};
use herder_agent::inside::state::StateFile;
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    saved::SavedCgroup,
};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
};

/// Runs as one whom the modes of directories bind.
pub(crate) fn bound_by_modes(test: impl FnOnce() + Send + 'static) {
    let run = move || {
        let mut sets = capabilities(None).unwrap();
        let overrides = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        sets.effective.remove(overrides);
        set_capabilities(None, sets).unwrap();
        test();
    };
    // Only this thread loses them.
    thread::spawn(run).join().unwrap();
}

pub(crate) fn mode(directory: &Path, mode: u32) {
    fs::set_permissions(directory, Permissions::from_mode(mode)).unwrap();
}

/// A 0 that an agent has put 1 in place of, for a rule that is gone.
fn left() -> SavedCgroup {
    SavedCgroup {
        path: CgroupPath::parse(container('a').as_bytes()).ok(),
        oom_kills: None,
        original_value: Some(false),
        rule: Some("gone".into()),
        escalated: None,
    }
}

fn state(name: &str) -> (PathBuf, StateFile) {
    let place = std::env::temp_dir().join(format!("herder-{name}-{}", std::process::id()));
    fs::create_dir_all(&place).unwrap();
    (place.clone(), StateFile::new(place.join("state")).unwrap())
}

/// A user may make an own delegated cgroup unreadable, which says nothing about the node.
#[test]
fn what_a_user_makes_unreadable_keeps_nothing_else_from_being_restored() {
    bound_by_modes(|| {
        for (unreadable, expected) in [("/user.slice/own".to_owned(), "0"), (pod(), "1")] {
            let mut node = Node::after_an_agent("unreadable", "rules: []", left(), None);
            make(&node.directory("/"), &unreadable);
            let directory = node.directory(&unreadable);
            mode(&directory, 0o000);
            node.pods_are('a');
            node.core.begin().unwrap();
            node.turn();
            mode(&directory, 0o755);
            assert_eq!(node.value(), expected, "{unreadable}");
            // What could not be read was not forgotten.
            node.core.begin().unwrap();
            node.turn();
            assert_eq!(node.value(), "0", "{unreadable}");
        }
    });
}

/// A wrong `--cgroup-root`, or a node that was booted another way: the next agent may find it.
#[tokio::test]
async fn an_agent_without_a_mount_forgets_nothing() {
    let (place, file) = state("no-mount");
    let mut node = Node::idle("no-mount", left(), file.clone(), false);
    node.pods_are('a');
    node.core.begin().unwrap();
    assert_eq!(node.value(), "1");
    let worker = CgroupId(node.worker);
    run(node.core, || (), async {}).await.unwrap();
    assert_eq!(file.load().unwrap().cgroups, [(worker, left())].into());
    fs::remove_dir_all(&place).unwrap();
}

/// `--dry-run` for a while, for a rule or none.
#[tokio::test]
async fn an_agent_in_dry_run_forgets_nothing() {
    let (place, file) = state("dry-left");
    let mut node = Node::idle("dry-left", left(), file.clone(), true);
    node.pods_are('a');
    node.core.begin().unwrap();
    node.rules_are(
        "rules: [{ name: other, cgroups: [\"/kubepods/*/*\"], oomGroup: single-process }]",
    );
    node.rules_are("rules: []");
    node.core.begin().unwrap();
    assert_eq!(node.value(), "1");
    let worker = CgroupId(node.worker);
    run(node.core, || (), async {}).await.unwrap();
    let saved = file.load().unwrap().cgroups.remove(&worker).unwrap();
    assert_eq!(saved.original_value, Some(false));
    fs::remove_dir_all(&place).unwrap();
}

/// No more wait for their directory at once than there is room for, and the others are in the tree
/// already, so that a walk takes them for known.
#[test]
fn what_there_was_no_room_to_wait_for_comes_under_its_rule_with_the_next_walk() {
    let rules = "rules: [{ name: many, cgroups: [\"/many/*\"], oomGroup: single-process }]";
    let mut node = Node::new("walk-many", rules);
    let made: Vec<_> = (0..1030).map(|number| format!("/many/{number}")).collect();
    for path in &made {
        node.make(path);
    }
    node.core.begin().unwrap();
    let beyond = &made[1024..];
    // Their runtime writes only now, so that 1 is what it wants.
    for path in beyond {
        fs::write(node.directory(path).join("memory.oom.group"), "1\n").unwrap();
    }
    // Some are looked at in each.
    (0..50).for_each(|_| node.turn());
    let values = |node: &Node| beyond.iter().map(|path| node.value_of(path)).collect::<String>();
    assert_eq!(values(&node), "000000");
    node.rules_are("rules: []");
    assert_eq!(values(&node), "111111");
}
