//! More pods than are kept, as any client may make them.

use super::*;
use crate::pods::store::room::size;

/// A pod of this number, with so many containers.
fn numbered(number: usize, containers: usize) -> Pod {
    let one = pod(A, 'a', 0, None).containers[0].clone();
    let mut pod = pod(&format!("2c39abf0-f543-4c05-8cfe-{number:012}"), 'a', 0, None);
    pod.containers = vec![one; containers].into();
    pod
}

fn store(most: usize) -> PodStore {
    PodStore { most, ..PodStore::default() }
}

fn take(store: &mut PodStore, pod: &Pod) -> Vec<PodChange> {
    let changes = store.apply(applied(pod.clone()), Monotonic(9));
    let kept: usize = store.pods.values().map(|record| size(&record.pod)).sum();
    assert_eq!(store.size, kept);
    assert!(kept <= store.most, "{kept}");
    changes
}

fn containers(store: &PodStore, pod: &Pod) -> Option<usize> {
    store.get(pod.uid).map(|pod| pod.containers.len())
}

#[test]
fn pods_that_run_come_before_those_that_the_kubelet_refuses() {
    let mut store = store(40_000);
    let refused: Vec<_> = (0..12).map(|number| numbered(number, 20)).collect();
    let changes: Vec<_> = refused.iter().flat_map(|pod| take(&mut store, pod)).collect();
    assert_eq!(changes.iter().filter(|change| **change == PodChange::Full).count(), 1, "once");
    assert!(!changes.iter().any(is_left_out), "none of them has too much: {changes:?}");
    assert_eq!(containers(&store, &refused[0]), Some(20));
    let last = store.get(refused[11].uid).unwrap();
    assert_eq!((last.containers.len(), last.more_containers, &last.labels), (0, true, &None));
    assert_eq!(&*last.name, "cart");

    let running = numbered(99, 30);
    take(&mut store, &running);
    assert_eq!(containers(&store, &running), Some(0), "before it has cgroups it is like them");
    store.set_running(running.cgroup_uid(), true);
    assert!(take(&mut store, &running).contains(&PodChange::Upserted(running.uid)));
    assert_eq!(containers(&store, &running), Some(30));
    let whole = refused.iter().filter(|pod| containers(&store, pod) == Some(20)).count();
    assert!(whole > 0 && containers(&store, &refused[11]) == Some(0), "{whole}");
}

#[test]
fn there_is_a_bound_for_names_too() {
    let mut store = store(size(&numbered(0, 0)) * 10);
    let refused: Vec<_> = (0..50).map(|number| numbered(number, 1)).collect();
    refused.iter().for_each(|pod| drop(take(&mut store, pod)));
    assert!(store.pods.len() < 20, "{}", store.pods.len());
    let running = numbered(99, 3);
    store.set_running(running.cgroup_uid(), true);
    take(&mut store, &running);
    assert_eq!(containers(&store, &running), Some(3));
    // There is room again for all, and the next time it is said again.
    refused.iter().for_each(|pod| drop(store.apply(Event::Deleted(pod.uid), Monotonic(9))));
    store.expire(Monotonic(9) + GRACE);
    take(&mut store, &running);
    assert!(!store.is_full);
}
