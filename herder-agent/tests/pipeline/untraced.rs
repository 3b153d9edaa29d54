//! Kills where the kernel's functions cannot be traced: what the cgroups said at the mark counts,
//! and not what their files say when it is read.

use super::{
    node::{GROUP, Node, container},
    records,
};
use bytemuck::bytes_of;
use herder_agent_ebpf::{Level, VictimRecord, flag};
use herder_model::oom::{Kind, Limit};
use std::time::Duration;

fn node(name: &str) -> Node {
    let mut node = Node::untraced(name, GROUP);
    node.pods_are('a');
    node
}

/// The container, its pod and the root: how often each was over its limit, and whether the
/// container is a group.
fn levels(node: &Node, oom: [u32; 2], group: bool) {
    let level = |cgroup, oom, group| Level { cgroup, oom, group: u32::from(group) };
    let upwards =
        [level(node.worker, oom[0], group), level(node.pod, oom[1], false), level(1, 0, false)];
    node.kernel.kill(&records::levels(&upwards, node.clock.now()));
}

fn victim(node: &Node, pid: u32, is_killed: bool) {
    let mut victim: VictimRecord = records::victim(0, pid, 17, node.worker, node.clock.now());
    victim.header.flags &= !flag::DECISION;
    if !is_killed {
        victim.header.flags &= !flag::KILLED;
    }
    node.kernel.kill(bytes_of(&victim));
}

#[test]
fn limit_and_kind_are_those_of_the_mark() {
    let mut node = node("untraced");
    levels(&node, [1, 0], false);
    victim(&node, 100, true);
    levels(&node, [1, 1], false);
    victim(&node, 101, true);
    node.turn();
    let kills = node.kills();
    let found: Vec<_> =
        kills.iter().map(|kill| (kill.kind, kill.limit_cgroup.clone(), kill.processes)).collect();
    let worker = container('a');
    let pod = worker.rsplit_once('/').unwrap().0.to_owned();
    let sub_process = |limit| (Kind::Subprocess, Some(limit), 1);
    assert_eq!(found, [sub_process(worker), sub_process(pod)]);
}

/// Its file says 1 by the rule, and it may be gone when the records are read.
#[test]
fn a_group_is_one_although_its_cgroup_is_gone() {
    let mut node = node("untraced-gone");
    for pid in [100, 101] {
        levels(&node, [1, 0], true);
        victim(&node, pid, true);
    }
    let worker = node.worker;
    node.remove(&container('a'), worker);
    node.turn();
    node.pass(Duration::from_millis(200));
    let kill = node.kill();
    assert_eq!((kill.kind, kill.limit, kill.processes), (Kind::Group, Limit::Container, 2));
    assert_eq!(kill.group_cgroup, Some(container('a')));
}

#[test]
fn a_mark_without_a_signal_is_counted_as_no_kill() {
    let mut node = node("untraced-dying");
    levels(&node, [1, 0], false);
    victim(&node, 100, false);
    node.turn();
    node.pass(Duration::from_secs(1));
    assert_eq!(node.kills().len(), 0);
    let ignored = node.metric(r#"herder_marks_ignored_total{reason="already-dying"}"#);
    assert_eq!(ignored, Some(1.0));
}

/// What was over its limit once is not what the next kill is about.
#[test]
fn without_a_new_count_the_node_was_full() {
    let mut node = node("untraced-node");
    levels(&node, [3, 0], false);
    victim(&node, 100, true);
    node.turn();
    assert_eq!(node.kill().limit, Limit::Container);
    node.pass(Duration::from_secs(2));
    levels(&node, [3, 0], false);
    victim(&node, 101, true);
    node.turn();
    assert_eq!(node.kills()[1].limit, Limit::Node);
}

/// A task that was dying anyway was over the limit, too: its mark is no kill, and what it has counted
/// is none of the next one.
#[test]
fn what_a_dying_task_has_counted_explains_no_later_kill() {
    let mut node = node("untraced-count-of-the-dying");
    levels(&node, [1, 0], false);
    victim(&node, 100, false);
    node.turn();
    node.pass(Duration::from_secs(2));
    levels(&node, [1, 0], false);
    victim(&node, 101, true);
    node.turn();
    assert_eq!(node.kill().limit, Limit::Node);
}

/// Others were over the limit with the first, and found enough memory when it was dead.
#[test]
fn what_was_counted_after_a_kill_explains_none_that_comes_long_after() {
    let mut node = node("untraced-count-after");
    levels(&node, [1, 0], false);
    victim(&node, 100, true);
    node.turn();
    assert_eq!(node.kill().limit, Limit::Container);
    node.write("memory.events.local", "oom 3\noom_kill 1\n");
    for _ in 0..2 {
        node.pass(Duration::from_secs(10));
    }
    levels(&node, [3, 0], false);
    victim(&node, 101, true);
    node.turn();
    assert_eq!(node.kills()[1].limit, Limit::Node);
}
