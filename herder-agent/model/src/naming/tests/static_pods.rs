//! Static pods: their cgroups carry a uid of their own, which the mirror pod shows.

use super::*;

/// Names of a pod, its annotations, and the IDs of containers that its status has.
fn pod_change(
    (uid, name, namespace): (&str, &str, &str),
    annotations: &Value,
    started: bool,
    ids: &[(&str, char)],
) -> Event {
    let statuses: Vec<Value> = ids.iter().map(|(name, letter)| status(name, *letter)).collect();
    let object = json!({
        "metadata": {
            "name": name, "namespace": namespace, "uid": uid, "annotations": annotations,
            "labels": { "app": "web" },
        },
        "spec": { "containers": [{ "name": "server" }, { "name": "helper" }] },
        "status": {
            "startTime": started.then_some("2026-11-23T23:54:36Z"), "containerStatuses": statuses,
        },
    });
    let object: PodObject = serde_json::from_value(object).unwrap();
    Event::Applied(Box::new(object.trim().unwrap()))
}

fn mirror_of(hash: &str) -> Value {
    json!({ "kubernetes.io/config.hash": hash, "kubernetes.io/config.mirror": hash })
}

fn with(mut annotations: Value, wish: &str) -> Value {
    annotations["herder.dev/oom-group"] = wish.into();
    annotations
}

const MIRROR: (&str, &str, &str) = (UID, "api-node-1", "kube-system");
const SECOND: (&str, &str, &str) =
    ("b9c7824b-74db-45a3-aa84-2934140f7307", "api-node-1", "kube-system");
const FORGER: (&str, &str, &str) = ("9bf8d537-a472-439b-ae40-17024ddb8ed1", "evil", "tenant");

fn path_of(uid: &str, letter: char) -> CgroupPath {
    cgroup(&format!("/kubepods/pod{uid}/{}", id(letter)))
}

#[test]
fn they_are_found_whatever_uid_the_manifest_has() {
    let digest = "5f".repeat(32);
    let uuid = "680cc1c9-5578-46a8-95b6-7894f674d60d";
    for uid in [HASH, uuid, &uuid.to_uppercase(), &digest, "etcd", "kube-apiserver-v1.36"] {
        let slice = format!("/kubepods.slice/kubepods-pod{}.slice", uid.replace('-', "_"));
        let scope = cgroup(&format!("{slice}/cri-containerd-{}.scope", id('a')));
        for path in [path_of(uid, 'a'), scope] {
            let mut naming = naming();
            naming.made(CgroupId(7), &path);
            assert_eq!(owner(&naming, &path), "unnamed");
            naming.apply(
                pod_change(MIRROR, &mirror_of(uid), true, &[("server", 'a')]),
                Monotonic::ZERO,
            );
            assert_eq!(owner(&naming, &path), "kube-system/api-node-1/server", "{path}");
            assert_eq!(decided(&naming, &policy(RULE), &path), "r 0", "{path}");
            let (_, ids) = naming.pod(PodUid::parse(UID).unwrap()).unwrap();
            assert_eq!(ids, [CgroupId(7)], "they are decided when the mirror changes");
        }
    }
}

/// The status takes some seconds, and none of these pods may decide meanwhile.
#[test]
fn no_other_pod_decides_about_the_next_container() {
    let uuid = "680cc1c9-5578-46a8-95b6-7894f674d60d";
    let group = "group";
    let none = policy("rules: []");
    for uid in [HASH, uuid, "etcd"] {
        let hash = json!({ "kubernetes.io/config.hash": uid });
        let other = json!({
            "kubernetes.io/config.hash": uid, "kubernetes.io/config.mirror": HASH.replace('c', "d"),
        });
        let forgers = [
            ("an ordinary pod that runs", with(hash.clone(), group), true, vec![("server", 'f')]),
            ("the same before it runs", with(hash, group), false, vec![]),
            ("the mirror of another", with(other, group), true, vec![("server", 'f')]),
            ("no mirror of the kubelet", with(mirror_of(uid), group), false, vec![]),
        ];
        for (case, annotations, started, ids) in forgers {
            for mirror_is_first in [true, false] {
                let mut naming = naming();
                naming.made(CgroupId(7), &path_of(uid, 'b'));
                let mirror = pod_change(MIRROR, &mirror_of(uid), true, &[("server", 'a')]);
                let forged = pod_change(FORGER, &annotations, started, &ids);
                let mut events = vec![mirror, forged];
                if !mirror_is_first {
                    events.reverse();
                }
                for event in events {
                    naming.apply(event, Monotonic::ZERO);
                    let decided = decided(&naming, &none, &path_of(uid, 'b'));
                    assert_eq!(decided, "-", "{uid}: {case}, {mirror_is_first}");
                }
                assert_eq!(
                    decided(&naming, &policy(RULE), &path_of(uid, 'b')),
                    "r 0",
                    "{uid}: {case}: the mirror is known by its hash"
                );
            }
        }
    }
}

/// As with two manifests of one uid: the kubelet's status says whose a container is.
#[test]
fn of_two_mirrors_only_the_one_with_the_container_is_named() {
    let mut naming = naming();
    for (at, letter) in (7..).zip("abc".chars()) {
        naming.made(CgroupId(at), &path_of(HASH, letter));
    }
    let other = ("472670e9-3f5b-4101-a38c-4d23ad231382", "etcd-node-1", "kube-system");
    naming.apply(pod_change(MIRROR, &mirror_of(HASH), true, &[("server", 'a')]), Monotonic::ZERO);
    assert_eq!(decided(&naming, &policy(RULE), &path_of(HASH, 'c')), "r 0");
    naming.apply(pod_change(other, &mirror_of(HASH), true, &[("helper", 'b')]), Monotonic::ZERO);
    let owners = ['a', 'b', 'c'].map(|letter| owner(&naming, &path_of(HASH, letter)));
    assert_eq!(
        owners,
        ["kube-system/api-node-1/server", "kube-system/etcd-node-1/helper", "unnamed"]
    );
    assert_eq!(decided(&naming, &policy(RULE), &path_of(HASH, 'c')), "-");
    naming.apply(Event::Deleted(PodUid::parse(other.0).unwrap()), Monotonic::ZERO);
    assert_eq!(decided(&naming, &policy(RULE), &path_of(HASH, 'c')), "r 0");
}

/// A deleted mirror is replaced by a new one. The static pod does not notice.
#[test]
fn it_keeps_its_names_while_its_mirror_is_replaced() {
    let begin = Monotonic::ZERO;
    let mut naming = naming();
    let path = path_of(HASH, 'a');
    naming.made(CgroupId(7), &path);
    naming.apply(pod_change(MIRROR, &mirror_of(HASH), true, &[("server", 'a')]), begin);
    naming.apply(Event::Deleted(PodUid::parse(UID).unwrap()), begin);
    naming.expire(begin + GRACE * 2);
    let expected = "kube-system/api-node-1/server";
    assert_eq!(owner(&naming, &path), expected, "there is no other mirror");
    naming.apply(pod_change(SECOND, &mirror_of(HASH), false, &[]), begin);
    assert_eq!(owner(&naming, &path), expected, "the new one is not acknowledged");
    naming.apply(pod_change(SECOND, &mirror_of(HASH), true, &[("server", 'a')]), begin);
    assert_eq!(owner(&naming, &path), expected);
    assert_eq!(naming.expire(begin + GRACE * 4), [CgroupId(7)], "the first is forgotten");
    assert!(naming.pod(PodUid::parse(UID).unwrap()).is_none());
    assert_eq!(owner(&naming, &path), expected);
}

/// A mirror that claims the uid of another pod changes nothing for that one.
#[test]
fn the_pod_whose_own_uid_it_is_comes_first() {
    let mut naming = naming();
    naming.made(CgroupId(7), &path('a'));
    naming.apply(pod(&[], &Value::Null), Monotonic::ZERO);
    naming.apply(pod_change(SECOND, &mirror_of(UID), true, &[("server", 'a')]), Monotonic::ZERO);
    let (named, _) = naming.pod(PodUid::parse(UID).unwrap()).unwrap();
    assert_eq!(&*named.name, "web-0");
    assert_eq!(naming.named(&path('a')).unwrap().pod.name, named.name);
}
