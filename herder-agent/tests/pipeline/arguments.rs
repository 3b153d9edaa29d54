//! Which victims' arguments are kept, whenever they come.

use super::node::{Node, container};
use herder_model::{
    arguments::{Arguments, Missing, ProcessKey, VictimArguments},
    clock::Monotonic,
};
use std::time::Duration;

const ASKS: &str = "rules: [{ name: one, cgroups: [\"/kubepods/*/*\"], oomGroup: group, \
     victimArguments: true }]";
const ASKS_BY_NAME: &str = "rules: [{ name: other, \
     pods: { namespaces: [shop], containers: [worker] }, oomGroup: single-process, \
     victimArguments: true }]";
/// The same rule by its name, for other containers.
const ASKS_ELSEWHERE: &str = "rules: [{ name: one, cgroups: [\"/system/*\"], oomGroup: group, \
     victimArguments: true }]";
const ASKS_NOT: &str = "rules: [{ name: one, cgroups: [\"/kubepods/*/*\"], oomGroup: group }]";

/// The programs have read this of a process. It began as that of [`super::records::victim`].
fn reads(node: &Node, pid: u32, text: Option<&[u8]>) {
    let process = ProcessKey { tgid: pid, start_boottime: pid.into() };
    let read = text.map(|text| Arguments::new(text, false));
    node.kernel.read_arguments(VictimArguments { time: node.clock.now(), process, read });
}

/// What is shown of a kill: each victim's text, or why there is none.
fn shown(node: &Node, kill: u64) -> Vec<(u32, Result<String, Missing>)> {
    let all = node.reporter.arguments_of(kill).unwrap_or_default().into_iter();
    all.map(|one| (one.pid, one.text.ok_or_else(|| one.missing.unwrap()))).collect()
}

fn counted(node: &Node, result: &str) -> Option<f64> {
    node.metric(&format!("herder_victim_arguments_total{{result=\"{result}\"}}"))
}

#[test]
fn arguments_are_added_to_a_kill_that_was_reported() {
    let mut node = Node::new("arguments", ASKS);
    node.pods_are('a');
    node.subprocess_dies(5);
    node.turn();
    assert_eq!(shown(&node, 1), [(100, Err(Missing::Waiting))]);
    reads(&node, 100, Some(b"web: GET /cart\x1b\0\0"));
    node.turn();
    assert_eq!(shown(&node, 1), [(100, Ok("web: GET /cart\\u{1b}".into()))]);
    assert_eq!(counted(&node, "read"), Some(1.0));
    // Nothing else has them.
    let (metrics, _) = node.reporter.metrics().exposition();
    let record = serde_json::to_string(&*node.kill()).unwrap();
    for text in [String::from_utf8(metrics).unwrap(), record, format!("{:?}", node.reporter)] {
        assert!(!text.contains("cart"), "{text}");
    }
}

/// It is known only later which rule its container is under.
#[test]
fn a_kill_that_waits_for_its_name_has_them_too() {
    let mut node = Node::new("arguments-wait", ASKS_BY_NAME);
    node.subprocess_dies(5);
    reads(&node, 100, Some(b"worker"));
    node.turn();
    node.pass(Duration::from_secs(20));
    assert!(node.kills().is_empty());
    node.pods_are('a');
    assert_eq!(shown(&node, 1), [(100, Ok("worker".into()))]);
}

/// One decision takes processes of two containers, and one rule asks.
#[test]
fn only_victims_whose_rule_asks_have_them() {
    let mut node = Node::new("arguments-others", ASKS);
    node.pods_are('a');
    let (worker, pod) = (node.worker, node.pod);
    let other = node.make("/system.slice/x.service");
    node.turn();
    for pid in [100, 101] {
        reads(&node, pid, Some(b"secret"));
    }
    node.victim(5, 100, 17, other);
    node.victim(5, 101, 18, worker);
    node.decision(5, pod, pod, (3, 2));
    node.turn();
    assert_eq!(node.kill().processes, 2);
    assert_eq!(shown(&node, 1), [(101, Ok("secret".into()))]);
    node.victim(6, 102, 1, other);
    node.decision(6, other, 0, (1, 1));
    reads(&node, 102, Some(b"secret"));
    node.turn();
    assert_eq!((node.kills().len(), shown(&node, 2)), (2, vec![]));
    assert!(node.reporter.arguments_of(2).is_none());
}

#[test]
fn what_could_not_be_read_is_said_and_counted() {
    let mut node = Node::new("arguments-missing", ASKS);
    node.pods_are('a');
    node.subprocess_dies(5);
    reads(&node, 100, None);
    node.turn();
    assert_eq!(shown(&node, 1), [(100, Err(Missing::NotInMemory))]);
    // A later process has the same id.
    node.victim(6, 200, 18, node.worker);
    node.decision(6, node.worker, 0, (1, 1));
    let process = ProcessKey { tgid: 200, start_boottime: 1 };
    let read = Some(Arguments::new(b"another", false));
    node.kernel.read_arguments(VictimArguments { time: Monotonic(1), process, read });
    node.kernel.lose_arguments(3);
    node.turn();
    node.pass(Duration::from_secs(61));
    assert_eq!(shown(&node, 2), [(200, Err(Missing::NotSeen))]);
    let results = ["read", "not-in-memory", "not-seen", "not-attached"];
    assert_eq!(results.map(|result| counted(&node, result).unwrap()), [0.0, 1.0, 1.0, 0.0]);
    assert_eq!(node.metric("herder_victim_arguments_lost_total"), Some(3.0));
}

#[test]
fn nothing_is_read_or_kept_without_a_rule() {
    let mut node = Node::new("arguments-rules", ASKS_NOT);
    node.pods_are('a');
    assert_eq!(node.kernel.asked_for_arguments(), None, "the programs are not loaded");
    node.rules_are(ASKS);
    assert_eq!(node.kernel.asked_for_arguments(), Some(true));
    node.subprocess_dies(5);
    reads(&node, 100, Some(b"worker"));
    node.turn();
    assert_eq!(shown(&node, 1).len(), 1);
    node.rules_are(ASKS_BY_NAME);
    assert_eq!(node.kernel.asked_for_arguments(), Some(true));
    assert_eq!(shown(&node, 1), [], "the rule that asked for them is gone");
    node.rules_are(ASKS_NOT);
    assert_eq!(node.kernel.asked_for_arguments(), Some(false));
    node.victim(6, 101, 18, node.worker);
    node.decision(6, node.worker, 0, (1, 1));
    reads(&node, 101, Some(b"worker"));
    node.turn();
    assert_eq!((node.kills().len(), shown(&node, 2)), (2, vec![]));
}

/// A group dies that has more processes than may wait, and the first of them are reported.
#[test]
fn the_first_victims_of_a_large_group_have_them() {
    for (name, polls) in [("arguments-group", 1), ("arguments-groups", 4)] {
        let mut node = Node::new(name, ASKS);
        node.pods_are('a');
        let worker = node.worker;
        let (each, all) = (1500 / polls, 1500);
        for pid in 1000..1000 + all {
            node.victim(5, pid, pid, worker);
            reads(&node, pid, Some(b"worker"));
            if (pid + 1 - 1000).is_multiple_of(each) && pid + 1 < 1000 + all {
                node.turn();
            }
        }
        node.decision(5, worker, worker, (all, all));
        node.turn();
        assert_eq!(node.kill().processes, 1500);
        let expected: Vec<_> = (1000..1008).map(|pid| (pid, Ok("worker".to_owned()))).collect();
        assert_eq!(shown(&node, 1), expected, "{name}");
    }
}

#[test]
fn what_is_kept_goes_when_the_rule_is_for_other_containers() {
    let mut node = Node::new("arguments-elsewhere", ASKS);
    node.pods_are('a');
    node.subprocess_dies(5);
    reads(&node, 100, Some(b"worker"));
    node.turn();
    assert_eq!(shown(&node, 1).len(), 1);
    node.rules_are(ASKS);
    assert_eq!(shown(&node, 1).len(), 1, "nothing has changed");
    node.rules_are(ASKS_ELSEWHERE);
    assert_eq!(shown(&node, 1), []);
}

/// The rules of now count, and not those of when the kernel killed.
#[test]
fn a_kill_that_waits_while_the_rule_changes_has_none() {
    // A container without a name may be a sandbox, and is under no rule that wants 1.
    let single = |rules: &str| rules.replace("oomGroup: group", "oomGroup: single-process");
    for (name, rules, count) in
        [("arguments-changed", ASKS_ELSEWHERE, 0), ("arguments-same", ASKS, 1)]
    {
        let mut node = Node::new(name, &single(ASKS));
        node.subprocess_dies(5);
        reads(&node, 100, Some(b"worker"));
        node.turn();
        assert!(node.kills().is_empty(), "it waits for its name");
        node.rules_are(&single(rules));
        node.pods_are('a');
        assert_eq!((node.kills().len(), shown(&node, 1).len()), (1, count), "{name}");
    }
}

#[test]
fn where_the_kernel_refuses_the_programs_that_is_said() {
    let mut node = Node::new("arguments-refused", ASKS_NOT);
    node.pods_are('a');
    node.kernel.refuse_arguments(true);
    node.rules_are(ASKS);
    node.subprocess_dies(5);
    node.turn();
    assert_eq!(shown(&node, 1), [(100, Err(Missing::NotAttached))]);
    assert_eq!(node.kill().cgroup, Some(container('a')), "the kill is reported as ever");
    // It is asked again with the next rules.
    node.kernel.refuse_arguments(false);
    node.rules_are(ASKS);
    node.victim(6, 101, 18, node.worker);
    node.decision(6, node.worker, 0, (1, 1));
    node.turn();
    assert_eq!(shown(&node, 2), [(101, Err(Missing::Waiting))]);
}
