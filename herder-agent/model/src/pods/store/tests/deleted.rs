//! Pods that are deleted, and come back.

use super::*;

#[test]
fn a_deleted_pod_is_found_for_the_grace_period_by_its_cgroups_only() {
    let begin = Monotonic::ZERO;
    let mut store = PodStore::default();
    store.apply(applied(pod(A, 'a', 0, None)), begin);
    assert_eq!(store.apply(Event::Deleted(uid(A)), begin), [PodChange::Deleted(uid(A))]);
    assert_eq!(store.apply(Event::Deleted(uid(A)), begin), []);
    store.expire(begin + (GRACE - Duration::from_secs(1)));
    let path = format!("/kubepods/pod{A}/{}", id('a'));
    let resolved = store.resolve(&cgroup(&path)).unwrap();
    assert_eq!(resolved.container.unwrap().name.as_ref(), "main");
    assert!(store.get(uid(A)).is_none());
    store.expire(begin + GRACE);
    assert!(store.resolve(&cgroup(&path)).is_none());
    assert_eq!((store.pods.len(), store.deleted.len(), store.mirrors.len()), (0, 0, 0));
}

#[test]
fn a_pod_that_comes_back_stays() {
    let begin = Monotonic::ZERO;
    let mut store = PodStore::default();
    store.apply(applied(pod(A, 'a', 0, None)), begin);
    store.apply(Event::Deleted(uid(A)), begin);
    assert_eq!(store.apply(applied(pod(A, 'a', 0, None)), begin), [PodChange::Upserted(uid(A))]);
    store.expire(begin + GRACE);
    assert!(store.get(uid(A)).is_some());
    // Gone once more, it has the whole grace period again.
    store.apply(Event::Deleted(uid(A)), begin + GRACE);
    store.expire(begin + GRACE + Duration::from_secs(1));
    assert_eq!(container_name(&store, 'a').as_deref(), Some("main"));
}

#[test]
fn a_deleted_pod_is_found_as_long_as_it_has_cgroups() {
    let begin = Monotonic::ZERO;
    let mut store = PodStore::default();
    store.apply(applied(pod(A, 'a', 0, None)), begin);
    store.set_running(uid(A), true);
    store.apply(Event::Deleted(uid(A)), begin);
    assert_eq!(store.expire(begin + GRACE * 10), []);
    assert!(store.has("shop", "cart") && store.get(uid(A)).is_none());
    store.set_running(uid(A), false);
    assert!(!store.has("shop", "cart"));
    assert_eq!(store.expire(begin + (GRACE * 11 - Duration::from_secs(1))), [], "late kills");
    assert_eq!(store.expire(begin + GRACE * 11).len(), 1);
    assert!(store.known(uid(A)).is_none());
}

/// Of very many deleted pods, those that run are forgotten last, and that is reported.
#[test]
fn deleted_pods_that_run_are_bounded_too() {
    let now = Monotonic::ZERO;
    let mut store = PodStore::default();
    let text = |number: usize| format!("00000000-0000-0000-0000-{number:012x}");
    let delete = |store: &mut PodStore, number: usize| {
        store.apply(applied(pod(&text(number), 'a', 0, None)), now);
        store.apply(Event::Deleted(uid(&text(number))), now)
    };
    for number in 0..10 {
        store.set_running(uid(&text(number)), true);
        delete(&mut store, number);
    }
    for number in 10..MAX_DELETED + 100 {
        assert_eq!(delete(&mut store, number), [PodChange::Deleted(uid(&text(number)))]);
    }
    assert!((0..10).all(|number| store.known(uid(&text(number))).is_some()));
    for number in 1000..1000 + MAX_DELETED {
        store.set_running(uid(&text(number)), true);
        let forgotten = delete(&mut store, number);
        let expected = number.checked_sub(1000 + MAX_DELETED - 10).map(text);
        let expected = expected.map(|text| PodChange::Forgotten(uid(&text)));
        assert_eq!(forgotten.get(1), expected.as_ref(), "{number}");
    }
    assert_eq!((store.pods.len(), store.deleted.len()), (MAX_DELETED, MAX_DELETED));
}

#[test]
fn deleted_pods_are_bounded() {
    let now = Monotonic::ZERO;
    let mut store = PodStore::default();
    for number in 0..MAX_DELETED + 50 {
        let text = format!("00000000-0000-0000-0000-{number:012x}");
        store.apply(applied(pod(&text, 'a', 0, None)), now);
        store.apply(Event::Deleted(uid(&text)), now);
    }
    assert_eq!(store.pods.len(), MAX_DELETED);
    assert_eq!(store.deleted.len(), MAX_DELETED);
}
