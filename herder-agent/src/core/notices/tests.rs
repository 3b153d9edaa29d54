//! What is handed to the queue, and what is not.

use super::*;
use crate::kubernetes::events::send::EventReceiver;
use herder_model::{oom::Kind, owner::ContainerNames, pods::wire::PodObject};
use serde_json::{Value, json};

fn pod(uid_end: &str, annotation: &Value) -> Pod {
    let object: PodObject = serde_json::from_value(json!({
        "metadata": {
            "name": "web-0", "namespace": "shop",
            "uid": format!("2c39abf0-f543-4c05-8cfe-3839410aef{uid_end}"),
            "annotations": { "herder.dev/oom-group": annotation },
        },
        "spec": { "containers": [
            { "name": "worker", "resources": { "limits": { "memory": "64Mi" } } }, { "name": "logger" }
        ] },
    }))
    .unwrap();
    object.trim().unwrap()
}

fn event(change: Change, rule: &str, value: bool) -> EnforcementEvent {
    let target = Target::new(rule.into(), value);
    EnforcementEvent { cgroup: CgroupPath::root(), target, change }
}

/// How long before its report a kill was.
const AGE: Duration = Duration::from_secs(30);

fn notices() -> (Notices, EventReceiver) {
    let (queue, receiver) = EventQueue::new(Arc::new(|_| ()));
    (Notices::new(Some(queue)), receiver)
}

/// Reasons and containers of what was handed in.
fn emitted(receiver: &mut EventReceiver) -> Vec<(Reason, String)> {
    let all = std::iter::from_fn(|| receiver.take());
    let container = |about: &About| about.field_path().unwrap_or_default();
    all.map(|occurrence| (occurrence.reason, container(&occurrence.about))).collect()
}

#[test]
fn enforcement_is_reported_once_for_each_container_and_rule() {
    let (mut notices, mut receiver) = notices();
    let (pod, other) = (pod("01", &Value::Null), pod("02", &Value::Null));
    for (pod, container, rule, value) in [
        (&pod, "worker", "a", false),
        (&pod, "worker", "a", false),
        (&pod, "logger", "a", false),
        (&pod, "worker", "a", true),
        (&pod, "worker", "b", true),
        (&pod, "worker", "a", false),
        (&other, "worker", "a", false),
    ] {
        notices.enforcement(pod, container, event(Change::Enforced, rule, value));
    }
    let emitted = emitted(&mut receiver);
    let containers: Vec<_> = emitted.iter().map(|(_, path)| path.as_str()).collect();
    let (worker, logger) = ("spec.containers{worker}", "spec.containers{logger}");
    assert_eq!(containers, [worker, logger, worker, worker, worker, worker]);
    assert!(emitted.iter().all(|(reason, _)| *reason == Reason::OomGroupEnforced));
}

#[test]
fn an_obstacle_is_reported_once_for_each_pod() {
    let (mut notices, mut receiver) = notices();
    let pod = pod("01", &Value::Null);
    let what = || Change::NotEnforceable(Obstacle::Ancestor, "/pod has it; clear it".into());
    for container in ["worker", "logger", "worker"] {
        notices.enforcement(&pod, container, event(what(), "a", false));
    }
    let other = Change::NotEnforceable(Obstacle::ReadOnly, "mount it".into());
    notices.enforcement(&pod, "worker", event(other, "a", false));
    notices.enforcement(&pod, "worker", event(Change::Reverted(5), "a", false));
    let reasons: Vec<_> = emitted(&mut receiver).into_iter().map(|(reason, _)| reason).collect();
    let blocked = Reason::OomGroupNotEnforceable;
    assert_eq!(reasons, [blocked, blocked, Reason::OomGroupReverted]);
    notices.forget(|_| true);
    notices.enforcement(&pod, "worker", event(what(), "a", false));
    assert_eq!(emitted(&mut receiver).len(), 1);
}

#[test]
fn a_bad_annotation_is_reported_once_for_each_value_and_counted_without_events() {
    let (mut notices, mut receiver) = notices();
    let error = AnnotationError::Word("x".into());
    let mut is_new = |pod: &Pod| notices.bad_annotation(pod, &error);
    assert!(is_new(&pod("01", &json!("x"))));
    assert!(!is_new(&pod("01", &json!("x"))));
    assert!(is_new(&pod("01", &json!("y"))));
    assert!(is_new(&pod("02", &json!("y"))));
    let emitted = emitted(&mut receiver);
    assert_eq!(emitted.len(), 3);
    assert!(
        emitted.iter().all(|emitted| *emitted == (Reason::BadOomGroupAnnotation, String::new()))
    );
    let mut off = Notices::new(None);
    assert!(off.bad_annotation(&pod("01", &json!("x")), &error));
    assert!(!off.bad_annotation(&pod("01", &json!("x")), &error));
}

#[tokio::test]
async fn a_kill_is_reported_with_the_limit_and_what_is_left_to_count() {
    let (mut notices, mut receiver) = notices();
    let [namespace, name, container] = ["shop", "web-0", "worker"].map(str::to_owned);
    let owner = Owner::Container(ContainerNames { namespace, pod: name, container });
    let mut report = crate::report::tests::report(owner, Kind::Subprocess);
    let pod = pod("01", &Value::Null);
    notices.kill(&report, AGE, &pod, "worker", || PathBuf::from("/c"));
    let occurrence = receiver.take().unwrap();
    assert_eq!(occurrence.reason, Reason::SubprocessOomKilled);
    assert!(occurrence.message.contains("the container's limit is 64 MiB"), "{occurrence:?}");
    assert_eq!(occurrence.left.unwrap().cgroup, PathBuf::from("/c"));
    let age = Timestamp::now().duration_since(occurrence.time).unsigned_abs();
    assert!((AGE..AGE * 2).contains(&age), "the time of the kill: {age:?} ago");
    report.kind = Kind::Group;
    notices.kill(&report, AGE, &pod, "worker", || PathBuf::from("/c"));
    let occurrence = receiver.take().unwrap();
    assert!(occurrence.left.is_some(), "a part of it was killed as a group");
    report.ends = true;
    notices.kill(&report, AGE, &pod, "worker", || PathBuf::from("/c"));
    let occurrence = receiver.take().unwrap();
    assert_eq!((occurrence.reason, occurrence.left), (Reason::ContainerGroupOomKilled, None));
}

/// An Event that is not emitted is not even written.
#[tokio::test]
async fn of_a_thousand_kills_some_are_built() {
    let (mut notices, mut receiver) = notices();
    let names = ContainerNames {
        namespace: "shop".into(),
        pod: "web-0".into(),
        container: "worker".into(),
    };
    let report = crate::report::tests::report(Owner::Container(names), Kind::Subprocess);
    let (pod, mut built) = (pod("01", &Value::Null), 0);
    for _ in 0..1000 {
        let built = std::cell::Cell::from_mut(&mut built);
        notices.kill(&report, AGE, &pod, "worker", || {
            built.set(built.get() + 1);
            PathBuf::from("/c")
        });
    }
    assert_eq!(built, 3);
    assert_eq!(emitted(&mut receiver).len(), 3);
}

#[test]
fn the_end_of_a_protection_is_an_event_of_its_container() {
    let (notices, mut receiver) = notices();
    let pod = pod("01", &Value::Null);
    let ended = |why| ProtectionEnd::Ended("a".into(), why);
    for (end, reason, part) in [
        (ended(Unprotected::NoOtherVictim), Reason::OomProtectionEnded, "nothing else to kill"),
        (ended(Unprotected::Changed), Reason::OomProtectionEnded, "rule a asks for"),
        (
            ProtectionEnd::NotRemoved("Input/output error".into()),
            Reason::OomProtectionNotRemoved,
            "cannot be restored (Input/output error)",
        ),
    ] {
        notices.protection(&pod, "worker", end);
        let event = receiver.take().unwrap();
        assert_eq!((event.reason, event.reason.event_type()), (reason, "Warning"));
        assert_eq!(event.about.field_path().as_deref(), Some("spec.containers{worker}"));
        assert!(event.message.contains(part), "{}", event.message);
    }
}
