//! A container whose init is exempt from OOM kills, and that is to become a group.

use super::{
    escalating::{GROUP, escalations, process_dies, processes_die},
    node::{Node, container},
};
use herder_agent::inside::{enforce::shield::Parts, report::Reporter};
use herder_model::{cgroup::CgroupId, shield::SavedInits};
use std::{path::Path, sync::Arc, time::Duration};

/// A shield that writes nothing, and says what was left.
pub(crate) fn unable(
    root: &Path,
    begins_at: CgroupId,
    left: SavedInits,
    reporter: &Arc<Reporter>,
) -> Parts {
    Parts {
        proc_root: root.into(),
        cgroup_root: root.into(),
        begins_at,
        loader: None,
        has_state: true,
        most: 1,
        dry_run: true,
        left,
        listener: reporter.clone(),
    }
}

fn rules(more: &str) -> String {
    format!(
        "rules: [{{ name: web, pods: {{ namespaces: [shop], containers: [worker] }}, {more} }}]"
    )
}

fn node(name: &str) -> Node {
    let protects = format!("oomGroup: single-process, protectInit: true, escalate: {GROUP}");
    let mut node = Node::with_exempt_init(name, &rules(&protects));
    node.pods_are('a');
    node.pass(Duration::from_secs(1));
    node
}

fn nearly() -> Duration {
    Duration::from_millis(999)
}

/// Else the kill of the group would pass over it. One that cannot be restored, as here, does not
/// keep the rule from being followed.
#[test]
fn an_escalation_to_a_group_waits_for_the_init() {
    let mut node = node("protected-escalates");
    processes_die(&mut node, 5..7);
    process_dies(&node, 7, node.worker);
    node.turn();
    let done = |node: &Node| escalations(node, "group", "ok");
    assert_eq!((node.value().as_str(), done(&node)), ("0", Some(0.0)));
    // Whatever is decided anew meanwhile does not put it off, nor write it.
    node.pass(nearly());
    node.pod_is('a');
    assert_eq!((node.value().as_str(), done(&node)), ("0", Some(0.0)));
    node.pass(Duration::from_millis(1));
    assert_eq!((node.value().as_str(), done(&node)), ("1", Some(1.0)));
    node.pod_is('a');
    assert_eq!((node.value().as_str(), done(&node)), ("1", Some(1.0)));
}

#[test]
fn an_escalation_that_waits_is_not_carried_out_for_other_rules() {
    let mut node = node("protected-revoked");
    processes_die(&mut node, 5..7);
    process_dies(&node, 7, node.worker);
    node.turn();
    node.rules_are(&rules("oomGroup: single-process"));
    node.pass(Duration::from_secs(2));
    assert_eq!(node.value(), "0");
}

#[test]
fn a_rule_that_wants_a_group_waits_for_the_init() {
    let mut node = node("protected-rules");
    node.rules_are(&rules("oomGroup: group"));
    node.pass(nearly());
    assert_eq!(node.value(), "0");
    node.pass(Duration::from_millis(1));
    assert_eq!(node.value(), "1");
}

/// The runtime's own value may be 1.
#[test]
fn a_value_that_is_restored_waits_for_the_init() {
    let mut node = Node::with_exempt_init("protected-restored", &rules("oomGroup: group"));
    node.write("memory.oom.group", "1");
    node.pods_are('a');
    node.rules_are(&rules("oomGroup: single-process, protectInit: true"));
    node.turn();
    assert_eq!(node.value(), "0");
    node.rules_are("rules: []");
    node.pass(nearly());
    assert_eq!(node.value(), "0");
    node.pass(Duration::from_millis(1));
    assert_eq!(node.value(), "1");
}

/// A cgroup that another rule governs is made in it while the init is waited for.
#[test]
fn an_escalation_that_is_refused_after_it_waited_leaves_no_1() {
    let protects = format!("oomGroup: single-process, protectInit: true, escalate: {GROUP}");
    let inner = "{ name: inner, cgroups: [\"/kubepods/*/*/sub\"], oomGroup: single-process }";
    let rules = rules(&protects).replace("}]", &format!("}}, {inner}]"));
    let mut node = Node::with_exempt_init("protected-refused", &rules);
    node.pods_are('a');
    node.pass(Duration::from_secs(1));
    processes_die(&mut node, 5..7);
    process_dies(&node, 7, node.worker);
    node.turn();
    assert_eq!(escalations(&node, "group", "refused"), Some(0.0));
    node.make(&format!("{}/sub", container('a')));
    node.turn();
    node.pass(Duration::from_secs(1));
    assert_eq!(escalations(&node, "group", "refused"), Some(1.0));
    assert_eq!(node.value(), "0");
}
