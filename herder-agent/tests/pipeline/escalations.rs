//! A container that keeps losing processes: kills in, values and restarts out.

use super::{
    escalating::{
        GROUP, RESTART, escalations, node, process_dies, processes_die, processes_die_in, rules,
    },
    node::{Node, SINGLE, container, pod},
    records,
};
use bytemuck::bytes_of;
use std::time::Duration;

#[test]
fn three_kills_make_the_next_one_take_all_until_it_was_quiet() {
    let mut node = node("escalate-group", GROUP);
    assert_eq!(escalations(&node, "group", "ok"), Some(0.0), "it begins at 0");
    processes_die(&mut node, 5..7);
    assert_eq!(node.value(), "0");
    assert_eq!(node.escalation().kills, 2);
    processes_die(&mut node, 7..8);
    assert_eq!((node.value().as_str(), escalations(&node, "group", "ok")), ("1", Some(1.0)));
    assert_eq!(node.escalation().state, "group");
    let wanted =
        r#"herder_container_oom_group_wanted{container="worker",namespace="shop",pod="web-0"}"#;
    assert_eq!(node.metric(wanted), Some(1.0));
    // Whatever is decided anew meanwhile keeps it, and a change by something else is corrected.
    node.pod_is('a');
    node.core.begin().unwrap();
    node.write("memory.oom.group", "0");
    node.turn();
    assert_eq!(node.value(), "1");
    node.pass(Duration::from_secs(58));
    assert_eq!(node.value(), "1");
    node.pass(Duration::from_secs(1));
    assert_eq!((node.value().as_str(), node.escalation().kills), ("0", 0));
    assert_eq!(escalations(&node, "group", "ok"), Some(1.0));
}

#[test]
fn kills_too_far_apart_and_whole_containers_do_not_count() {
    let mut node = node("escalate-not", GROUP);
    for decision in 5..15 {
        process_dies(&node, decision, node.worker);
        node.pass(Duration::from_secs(31));
    }
    let worker = node.worker;
    for (decision, pid, ns_pid, group) in
        [(20, 20, 1, 0), (21, 21, 17, worker), (22, 22, 1, worker)]
    {
        node.victim(decision, pid, ns_pid, worker);
        node.decision(decision, worker, group, (1, 1));
        node.turn();
    }
    assert_eq!((node.kills().len(), node.value().as_str()), (13, "0"));
    assert_eq!(node.escalation().kills, 0, "what followed an end is a new container");
    assert_eq!(escalations(&node, "group", "ok"), Some(0.0));
}

/// Neither the container nor the next one may keep the 1.
#[test]
fn a_group_kill_ends_what_was_raised() {
    let mut node = node("escalate-ended", GROUP);
    processes_die(&mut node, 5..8);
    assert_eq!(node.value(), "1");
    let worker = node.worker;
    node.victim(8, 100, 1, worker);
    node.decision(8, worker, worker, (1, 1));
    node.turn();
    assert_eq!(node.value(), "0");
    // A container that is made anew has the rule's value.
    node.remove(&container('a'), worker);
    node.pod_is('b');
    node.make(&container('b'));
    node.turn();
    assert_eq!(node.value_of(&container('b')), "0");
}

#[test]
fn other_rules_take_a_raised_value_back_at_once() {
    let mut node = node("escalate-rules", GROUP);
    processes_die(&mut node, 5..8);
    assert_eq!(node.value(), "1");
    node.rules_are(&rules("{ after: 4, within: 1m, to: group }"));
    assert_eq!(node.value(), "0");
    node.pass(Duration::from_secs(1));
    processes_die(&mut node, 8..11);
    assert_eq!((node.value().as_str(), node.escalation().kills), ("0", 3), "counted anew");
    processes_die(&mut node, 11..12);
    assert_eq!(node.value(), "1");
    node.rules_are("rules: []");
    assert_eq!(node.value(), "0", "as it was before the agent");
    processes_die(&mut node, 12..20);
    assert_eq!(node.value(), "0", "no rule matches");
    assert_eq!(node.restarts.take_request().map(|_| ()), None);
}

#[test]
fn a_restart_writes_cgroup_kill_of_the_container_and_nothing_else() {
    let mut node = node("escalate-restart", RESTART);
    for path in [container('a'), pod()] {
        node.has_kill(&path);
    }
    processes_die(&mut node, 5..7);
    assert_eq!(node.escalation().state, "restarting");
    assert_eq!(escalations(&node, "restart", "ok"), Some(0.0));
    node.restart();
    assert_eq!([node.killed(&container('a')), node.killed(&pod())], ["1", ""]);
    assert_eq!((node.value().as_str(), escalations(&node, "restart", "ok")), ("0", Some(1.0)));
    assert_eq!((node.escalation().state, node.escalation().kills), ("counting", 0));
    let survived = node.kills().iter().filter(|kill| kill.survived == Some(true)).count();
    assert_eq!(survived, 2, "until the restart");
}

/// The agent decides, and a moment later the rule goes: the thread that writes sees that.
#[test]
fn what_is_not_wanted_any_more_is_not_killed() {
    for what in ["rule", "container", "escalation", "end"] {
        let mut node = node(&format!("escalate-late-{what}"), RESTART);
        node.has_kill(&container('a'));
        processes_die(&mut node, 5..7);
        let request = node.restarts.take_request().unwrap();
        match what {
            "rule" => node.rules_are("rules: []"),
            "escalation" => node.rules_are(SINGLE),
            // The kernel kills its init meanwhile, and what follows in the cgroup is another one.
            "end" => {
                node.victim(9, 109, 1, node.worker);
                node.decision(9, node.worker, 0, (1, 1));
                node.turn();
            }
            _ => {
                let worker = node.worker;
                node.remove(&container('a'), worker);
                node.turn();
            }
        }
        node.restarted(request.write());
        if what != "container" {
            assert_eq!(node.killed(&container('a')), "", "{what}");
        }
        assert_eq!(escalations(&node, "restart", "gone"), Some(1.0), "{what}");
    }
}

/// What the other rule matched, and what was killed under it, is no news of the rule that comes then.
#[test]
fn kills_that_are_reported_after_the_rule_came_are_not_its_own() {
    let mut node = node("escalate-before", "{ after: 1, within: 1m, to: group }");
    node.rules_are(SINGLE);
    let killed = node.clock.now();
    node.pass(Duration::from_secs(1));
    node.rules_are(&rules("{ after: 1, within: 1m, to: group }"));
    let victim = records::victim(5, 105, 17, node.worker, killed);
    node.kernel.kill(bytes_of(&victim));
    node.decision(5, node.worker, 0, (1, 1));
    node.turn();
    assert_eq!((node.value().as_str(), node.escalation().kills), ("0", 0));
    node.pass(Duration::from_secs(1));
    processes_die(&mut node, 6..7);
    assert_eq!(node.value(), "1");
    // Nor of a container that was made a moment ago.
    let other = "rules: [{ name: a, cgroups: [\"/new/*\"], oomGroup: single-process, \
                 escalate: { after: 1, within: 1m, to: group } }]";
    let mut node = Node::new("escalate-before-new", "rules: []");
    let made = node.make("/new/c");
    node.turn();
    let killed = node.clock.now();
    node.pass(Duration::from_secs(1));
    node.rules_are(other);
    let victim = records::victim(5, 105, 17, made, killed);
    node.kernel.kill(bytes_of(&victim));
    node.decision(5, made, 0, (1, 1));
    node.turn();
    assert_eq!((node.value_of("/new/c").as_str(), node.kills().len()), ("0", 1));
}

/// crun's cgroup and the scope around it are one container, but not to every rule.
#[test]
fn what_is_inside_of_a_raised_scope_goes_by_its_own_rule() {
    let (scope, inside) = ("/apps/x.scope", "/apps/x.scope/container");
    let own = "{ name: inner, cgroups: [\"/apps/x.scope/container\"], oomGroup: single-process, \
               escalate: { after: 9, to: group } }";
    let web = "{ name: web, cgroups: [\"/apps/*\"], oomGroup: single-process, \
               escalate: { after: 1, within: 1m, to: group } }";
    for (rules, values) in
        [(format!("[{web}]"), ["1", "1"]), (format!("[{own}, {web}]"), ["1", "0"])]
    {
        let mut node = Node::new("escalate-scope", &format!("rules: {rules}"));
        node.make(scope);
        let made = node.make(inside);
        node.turn();
        processes_die_in(&mut node, 5..6, made);
        assert_eq!([scope, inside].map(|path| node.value_of(path)), values, "{rules}");
        // The number changes, and both have the value of the rule as it is now.
        node.rules_are(&format!("rules: {}", rules.replace("after: 1", "after: 2")));
        assert_eq!([scope, inside].map(|path| node.value_of(path)), ["0", "0"], "{rules}");
    }
}

#[test]
fn restarts_have_a_budget_and_wait_for_it_while_they_are_due() {
    let mut node = Node::new(
        "escalate-budget",
        "rules: [{ name: web, cgroups: [\"/apps/*\"], oomGroup: single-process, \
         escalate: { after: 1, within: 1m, to: restart } }]",
    );
    let made = ["/apps/a", "/apps/b", "/apps/c"].map(|path| {
        let id = node.make(path);
        node.has_kill(path);
        node.turn();
        id
    });
    for (decision, cgroup) in (5..).zip(made) {
        process_dies(&node, decision, cgroup);
        node.turn();
    }
    let counted = |node: &Node| {
        ["ok", "over-budget", "lapsed"].map(|result| escalations(node, "restart", result).unwrap())
    };
    assert_eq!(counted(&node), [0.0, 2.0, 0.0]);
    node.pass(Duration::from_secs(20));
    node.restart();
    assert_eq!(counted(&node), [1.0, 2.0, 0.0], "one is written at a time");
    assert_eq!([node.killed("/apps/a"), node.killed("/apps/b")], ["1", ""]);
    node.turn();
    node.restart();
    assert_eq!([node.killed("/apps/b"), node.killed("/apps/c")], ["1", ""]);
    node.pass(Duration::from_secs(9));
    assert_eq!(node.restarts.take_request().map(|_| ()), None, "the pause is not over");
    node.pass(Duration::from_secs(1));
    node.restart();
    assert_eq!((node.killed("/apps/c").as_str(), counted(&node)), ("1", [3.0, 2.0, 0.0]));
    // One that stays quiet until its turn comes is left alone.
    for (decision, cgroup) in (10..).zip(&made[..2]) {
        process_dies(&node, decision, *cgroup);
        node.turn();
    }
    node.pass(Duration::from_secs(5));
    assert_eq!(counted(&node), [3.0, 4.0, 0.0]);
    node.core.begin().unwrap();
    node.clock.advance(Duration::from_secs(60));
    node.turn();
    assert_eq!(counted(&node), [3.0, 4.0, 2.0]);
}

#[test]
fn without_cgroup_kill_it_becomes_a_group() {
    let mut node = node("escalate-old", RESTART);
    processes_die(&mut node, 5..7);
    assert_eq!(node.value(), "1");
    assert_eq!(escalations(&node, "restart", "group-instead"), Some(1.0));
    assert_eq!(node.restarts.take_request().map(|_| ()), None);
}

#[test]
fn a_dry_run_only_says_what_it_would_do() {
    for (escalate, to) in [(GROUP, "group"), (RESTART, "restart")] {
        let name = format!("escalate-dry-{to}");
        let mut node = Node::in_dry_run(&name, &rules(escalate), None);
        node.pods_are('a');
        node.pass(Duration::from_secs(1));
        node.has_kill(&container('a'));
        processes_die(&mut node, 5..8);
        assert_eq!((node.value().as_str(), node.killed(&container('a'))), ("0", String::new()));
        assert_eq!(escalations(&node, to, "dry-run"), Some(1.0));
        assert_eq!(escalations(&node, to, "ok"), Some(0.0));
        assert_eq!(node.restarts.take_request().map(|_| ()), None);
    }
}

/// A rule that matches what lies above containers must not kill all of them.
#[test]
fn what_is_not_one_container_is_refused() {
    for (at, (path, cgroups)) in [
        ("/apps.slice", "/apps.slice"),
        ("/apps", "/apps"),
        // The pod's own, which holds its pause container.
        (pod().as_str(), "/kubepods/*"),
    ]
    .into_iter()
    .enumerate()
    {
        for (to, escalate) in [("group", "group"), ("restart", "restart")] {
            let rules = format!(
                "rules: [{{ name: web, cgroups: [{cgroups:?}], oomGroup: single-process, \
                 escalate: {{ after: 1, to: {escalate} }} }}, \
                 {{ name: inner, cgroups: [\"/apps/*\"], oomGroup: single-process }}]"
            );
            let mut node = Node::new(&format!("escalate-refused-{at}-{to}"), &rules);
            let made = if path == pod() { node.pod } else { node.make(path) };
            node.make("/apps/one");
            node.has_kill(path);
            node.turn();
            node.victim(5, 100, 17, made);
            node.decision(5, made, 0, (1, 1));
            node.turn();
            node.pass(Duration::from_secs(31));
            assert_eq!(escalations(&node, to, "refused"), Some(1.0), "{path}");
            assert_eq!(node.restarts.take_request().map(|_| ()), None, "{path}");
            assert_eq!(node.value_of(path), "0", "{path}");
        }
    }
}

/// The annotation of a pod, where no rule matches.
#[test]
fn a_pod_may_ask_for_it() {
    let mut node = Node::new("escalate-annotation", "rules: []");
    node.pod_is_annotated("single-process", "2/1m=group");
    assert_eq!((node.escalation().after, node.escalation().within_seconds), (2, 60));
    node.pass(Duration::from_secs(1));
    processes_die(&mut node, 5..7);
    assert_eq!(node.value(), "1");
    node.pod_is_annotated("single-process", "2/1m=nonsense");
    assert_eq!(node.value(), "0", "the pod is left alone");
    assert_eq!(node.metric("herder_bad_annotations_total"), Some(1.0));
}
