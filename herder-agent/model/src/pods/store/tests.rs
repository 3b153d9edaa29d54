//! The store by tables and by the recorded list; no network.

mod deleted;
mod full;

use super::*;
use crate::{
    cgroup::CgroupPath,
    owner::{ContainerNames, path::PodCgroup},
    pods::{ContainerKind, Termination, addresses::Addresses, restarts::Reason, wire::PodObject},
};

const A: &str = "2c39abf0-f543-4c05-8cfe-3839410aef01";
const B: &str = "b9c7824b-74db-45a3-aa84-2934140f7307";
const HASH: &str = "ca0757b5d25d60b3db9d57dce6d10c2d";

fn uid(text: &str) -> PodUid {
    PodUid::parse(text).unwrap()
}

fn id(letter: char) -> ContainerId {
    ContainerId::parse(&letter.to_string().repeat(64)).unwrap()
}

/// A pod with one container `main`.
fn pod(uid_text: &str, current: char, restarts: u32, last: Option<(char, Reason)>) -> Pod {
    Pod {
        uid: uid(uid_text),
        config_hash: None,
        namespace: "shop".into(),
        name: "cart".into(),
        labels: Some(Box::new([("app".into(), "cart".into())])),
        oom_group: None,
        oom_escalate: None,
        containers: Box::new([Container {
            name: "main".into(),
            kind: ContainerKind::Regular,
            id: Some(id(current)),
            restarts,
            last_terminated: last.map(|(letter, reason)| Termination {
                reason,
                exit_code: 137,
                finished_at: None,
                id: Some(id(letter)),
            }),
            memory_limit: Some(1 << 26),
            memory_request: None,
            completed: false,
        }]),
        more_containers: false,
        memory_limit: None,
        addresses: Addresses::default(),
    }
}

fn applied(pod: Pod) -> Event {
    Event::Applied(Box::new(pod))
}

fn restarted(reason: Reason, times: u32, ended: Option<char>) -> PodChange {
    PodChange::Restarted(RestartSeen {
        names: ContainerNames {
            namespace: "shop".to_owned(),
            pod: "cart".to_owned(),
            container: "main".to_owned(),
        },
        reason,
        times,
        ended: ended.map(id),
    })
}

fn container_name(store: &PodStore, letter: char) -> Option<String> {
    let resolved = store.by_container(id(letter))?;
    Some(resolved.container?.name.to_string())
}

fn cgroup(path: &str) -> PodCgroup {
    PodCgroup::parse(&CgroupPath::parse(path.as_bytes()).unwrap()).unwrap()
}

#[test]
fn a_list_brings_pods_in_and_takes_the_others_out() {
    let now = Monotonic::ZERO;
    let mut store = PodStore::default();
    assert_eq!(store.apply(Event::ListStarted, now), []);
    assert_eq!(store.apply(applied(pod(A, 'a', 0, None)), now), [PodChange::Upserted(uid(A))]);
    assert!(!store.synced());
    assert_eq!(store.apply(Event::Listed, now), [PodChange::Synced]);
    // The same pod again is no change.
    assert_eq!(store.apply(applied(pod(A, 'a', 0, None)), now), []);
    store.apply(Event::ListStarted, now);
    store.apply(applied(pod(B, 'b', 0, None)), now);
    assert_eq!(store.apply(Event::Listed, now), [PodChange::Deleted(uid(A))]);
    assert_eq!(store.live().count(), 1);
}

#[test]
fn a_list_that_breaks_off_deletes_nothing() {
    let now = Monotonic::ZERO;
    let mut store = PodStore::default();
    store.apply(applied(pod(A, 'a', 0, None)), now);
    store.apply(Event::ListStarted, now);
    store.apply(Event::ListStarted, now);
    store.apply(applied(pod(A, 'a', 0, None)), now);
    assert_eq!(store.apply(Event::Listed, now), [PodChange::Synced]);
    assert!(store.get(uid(A)).is_some());
}

#[test]
fn a_static_pod_is_found_by_its_hash_also_after_its_mirror_was_replaced() {
    let begin = Monotonic::ZERO;
    let mut store = PodStore::default();
    let mirror =
        |uid_text, letter| Pod { config_hash: Some(uid(HASH)), ..pod(uid_text, letter, 0, None) };
    store.apply(applied(mirror(A, 'a')), begin);
    store.apply(applied(mirror(B, 'a')), begin);
    store.apply(Event::Deleted(uid(A)), begin);
    store.expire(begin + GRACE);
    let path = format!("/kubepods/pod{HASH}/{}", id('a'));
    let resolved = store.resolve(&cgroup(&path)).unwrap();
    assert_eq!(resolved.pod.uid, uid(B));
    assert_eq!(resolved.pod.cgroup_uid(), uid(HASH));
}

#[test]
fn earlier_incarnations_are_found_up_to_a_bound() {
    let now = Monotonic::ZERO;
    let mut store = PodStore::default();
    let letters: Vec<char> = "0123456789abcdef".chars().collect();
    store.apply(applied(pod(A, letters[0], 0, None)), now);
    for (count, pair) in letters.windows(2).enumerate() {
        let count = u32::try_from(count).unwrap() + 1;
        let next = pod(A, pair[1], count, Some((pair[0], Reason::Error)));
        store.apply(applied(next), now);
    }
    // f runs, e ended last, and eight more are remembered: 6 to d.
    let found: String =
        letters.iter().filter(|letter| container_name(&store, **letter).is_some()).collect();
    assert_eq!(found, "6789abcdef");
}

#[test]
fn restarts_are_counted_once_each() {
    let oom = Reason::OomKilled;
    let now = Monotonic::ZERO;
    // What is known, what comes, and the restarts that follow from it.
    let table: [(&str, Pod, Pod, Vec<PodChange>); 8] = [
        (
            "one restart",
            pod(A, 'a', 0, None),
            pod(A, 'b', 1, Some(('a', oom))),
            vec![restarted(oom, 1, Some('a'))],
        ),
        (
            "three restarts between two looks",
            pod(A, 'a', 2, None),
            pod(A, 'd', 5, Some(('c', oom))),
            vec![restarted(oom, 1, Some('c')), restarted(Reason::Unknown, 2, None)],
        ),
        (
            "no last state",
            pod(A, 'a', 0, None),
            pod(A, 'b', 1, None),
            vec![restarted(Reason::Unknown, 1, None)],
        ),
        (
            "only the labels changed",
            pod(A, 'b', 1, Some(('a', oom))),
            Pod { labels: Some(Box::new([])), ..pod(A, 'b', 1, Some(('a', oom))) },
            vec![],
        ),
        (
            "the same name, another pod",
            pod(A, 'a', 0, None),
            pod(B, 'c', 4, Some(('b', oom))),
            vec![],
        ),
        (
            "the count goes down with a new incarnation",
            pod(A, 'a', 7, None),
            pod(A, 'b', 0, None),
            vec![],
        ),
        (
            "the count goes up, the incarnation stays",
            pod(A, 'a', 0, None),
            pod(A, 'a', 3, None),
            vec![],
        ),
        (
            "a container that was not there before",
            Pod { containers: Box::new([]), ..pod(A, 'a', 0, None) },
            pod(A, 'a', 3, Some(('b', oom))),
            vec![],
        ),
    ];
    for (case, known, comes, expected) in table {
        let mut store = PodStore::default();
        let first = store.apply(applied(known), now);
        assert_eq!(first, [PodChange::Upserted(uid(A))], "{case}: a baseline");
        let changes = store.apply(applied(comes), now);
        let restarts: Vec<_> = changes
            .into_iter()
            .filter(|change| matches!(change, PodChange::Restarted(_)))
            .collect();
        assert_eq!(restarts, expected, "{case}");
    }
}

#[test]
fn labels_that_are_too_many_are_logged_once() {
    let now = Monotonic::ZERO;
    let mut store = PodStore::default();
    let few = || pod(A, 'a', 0, None);
    let many = || Pod { labels: None, ..few() };
    let table = [
        ("new", many(), true),
        ("again", many(), false),
        ("another change", Pod { oom_group: Some("leave".into()), ..many() }, false),
        ("they are kept again", few(), false),
        ("and left out again", many(), true),
    ];
    for (case, pod, expected) in table {
        let changes = store.apply(applied(pod), now);
        assert_eq!(changes.contains(&PodChange::LabelsLeftOut(uid(A))), expected, "{case}");
    }
}

#[test]
fn containers_that_are_too_many_are_logged_once() {
    let now = Monotonic::ZERO;
    let mut store = PodStore::default();
    let few = || pod(A, 'a', 0, None);
    let many = || Pod { more_containers: true, ..few() };
    let table = [("new", many(), true), ("again", many(), false), ("fewer", few(), false)];
    for (case, pod, expected) in table.into_iter().chain([("too many again", many(), true)]) {
        let changes = store.apply(applied(pod), now);
        assert_eq!(changes.contains(&PodChange::ContainersLeftOut(uid(A))), expected, "{case}");
    }
}

#[test]
fn a_kubelet_that_forgets_and_remembers_makes_no_restarts() {
    let now = Monotonic::ZERO;
    let mut store = PodStore::default();
    store.apply(applied(pod(A, 'a', 5, None)), now);
    for count in [0, 5] {
        let changes = store.apply(applied(pod(A, 'a', count, None)), now);
        assert_eq!(changes, [], "{count}");
    }
}

#[test]
fn a_list_from_an_older_cache_makes_no_restarts() {
    let oom = Reason::OomKilled;
    let now = Monotonic::ZERO;
    let mut store = PodStore::default();
    store.apply(applied(pod(A, 'a', 0, None)), now);
    store.apply(applied(pod(A, 'b', 1, Some(('a', oom)))), now);
    store.apply(applied(pod(A, 'c', 2, Some(('b', oom)))), now);
    for older in [pod(A, 'a', 0, None), pod(A, 'b', 1, Some(('a', oom)))] {
        assert_eq!(store.apply(applied(older), now), []);
        let newest = pod(A, 'c', 2, Some(('b', oom)));
        assert_eq!(store.apply(applied(newest), now), []);
    }
    // The next real one still counts.
    let changes = store.apply(applied(pod(A, 'd', 3, Some(('c', oom)))), now);
    assert_eq!(changes[1..], [restarted(oom, 1, Some('c'))]);
}

#[test]
fn the_recorded_list_and_the_recorded_cgroups_fit() {
    #[derive(serde::Deserialize)]
    struct List {
        items: Vec<PodObject>,
    }
    let raw = include_str!("../../../../tests/fixtures/k8s-wire/list-pods-node-1-mixed.body");
    let list: List = serde_json::from_str(raw).unwrap();
    let now = Monotonic::ZERO;
    let mut store = PodStore::default();
    let mut kept = 0;
    for object in list.items {
        let pod = object.trim().unwrap();
        kept += size(&pod);
        store.apply(applied(pod), now);
    }
    assert!(kept * 9 < raw.len(), "{kept} bytes kept of {}", raw.len());

    let tree = include_str!("../../../../tests/fixtures/node-1-cgroup-tree.txt");
    let mut named = Vec::new();
    for line in tree.lines() {
        let path = format!("/{}", line.split(' ').next().unwrap());
        let path = CgroupPath::parse(path.as_bytes()).unwrap();
        let Some(cgroup) = PodCgroup::parse(&path) else {
            continue;
        };
        let resolved = store.resolve(&cgroup).unwrap();
        if cgroup.container().is_some() {
            let container = resolved.container.map_or("-", |container| &container.name);
            let limit = resolved.container.and_then(|container| container.memory_limit);
            let limit = limit.map_or("max".to_owned(), |limit| limit.to_string());
            // The path's limit is the container's; the sandbox has none.
            assert!(line.contains(&format!(" max={limit} ")), "{line}");
            named.push(format!("{}/{container}", resolved.pod.name));
        }
    }
    named.sort_unstable();
    named.retain(|name| !name.ends_with("/-"));
    assert_eq!(
        named,
        [
            "agent-sc9zr/agent",
            "besteffort/b",
            "guaranteed/g",
            "static-node-1/s",
            "web-59f689d69-85t88/httpd",
            "web-59f689d69-85t88/sidecar",
        ]
    );
    let web = store.live().find(|pod| pod.label("app") == Some("web"));
    let web = web.unwrap();
    let kinds: Vec<_> = web.containers.iter().map(|c| (&*c.name, c.kind)).collect();
    assert_eq!(
        kinds,
        [
            ("setup", ContainerKind::Init),
            ("sidecar", ContainerKind::Sidecar),
            ("httpd", ContainerKind::Regular),
            ("worker", ContainerKind::Regular),
        ]
    );
    let worker = web.container("worker").unwrap();
    let ended = worker.last_terminated.unwrap();
    assert_eq!((worker.restarts, ended.reason), (2, Reason::OomKilled));
    assert_eq!(ended.finished_at.unwrap().to_string(), "2026-11-23T23:54:16Z");
}

/// Bytes of a pod in the store.
fn size(pod: &Pod) -> usize {
    let text: usize = [&pod.namespace, &pod.name]
        .into_iter()
        .chain(pod.oom_group.iter())
        .chain(pod.containers.iter().map(|container| &container.name))
        .chain(pod.labels.iter().flatten().flat_map(|(key, value)| [key, value]))
        .map(|text| text.len())
        .sum();
    size_of::<(PodUid, Record)>()
        + size_of_val(&*pod.addresses.ips)
        + size_of_val(&*pod.containers)
        + pod.labels.as_deref().map_or(0, size_of_val)
        + text
}
