//! Names and rules that come, change and go while there are kills.

use super::node::{GROUP, Node, SINGLE, container, pod};
use herder_model::{
    cgroup::OOM_GROUP,
    kill::KEPT,
    oom::{Kind, Limit},
    pods::Event,
};
use std::{fs, time::Duration};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_kill_waits_for_its_name() {
    let mut node = Node::new("late-name", GROUP);
    node.subprocess_dies(5);
    node.turn();
    assert_eq!((node.kills().len(), node.value().as_str()), (0, "0"), "it may be the sandbox");
    node.pass(Duration::from_secs(5));
    node.pods_are('a');
    let kill = node.kill();
    assert_eq!((kill.pod.as_deref(), kill.container.as_deref()), (Some("web-0"), Some("worker")));
    assert_eq!((kill.rule.as_deref(), kill.report_seconds), (Some("one"), 5.0));
    assert_eq!(node.value(), "1");
}

#[test]
fn a_kill_whose_name_does_not_come_is_reported_by_its_cgroup() {
    let mut node = Node::new("no-name", GROUP);
    node.subprocess_dies(5);
    node.turn();
    node.pass(Duration::from_millis(29_999));
    assert_eq!(node.kills().len(), 0);
    node.pass(Duration::from_millis(1));
    let kill = node.kill();
    assert_eq!((kill.pod.as_deref(), kill.cgroup.clone()), (None, Some(container('a'))));
    let unknown = r#"herder_kills_unattributed_total{reason="unknown-pod"}"#;
    assert_eq!(node.metric(unknown), Some(1.0));
}

/// A forced deletion overtakes the end of the containers: nothing has changed for what runs.
#[test]
fn a_deleted_pod_keeps_its_names_and_its_rule_as_long_as_it_has_cgroups() {
    let mut node = Node::new("deleted", GROUP);
    node.pods_are('a');
    node.pod_is_deleted();
    assert_eq!(node.value(), "1");
    for hour in 1..=2 {
        node.clock.advance(HOUR);
        // Each look at all cgroups forgets pods that are long gone.
        node.core.begin().unwrap();
        node.turn();
        assert_eq!(node.value(), "1", "after {hour} hours");
    }
    node.subprocess_dies(5);
    node.turn();
    let kill = node.kill();
    assert_eq!((kill.pod.as_deref(), kill.rule.as_deref()), (Some("web-0"), Some("one")));
    // The last of its cgroups goes, and a kill in it is reported later.
    node.victim(6, 102, 18, node.worker);
    node.decision(6, node.worker, 0, (1, 1));
    let (worker, pods) = (node.worker, node.pod);
    node.remove(&container('a'), worker);
    node.remove(&pod(), pods);
    node.turn();
    assert_eq!(node.kills().last().unwrap().pod.as_deref(), Some("web-0"));
    node.clock.advance(HOUR);
    node.core.begin().unwrap();
    node.turn();
    node.victim(7, 103, 19, node.worker);
    node.decision(7, node.worker, 0, (1, 1));
    node.turn();
    node.pass(Duration::from_secs(60));
    assert_eq!((node.kills().len(), node.kills().last().unwrap().pod.clone()), (3, None));
}

#[test]
fn other_rules_hold_for_values_and_for_kills_that_wait() {
    let mut node = Node::new("rules", GROUP);
    node.pods_are('a');
    node.subprocess_dies(5);
    node.turn();
    assert_eq!((node.value().as_str(), node.kill().rule.as_deref()), ("1", Some("one")));
    node.rules_are(SINGLE);
    assert_eq!(node.value(), "0");
    let writes = |rule: &str| {
        node.metric(&format!("herder_oom_group_writes_total{{result=\"ok\",rule=\"{rule}\"}}"))
    };
    assert_eq!((writes("one"), writes("other")), (Some(1.0), Some(1.0)));
    node.rules_are("rules: []");
    assert_eq!(node.value(), "0", "as it was at the start");
    let mut node = Node::new("rules-meanwhile", GROUP);
    node.subprocess_dies(5);
    node.turn();
    node.rules_are(SINGLE);
    node.pods_are('a');
    let kill = node.kill();
    assert_eq!((kill.kind, kill.rule.as_deref()), (Kind::Subprocess, Some("other")));
}

/// A pod that the API server never lists does not escape the rules for cgroups behind one for pods,
/// and none of these takes it before the pod had time to come.
#[test]
fn a_pod_that_does_not_come_falls_under_the_rules_for_cgroups() {
    const RULES: &str = "rules:
- { name: shop, pods: { namespaces: [shop] }, oomGroup: leave }
- { name: cg, cgroups: [\"/kubepods/*/*\"], oomGroup: single-process }";
    let mut node = Node::new("unlisted", RULES);
    node.write(OOM_GROUP, "1");
    node.push(Event::ListStarted);
    node.push(Event::Listed);
    node.core.begin().unwrap();
    for (seconds, value) in [(60, "1"), (1, "0")] {
        node.pass(Duration::from_secs(seconds));
        assert_eq!(node.value(), "1", "only a look at all cgroups gives a pod up");
        node.core.begin().unwrap();
        node.turn();
        assert_eq!(node.value(), value);
    }
    node.pod_is('a');
    assert_eq!(node.value(), "1", "its rule leaves it alone");
}

/// The owner of a directory may name what is in it after any pod.
#[test]
fn what_another_user_owns_is_no_pod() {
    let mut node = Node::with_kubelet_uid("foreign", GROUP, u32::MAX);
    node.pods_are('a');
    node.subprocess_dies(5);
    node.turn();
    let kill = node.kill();
    assert_eq!((kill.pod.as_deref(), kill.cgroup.clone()), (None, Some(container('a'))));
}

/// A rule is enforced on a container when it appears, and the container's value restored when
/// the rule goes.
#[test]
fn a_new_container_is_enforced_as_soon_as_it_can_be_opened() {
    let mut node = Node::new("appears", GROUP);
    node.pods_are('b');
    assert_eq!(node.value(), "0");
    node.pod_is('a');
    assert_eq!(node.value(), "1");
    let made = node.make(&container('b'));
    node.turn();
    assert_eq!(node.value_of(&container('b')), "1");
    node.remove(&container('b'), made);
    node.turn();
    node.rules_are("rules: []");
    assert_eq!(node.value(), "0");
}

/// A runtime makes a container's cgroup, and the pod becomes known before the runtime has written its
/// 1: nothing was reverted, and that 1 is the value to restore.
#[test]
fn a_new_container_whose_pod_is_known_late_has_the_1_of_its_runtime() {
    let mut node = Node::new("late-pod", SINGLE);
    let late = container('b');
    node.make(&late);
    node.turn();
    node.pods_are('b');
    assert_eq!(node.value_of(&late), "0");
    fs::write(node.directory(&late).join(OOM_GROUP), "1").unwrap();
    node.core.begin().unwrap();
    node.turn();
    assert_eq!(node.value_of(&late), "0");
    let written = r#"herder_oom_group_writes_total{result="ok",rule="other"}"#;
    let reverted = r#"herder_oom_group_reverts_total{rule="other"}"#;
    assert_eq!((node.metric(written), node.metric(reverted)), (Some(1.0), Some(0.0)));
    node.rules_are("rules: []");
    assert_eq!(node.value_of(&late), "1");
}

/// However often the container is decided, its bundle is asked for once, when its cgroup appears.
#[test]
fn a_bundle_is_read_once_and_names_the_container_and_its_kills() {
    let mut node = Node::new("bundle", GROUP);
    node.pods_are('b');
    let asked = node.lookups.take_request().unwrap();
    assert!(!asked.just_made, "it was there before the agent");
    node.subprocess_dies(5);
    node.turn();
    for _ in 0..10 {
        node.rules_are(SINGLE);
        node.rules_are(GROUP);
    }
    assert_eq!((node.kills().len(), node.value().as_str()), (0, "0"), "it may be the sandbox");
    assert_eq!(node.lookups.take_request(), None);
    node.bundle_says(asked, "worker");
    assert_eq!((node.kill().container.as_deref(), node.value().as_str()), (Some("worker"), "1"));
    let made = node.make(&container('c'));
    node.turn();
    assert_eq!(node.value_of(&container('c')), "0");
    let asked = node.lookups.take_request().unwrap();
    assert!(asked.just_made);
    node.bundle_says(asked, "worker");
    assert_eq!(node.value_of(&container('c')), "1");
    node.remove(&container('c'), made);
    node.turn();
    assert_eq!(node.lookups.take_request(), None);
}

/// gVisor and Kata run all of a pod in its sandbox. The limit of that is the pod's, also where it
/// takes a while until nothing else can come.
#[test]
fn the_limit_of_a_sandbox_is_the_pods_and_that_of_an_unknown_container_is_its_own() {
    let waited = Duration::from_secs(30);
    let mut node = Node::new("sandbox-at-last", GROUP);
    node.pods_are('b');
    node.subprocess_dies(5);
    node.turn();
    assert_eq!(node.kills().len(), 0, "worker's cgroup may yet come");
    node.pass(waited);
    let kill = node.kill();
    assert_eq!((kill.container.as_deref(), kill.limit), (Some(""), Limit::Pod));
    // One of two containers, of which neither has a name.
    let mut node = Node::new("unknown-at-last", GROUP);
    node.pods_are('x');
    let (unknown, _) = (node.make(&container('c')), node.make(&container('d')));
    node.turn();
    node.victim(5, 100, 17, unknown);
    node.decision(5, unknown, 0, (1, 1));
    node.turn();
    assert_eq!(node.kills().len(), 0);
    node.pass(waited);
    let kill = node.kill();
    let count = r#"herder_kills_unattributed_total{reason="unknown-container"}"#;
    assert_eq!(node.metric(count), Some(1.0));
    assert_eq!((kill.container.as_deref(), kill.limit), (Some(""), Limit::Container));
}

/// Until the bundle is read, the sandbox may be any container of the pod, whose start does not wait
/// for the bundle. Nothing writes 1 to a sandbox by itself; if something did, that is what it gets
/// back.
#[test]
fn a_sandbox_that_had_1_gets_it_back_when_its_bundle_is_read() {
    let rules = "rules: [{ name: all, pods: { namespaces: [shop] }, oomGroup: single-process }]";
    let mut node = Node::new("sandbox", rules);
    node.pods_are('b');
    while node.lookups.take_request().is_some() {}
    for (letter, had, meanwhile) in [('c', "1", "0"), ('d', "0", "0")] {
        let path = container(letter);
        node.make(&path);
        fs::write(node.directory(&path).join(OOM_GROUP), had).unwrap();
        node.turn();
        assert_eq!(node.value_of(&path), meanwhile, "{letter}");
        let asked = node.lookups.take_request().unwrap();
        node.bundle_is_the_sandbox(asked);
        assert_eq!(node.value_of(&path), had, "{letter}");
    }
}

/// A container whose name is held back loses processes as fast as the kernel kills.
#[test]
fn no_more_kills_wait_for_a_name_than_are_kept() {
    let mut node = Node::new("many-unnamed", GROUP);
    for number in 0..KEPT as u64 + 3 {
        node.victim(5 + number, 100 + u32::try_from(number).unwrap(), 17, node.worker);
        node.decision(5 + number, node.worker, 0, (1, 1));
        node.turn();
    }
    assert_eq!(node.kills().len(), 3, "the oldest");
    let unknown = r#"herder_kills_unattributed_total{reason="unknown-pod"}"#;
    assert_eq!(node.metric(unknown), Some(3.0));
    node.pods_are('a');
    assert_eq!(node.kills().len(), KEPT);
    assert!(node.kills().iter().skip(3).all(|kill| kill.container.as_deref() == Some("worker")));
    assert_eq!(node.metric(unknown), Some(3.0));
}
