//! What an earlier agent has escalated, and left to this one or the next.

use super::{
    escalating::{GROUP, escalations, process_dies, processes_die, rules},
    looped::run,
    node::{BEGIN, Node, container, pod_object},
};
use herder_agent::inside::{core::Message, state::StateFile};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    clock::Monotonic,
    naming::runtime::RuntimeContainer,
    owner::id::ContainerId,
    pods::{Event, Pod},
    saved::SavedCgroup,
};
use std::{fs, path::PathBuf, time::Duration};

fn left(of: &str, seconds_ago: u64) -> SavedCgroup {
    SavedCgroup {
        path: CgroupPath::parse(container('a').as_bytes()).ok(),
        oom_kills: Some(3),
        original_value: Some(false),
        rule: Some(of.into()),
        escalated: Some(Monotonic(BEGIN.0 - seconds_ago * 1_000_000_000)),
    }
}

/// The pods of the node are not known yet, and one of their cgroups is matched by its path.
#[test]
fn what_an_earlier_agent_raised_stays_so_while_its_container_has_no_name() {
    let by_path = "rules: [{ name: web, cgroups: [\"/kubepods/*/*\"], oomGroup: single-process, \
                   escalate: { after: 3, within: 1m, to: group } }]";
    let changed = by_path.replace("name: web", "name: other");
    for (name, rules, seconds, expected) in [
        ("path", by_path, 10, "1"),
        ("names", &rules(GROUP), 10, "1"),
        ("quiet", by_path, 60, "0"),
        ("changed", &changed, 10, "0"),
    ] {
        let name = format!("escalate-left-{name}");
        let mut node = Node::after_an_agent(&name, rules, left("web", seconds), None);
        assert_eq!(node.value(), expected, "{name}");
        node.pods_are('a');
        assert_eq!(node.value(), expected, "{name}");
        if expected == "1" {
            node.pass(Duration::from_secs(49));
            assert_eq!(node.value(), "1", "{name}");
            node.pass(Duration::from_secs(1));
        }
        assert_eq!(node.value(), "0", "{name}");
    }
    // Whether or not it is ever named, it ends when it was quiet, and when the container has ended.
    let mut node = Node::after_an_agent("escalate-left-nameless", by_path, left("web", 10), None);
    node.pass(Duration::from_secs(50));
    assert_eq!(node.value(), "0");
    let mut node = Node::after_an_agent("escalate-left-ended", by_path, left("web", 10), None);
    node.victim(5, 100, 1, node.worker);
    node.decision(5, node.worker, 0, (1, 1));
    node.turn();
    assert_eq!(node.value(), "0");
}

/// A pod that the API server does not list is known by its runtime: one that was deleted by force
/// and runs on, or a static one without a mirror. Its labels come after the list.
#[test]
fn what_an_earlier_agent_raised_stays_so_while_its_pod_has_only_names() {
    let by_label =
        rules(GROUP).replace("namespaces: [shop]", "selector: { matchLabels: { app: web } }");
    let labelled = Pod { labels: Some([("app".into(), "web".into())].into()), ..pod_object('a') };
    let runtime_says = |node: &mut Node, pod: Pod| {
        let id = ContainerId::parse(&"a".repeat(64)).unwrap();
        let (name, pod) = ("worker".into(), pod.into());
        let container = RuntimeContainer { id, name, pod, init: None, instead_of: None };
        node.core.take(Message::RuntimeContainers(vec![container]));
        node.turn();
    };
    let before_labels = || {
        let mut node =
            Node::after_an_agent("escalate-left-label", &by_label, left("web", 10), None);
        runtime_says(&mut node, labelled.names_only());
        node.core.take(Message::Pod(Event::ListStarted));
        node.core.take(Message::Pod(Event::Listed));
        walk(&mut node);
        assert_eq!(node.value(), "1");
        node
    };
    let mut node = before_labels();
    runtime_says(&mut node, labelled.clone());
    walk(&mut node);
    node.pass(Duration::from_secs(49));
    assert_eq!(node.value(), "1");
    node.pass(Duration::from_secs(1));
    assert_eq!(node.value(), "0", "it was quiet");
    drop(node);
    // They may be more than are kept.
    let mut node = before_labels();
    node.pass(Duration::from_secs(61));
    walk(&mut node);
    assert_eq!(node.value(), "0", "they are not waited for any longer");
}

fn walk(node: &mut Node) {
    node.core.begin().unwrap();
    node.turn();
}

/// What is matched by its path until its name is known has that rule's value until then, and not
/// longer.
#[tokio::test]
async fn another_rule_for_what_has_no_name_yet_does_not_end_it() {
    let rules = rules(GROUP)
        .replace("}]", "}, { name: all, cgroups: [\"/kubepods/*/*\"], oomGroup: single-process }]");
    let mut node = Node::after_an_agent("escalate-left-rest", &rules, left("web", 10), None);
    node.pods_are('a');
    assert_eq!(node.value(), "1");
    // Nor does the next agent take that rule for the one that raised it.
    let (place, file) = state("left-rest");
    let file_of_this = Some(file.clone());
    let node = Node::after_an_agent("escalate-left-twice", &rules, left("web", 10), file_of_this);
    let worker = CgroupId(node.worker);
    run(node.core, || (), async {}).await.unwrap();
    let saved = &file.load().unwrap().cgroups[&worker];
    assert_eq!((saved.rule.as_deref(), saved.escalated), (Some("web"), left("web", 10).escalated));
    fs::remove_dir_all(&place).unwrap();
}

/// A place for a state file, which goes at the end.
fn state(name: &str) -> (PathBuf, StateFile) {
    let place = std::env::temp_dir().join(format!("herder-{name}-{}", std::process::id()));
    fs::create_dir_all(&place).unwrap();
    let file = StateFile::new(place.join("state")).unwrap();
    (place, file)
}

/// It is yet to be named, and the agent ends.
#[tokio::test]
async fn what_was_raised_and_counted_goes_on_to_the_next_agent() {
    let (place, file) = state("left");
    for (name, kills, counted) in [("none", 0, 3), ("one", 1, 4)] {
        let left = left("web", 10);
        let name = format!("escalate-next-{name}");
        let node = Node::after_an_agent(&name, &rules(GROUP), left.clone(), Some(file.clone()));
        node.counts(3 + kills);
        for decision in 5..5 + kills {
            process_dies(&node, decision, node.worker);
        }
        let worker = CgroupId(node.worker);
        run(node.core, || (), async {}).await.unwrap();
        let saved = file.load().unwrap().cgroups.remove(&worker);
        assert_eq!(saved, Some(SavedCgroup { oom_kills: Some(counted), ..left }), "{name}");
    }
    fs::remove_dir_all(&place).unwrap();
}

/// It is counted once, for the node. The next agent must not find it in the cgroup's count again.
#[tokio::test]
async fn what_was_not_seen_is_not_reported_again_by_the_next_agent() {
    let (place, file) = state("left-unseen");
    let left = left("web", 10);
    let mut node = Node::after_an_agent("left-unseen", &rules(GROUP), left, Some(file.clone()));
    node.counts(4);
    fs::write(node.directory("/").join("memory.events"), "oom_kill 1\n").unwrap();
    node.pass(Duration::from_secs(1));
    node.pass(Duration::from_secs(10));
    assert_eq!(node.metric(r#"herder_kills_unseen_total{reason="missed"}"#), Some(1.0));
    let worker = CgroupId(node.worker);
    run(node.core, || (), async {}).await.unwrap();
    let saved = file.load().unwrap();
    assert_eq!((saved.oom_kills, saved.cgroups[&worker].oom_kills), (Some(1), None));
    fs::remove_dir_all(&place).unwrap();
}

/// Nothing was raised, so the next agent has nothing to keep.
#[tokio::test]
async fn what_a_dry_run_would_have_raised_is_not_left_to_the_next_agent() {
    let (place, file) = state("left-dry");
    let mut node = Node::in_dry_run("left-dry", &rules(GROUP), Some(file.clone()));
    node.pods_are('a');
    node.pass(Duration::from_secs(1));
    processes_die(&mut node, 5..8);
    assert_eq!(escalations(&node, "group", "dry-run"), Some(1.0));
    let worker = CgroupId(node.worker);
    run(node.core, || (), async {}).await.unwrap();
    assert_eq!(file.load().unwrap().cgroups[&worker].escalated, None);
    fs::remove_dir_all(&place).unwrap();
}

/// An earlier agent has raised it, which stays so while this one writes nothing.
#[tokio::test]
async fn what_an_earlier_agent_raised_goes_on_over_a_dry_run() {
    let (place, file) = state("left-over-dry");
    let mut node = Node::idle("left-over-dry", left("web", 10), file.clone(), true);
    node.rules_are(&rules(GROUP));
    node.pods_are('a');
    let worker = CgroupId(node.worker);
    run(node.core, || (), async {}).await.unwrap();
    let saved = &file.load().unwrap().cgroups[&worker];
    assert_eq!((saved.rule.as_deref(), saved.escalated), (Some("web"), left("web", 10).escalated));
    fs::remove_dir_all(&place).unwrap();
}
