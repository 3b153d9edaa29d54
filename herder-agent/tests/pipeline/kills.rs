//! What becomes of records: which kill is reported, as what, and what is counted.

use super::{
    node::{GROUP, Node, container},
    records,
};
use bytemuck::bytes_of;
use herder_agent_ebpf::Loss;
use herder_model::oom::{Kind, Limit};
use std::{path::Path, time::Duration};

const SUBPROCESS: &str = r#"herder_oom_kills_total{container="worker",kind="subprocess",limit="container",namespace="shop",pod="web-0"}"#;

fn node(name: &str) -> Node {
    let mut node = Node::new(name, GROUP);
    node.pods_are('a');
    node
}

fn lost(node: &Node, reason: &str) -> f64 {
    node.metric(&format!("herder_kills_lost_total{{reason=\"{reason}\"}}")).unwrap()
}

#[test]
fn a_subprocess_is_reported_with_all_that_the_records_and_files_say() {
    let mut node = node("subprocess");
    assert_eq!(node.value(), "1", "the rule is in force");
    node.subprocess_dies(5);
    node.pass(Duration::from_millis(4));
    let kill = node.kill();
    assert_eq!((kill.kind, kill.limit, kill.processes), (Kind::Subprocess, Limit::Container, 1));
    assert_eq!(kill.namespace.as_deref(), Some("shop"));
    assert_eq!((kill.pod.as_deref(), kill.container.as_deref()), (Some("web-0"), Some("worker")));
    assert_eq!(kill.rule.as_deref(), Some("one"));
    assert_eq!((kill.limit_bytes, kill.container_limit_bytes), (Some(1 << 20), Some(1 << 20)));
    assert_eq!((kill.victim.pid, kill.victim.ns_pid), (Some(100), Some(17)));
    assert_eq!(kill.victim.comm.as_deref(), Some("worker"));
    assert_eq!(kill.victim.anon_rss, Some(3 * records::PAGE));
    assert_eq!(kill.trigger.as_ref().unwrap().comm, "allocator");
    assert!((kill.report_seconds - 0.004).abs() < 1e-9, "{}", kill.report_seconds);
    assert_eq!(node.metric(SUBPROCESS), Some(1.0));
    assert_eq!(kill.survived, None, "it is too early to say");
    node.pass(Duration::from_secs(10));
    assert_eq!(node.kill().survived, Some(true));
    let marked = node.clock.now();
    node.kernel.kill(bytes_of(&records::exit(100, marked, marked + Duration::from_millis(250))));
    node.turn();
    assert_eq!(node.kill().victim.exit_seconds, Some(0.25));
}

#[test]
fn the_end_of_a_container_is_what_became_of_it_after_a_kill() {
    let mut node = node("ended");
    node.subprocess_dies(5);
    node.turn();
    let worker = node.worker;
    node.clock.advance(Duration::from_secs(3));
    node.remove(&container('a'), worker);
    node.turn();
    let kill = node.kill();
    assert_eq!((kill.survived, kill.ended_seconds), (Some(false), Some(3.0)));
}

#[test]
fn an_init_whose_parent_is_outside_ends_its_container() {
    let mut node = node("init");
    node.victim(5, 100, 1, node.worker);
    node.decision(5, node.worker, 0, (1, 1));
    node.turn();
    let kill = node.kill();
    assert_eq!((kill.kind, kill.survived), (Kind::Init, Some(false)));
}

/// The kernel sends the chosen victim two signals, and each process one.
#[test]
fn a_group_is_one_kill_of_many_processes() {
    let mut node = node("group");
    let worker = node.worker;
    for (pid, ns_pid) in [(102, 9), (100, 1), (101, 8)] {
        node.victim(5, pid, ns_pid, worker);
    }
    node.turn();
    assert_eq!(node.kills().len(), 0, "the decision has not ended");
    node.decision(5, worker, worker, (4, 3));
    node.turn();
    let kill = node.kill();
    assert_eq!((kill.kind, kill.processes, kill.victim.pid), (Kind::Group, 3, Some(102)));
    assert_eq!(kill.group_cgroup, Some(container('a')));
}

#[test]
fn a_decision_whose_end_does_not_come_is_reported_after_its_time() {
    let mut node = node("no-end");
    node.victim(5, 100, 17, node.worker);
    node.turn();
    node.pass(Duration::from_millis(29_999));
    assert_eq!(node.kills().len(), 0);
    node.pass(Duration::from_millis(1));
    let kill = node.kill();
    assert_eq!((kill.limit, kill.report_seconds), (Limit::Unknown, 30.0));
}

#[test]
fn a_decision_whose_end_is_known_to_be_lost_waits_a_second() {
    let mut node = node("lost-end");
    node.kernel.lose(Loss::DecisionRingFull);
    node.victim(5, 100, 17, node.worker);
    node.turn();
    assert_eq!(node.kills().len(), 0);
    node.pass(Duration::from_secs(1));
    assert_eq!(node.kill().victim.pid, Some(100));
    let records = r#"herder_records_lost_total{reason="decision-ring-full"}"#;
    assert_eq!(node.metric(records), Some(1.0));
}

#[test]
fn a_victim_without_a_record_is_counted_once_as_lost() {
    let mut node = node("lost-victim");
    node.victim(5, 100, 17, node.worker);
    node.decision(5, node.worker, 0, (2, 2));
    node.turn();
    assert_eq!(node.kill().processes, 1);
    assert_eq!(lost(&node, "victim-missing"), 1.0);
    // What the programs account for is not missed once more.
    node.kernel.lose(Loss::VictimRingFull);
    node.decision(6, node.worker, 0, (1, 1));
    node.turn();
    assert_eq!(node.kills().len(), 1);
    assert_eq!((lost(&node, "victim-missing"), lost(&node, "victim-ring-full")), (1.0, 1.0));
}

#[test]
fn a_record_that_cannot_be_decoded_is_counted() {
    let mut node = node("garbage");
    node.kernel.kill(&[9; 64]);
    node.kernel.kill(&bytes_of(&records::victim(5, 1, 1, 1, node.clock.now()))[..40]);
    node.turn();
    assert_eq!((lost(&node, "unknown-record"), lost(&node, "short-record")), (1.0, 1.0));
    assert_eq!(node.kills().len(), 0);
}

/// More cgroups than are taken at once, and the last of them is the victim's.
#[test]
fn cgroups_are_known_before_the_kills_in_them() {
    let mut node = node("order");
    for number in 0..300 {
        node.make(&format!("/other/{number}"));
    }
    let made = node.make("/system.slice/last.service");
    node.victim(5, 100, 17, made);
    node.decision(5, made, 0, (1, 1));
    node.turn();
    assert_eq!(node.kill().cgroup.as_deref(), Some("/system.slice/last.service"));
}

#[test]
fn what_the_kernel_counted_beyond_what_was_reported_was_not_seen() {
    let unseen = r#"herder_kills_unseen_total{reason="missed"}"#;
    let mut node = node("unseen");
    node.counts(3);
    // A look at all cgroups reads the counts again.
    node.core.begin().unwrap();
    node.subprocess_dies(5);
    node.turn();
    node.pass(Duration::from_millis(4_999));
    assert_eq!(node.metric(unseen), Some(0.0), "it may yet be reported");
    node.pass(Duration::from_millis(1));
    assert_eq!((node.kills().len(), node.metric(unseen)), (1, Some(2.0)));
    node.pass(Duration::from_secs(60));
    assert_eq!(node.metric(unseen), Some(2.0), "and is counted once");
}

/// The bytes that are also what the fuzzer begins with.
#[test]
fn bytes_as_the_programs_write_them_become_a_report() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/record");
    let bytes = |name: &str| std::fs::read(corpus.join(name)).unwrap();
    let mut node = Node::new("bytes", GROUP);
    let mut made = bytes("made");
    // `flag::INSIDE`: this mount does not begin at the hierarchy's root.
    made[5] = 1;
    node.kernel.cgroup(made);
    for name in ["lineage", "victim", "decision", "exit"] {
        node.kernel.kill(&bytes(name));
    }
    node.turn();
    assert_eq!(node.kills().len(), 0, "the container's name may yet come");
    node.pass(Duration::from_secs(30));
    let kill = node.kill();
    let id = "51c89318749f37429d5fa724d212f00472bced49ff32a7674085aba73d1992eb";
    assert_eq!(kill.container_id.unwrap().to_string(), id);
    assert_eq!(kill.victim.comm.as_deref(), Some("worker"));
    assert!(kill.trigger.as_ref().unwrap().comm.contains("<img src=x>"));
    assert_eq!((kill.victim.pid, kill.victim.uid), (Some(100), Some(0)));
}

/// The agent ends: nothing that it knows of is kept back.
#[test]
fn at_the_end_what_waits_is_reported() {
    let mut node = Node::new("end", GROUP);
    node.subprocess_dies(5);
    node.victim(6, 102, 18, node.worker);
    node.turn();
    assert_eq!(node.kills().len(), 0);
    node.core.end();
    assert_eq!(node.kills().len(), 2);
    let unknown = r#"herder_kills_unattributed_total{reason="unknown-pod"}"#;
    assert_eq!(node.metric(unknown), Some(2.0));
}

/// Fifteen minutes after its pod, by the core's clock.
#[test]
fn the_series_of_a_container_go_some_time_after_its_pod() {
    let mut node = Node::new("series", GROUP);
    node.pods_are('a');
    node.subprocess_dies(5);
    node.turn();
    let series = r#"herder_oom_killed_processes_total{container="worker",kind="subprocess",namespace="shop",pod="web-0"}"#;
    let is_shown = |node: &Node| {
        node.reporter.expire(|_| false);
        node.metric(series).is_some()
    };
    node.remove(&container('a'), node.worker);
    node.pod_is_deleted();
    node.pass(Duration::from_secs(899));
    assert!(is_shown(&node));
    node.pass(Duration::from_secs(1));
    assert!(!is_shown(&node));
}
