use super::*;
use crate::attribution::path::QosClass;

fn pod(uid: &str, containers: &[(&str, &str, u32, Option<&str>)]) -> Pod {
    let container = |&(name, id, restarts, ended): &(&str, &str, u32, Option<&str>)| PodContainer {
        name: name.into(),
        id: Some(id.into()),
        restarts,
        ended: ended.map(str::to_owned),
    };
    Pod {
        uid: uid.into(),
        config_hash: None,
        namespace: "ns".into(),
        name: "pod".into(),
        labels: BTreeMap::new(),
        annotation: None,
        containers: containers.iter().map(container).collect(),
    }
}

fn cgroup(uid: &str) -> PodCgroup {
    PodCgroup { uid: uid.into(), qos: QosClass::Burstable, container: None }
}

#[test]
fn pods_are_found_by_uid_hash_and_container() {
    let (mut pods, now) = (Pods::default(), Instant::now());
    let mut fixed = pod("uid-1", &[("worker", "c1", 0, None)]);
    fixed.config_hash = Some("hash-1".into());
    pods.apply(PodEvent::Applied(fixed), now);
    assert_eq!(pods.pod(&cgroup("uid-1")).unwrap().name, "pod");
    assert_eq!(pods.pod(&cgroup("hash-1")).unwrap().uid, "uid-1");
    assert_eq!(pods.container_name("c1"), Some("worker"));
    assert!(pods.pod(&cgroup("uid-2")).is_none() && pods.container_name("c2").is_none());
}

#[test]
fn deleted_pods_keep_their_names_for_a_while() {
    let (mut pods, now) = (Pods::default(), Instant::now());
    pods.apply(PodEvent::Applied(pod("a", &[("worker", "c1", 0, None)])), now);
    pods.apply(PodEvent::Deleted("a".into()), now);
    assert!(pods.is_empty());
    pods.forget(now + KEEP_DELETED - Duration::from_secs(1));
    assert_eq!(pods.container_name("c1"), Some("worker"));
    pods.forget(now + KEEP_DELETED);
    assert!(pods.container_name("c1").is_none() && pods.pod(&cgroup("a")).is_none());
}

#[test]
fn a_pod_that_comes_back_stays() {
    let (mut pods, now) = (Pods::default(), Instant::now());
    pods.apply(PodEvent::Applied(pod("a", &[])), now);
    pods.apply(PodEvent::Deleted("a".into()), now);
    pods.apply(PodEvent::Applied(pod("a", &[])), now);
    pods.forget(now + 2 * KEEP_DELETED);
    assert_eq!(pods.len(), 1);
}

#[test]
fn what_a_new_list_does_not_name_is_gone() {
    let (mut pods, now) = (Pods::default(), Instant::now());
    for uid in ["a", "b"] {
        pods.apply(PodEvent::Applied(pod(uid, &[])), now);
    }
    pods.apply(PodEvent::ListBegin, now);
    assert_eq!(pods.len(), 2, "nothing is gone before the list is whole");
    pods.apply(PodEvent::Applied(pod("b", &[])), now);
    pods.apply(PodEvent::ListEnd, now);
    assert_eq!(pods.len(), 1);
    assert!(pods.pod(&cgroup("a")).is_some(), "but it can still be named");
}

#[test]
fn restarts_are_counted_from_the_first_sight() {
    let (mut pods, now) = (Pods::default(), Instant::now());
    let mut told = |uid: &str, count, ended| -> Vec<(String, u32)> {
        let pod = pod(uid, &[("worker", "c", count, ended)]);
        let restarts = pods.apply(PodEvent::Applied(pod), now);
        restarts.into_iter().map(|restart| (restart.reason, restart.times)).collect()
    };
    assert_eq!(told("a", 7, Some("OOMKilled")), [], "before the agent started");
    assert_eq!(told("a", 7, Some("OOMKilled")), []);
    assert_eq!(told("a", 8, Some("OOMKilled")), [("OOMKilled".into(), 1)]);
    assert_eq!(told("a", 11, Some("Error")), [("Error".into(), 1), ("Unknown".into(), 2)]);
    assert_eq!(told("a", 12, Some("whatever a runtime says")), [("Other".into(), 1)]);
    assert_eq!(told("a", 13, None), [("Unknown".into(), 1)]);
    assert_eq!(told("b", 3, Some("Error")), [], "another pod of the same name");
    assert_eq!(told("a", 2, None), [], "a count that fell");
}

#[test]
fn the_number_of_pods_is_bounded() {
    let (mut pods, now) = (Pods::default(), Instant::now());
    for number in 0..5000 {
        pods.apply(PodEvent::Applied(pod(&number.to_string(), &[])), now);
    }
    assert_eq!(pods.len(), MOST_PODS);
}
