use super::*;
use crate::cgroup::CgroupId;

const MIB: u64 = 1 << 20;

fn path(text: &str) -> CgroupPath {
    CgroupPath::parse(text.as_bytes()).unwrap()
}

#[test]
fn places_are_as_seen_from_the_container() {
    let container = path("/pods/pod/c1.scope");
    let table = [
        (Domain::Unknown, None, Place::Unknown),
        (Domain::Node, None, Place::Node),
        (Domain::Cgroup(CgroupId(1)), Some("/"), Place::Node),
        (Domain::Cgroup(CgroupId(1)), Some("/pods"), Place::Above),
        (Domain::Cgroup(CgroupId(1)), Some("/pods/pod"), Place::Parent),
        (Domain::Cgroup(CgroupId(1)), Some("/pods/pod/c1.scope"), Place::Container),
        (Domain::Cgroup(CgroupId(1)), Some("/pods/pod/c1.scope/container"), Place::Container),
        (Domain::Cgroup(CgroupId(1)), Some("/pods/pod/c1.scope/sub"), Place::Inside),
        (Domain::Cgroup(CgroupId(1)), Some("/pods/pod/c1.scope/sub/container"), Place::Inside),
        (Domain::Cgroup(CgroupId(1)), Some("/pods/pod/c2"), Place::Unknown),
        (Domain::Cgroup(CgroupId(1)), None, Place::Unknown),
    ];
    for (domain, domain_path, place) in table {
        let domain_path = domain_path.map(path);
        let found = Place::new(domain, domain_path.as_ref(), Some(&container));
        assert_eq!(found, place, "{domain:?} {domain_path:?}");
    }
    let unseen = Place::new(Domain::Cgroup(CgroupId(1)), Some(&container), None);
    assert_eq!(unseen, Place::Unknown, "the victim's cgroup was never seen");
}

#[test]
fn only_the_place_decides_but_for_the_parent() {
    let table = [
        (Place::Unknown, Limit::Unknown),
        (Place::Node, Limit::Node),
        (Place::Container, Limit::Container),
        (Place::Inside, Limit::Container),
        (Place::Above, Limit::Pod),
    ];
    for (place, limit) in table {
        for pods_own in [None, Some(false), Some(true)] {
            assert_eq!(Limits { place, ..one() }.whose(pods_own), limit, "{place:?}");
        }
    }
}

/// A pod of one container, as the kubelet lays it out: the same limit twice, and a pause
/// container without one. The numbers are of a real node.
fn one() -> Limits {
    Limits {
        place: Place::Parent,
        cgroup: Some(path("/pods/pod")),
        bytes: Some(256 * MIB),
        container: Some(Memory {
            limit: Some(256 * MIB),
            current: Some(170 * MIB),
            peak: Some(255 * MIB),
        }),
        killed: Some(85 * MIB),
        below: Some(Parts { count: 1, sum: 256 * MIB }),
    }
}

/// A container of these MiB that has used some, in a pod whose containers have some
/// together.
fn of(limit: Option<u64>, used: u64, parts: Option<(u64, u64)>, pod: u64) -> Limits {
    let peak = Some(used * MIB);
    let limit = limit.map(|limit| limit * MIB);
    Limits {
        bytes: Some(pod * MIB),
        container: Some(Memory { limit, current: Some(0), peak }),
        killed: Some(used * MIB),
        below: parts.map(|(count, sum)| Parts { count, sum: sum * MIB }),
        ..one()
    }
}

#[test]
fn the_limit_of_a_pod_may_be_only_a_sum() {
    let (unknown, sum, own) = (None, Some(false), Some(true));
    let (container, pod) = (Limit::Container, Limit::Pod);
    let table = [
        ("one container, by its spec", one(), sum, container),
        ("one container, unnamed", one(), unknown, container),
        ("one container of a pod with a limit of its own", one(), own, pod),
        // Both are at their limits.
        ("two containers", of(Some(60), 57, Some((2, 120)), 120), sum, container),
        ("two containers, unnamed", of(Some(60), 57, Some((2, 120)), 120), unknown, container),
        // A tmpfs of the incarnation before counts to the pod alone.
        ("something else took it", of(Some(256), 150, Some((1, 256)), 256), sum, pod),
        ("the same, unnamed", of(Some(256), 150, Some((1, 256)), 256), unknown, pod),
        // The pod's limit is that of a large init container that has ended.
        ("an init container had more", of(Some(100), 99, Some((1, 100)), 500), sum, container),
        // Pod-level resources: a container without a limit gets the pod's (Kubernetes 1.34).
        ("pod-level, each has the whole", of(Some(120), 118, Some((2, 240)), 120), unknown, pod),
        ("pod-level, one has no limit", of(None, 118, Some((1, 60)), 120), unknown, pod),
        ("pod-level, no one has a limit", of(None, 118, Some((0, 0)), 120), unknown, pod),
        ("pod-level, containers have less", of(Some(60), 59, Some((1, 60)), 120), unknown, pod),
        ("too many to read, unnamed", of(Some(60), 59, None, 120), unknown, pod),
        ("too many to read, by the spec", of(Some(60), 59, None, 120), sum, container),
        ("someone else's limit on the pod", of(None, 118, Some((0, 0)), 120), sum, pod),
    ];
    for (case, limits, pods_own, expected) in table {
        assert_eq!(limits.whose(pods_own), expected, "{case}: {limits:?}");
    }
}

/// Each container has its limit rounded down to pages, and the pod once.
#[test]
fn limits_that_are_no_whole_pages_still_add_up() {
    for page in [4096, 16384, 65536] {
        let rounded = |bytes: u64| bytes / page * page;
        let container = 100 * MIB + 4095;
        let limits = Limits {
            bytes: Some(rounded(3 * container)),
            below: Some(Parts { count: 3, sum: 3 * rounded(container) }),
            ..of(Some(100), 99, None, 0)
        };
        assert_eq!(limits.whose(None), Limit::Container, "pages of {page}");
    }
}

#[test]
fn what_was_used_is_known_from_what_can_be_read() {
    let memory = |current: Option<u64>, peak: Option<u64>, killed: Option<u64>| Limits {
        container: Some(Memory { limit: Some(100 * MIB), current, peak }),
        killed,
        ..of(None, 0, Some((1, 100)), 100)
    };
    let mib = |mebibytes: u64| Some(mebibytes * MIB);
    let table = [
        ("freed already", memory(mib(20), None, mib(75)), Limit::Container),
        ("not yet freed", memory(mib(95), None, mib(75)), Limit::Container),
        ("never near its limit", memory(mib(20), None, mib(30)), Limit::Pod),
        ("never, and not freed", memory(mib(60), mib(60), mib(50)), Limit::Pod),
        ("only counts are known", memory(mib(20), mib(99), None), Limit::Container),
        ("only counts, never near", memory(mib(20), mib(60), None), Limit::Pod),
        ("only counts, before 5.19", memory(mib(20), None, None), Limit::Container),
    ];
    for (case, limits, expected) in table {
        assert_eq!(limits.whose(None), expected, "{case}");
        assert_eq!(limits.whose(Some(false)), expected, "{case}");
    }
}

#[test]
fn a_container_that_is_gone_is_recognised_by_the_spec_of_its_pod() {
    let gone = Limits { container: None, below: Some(Parts::default()), ..one() };
    assert_eq!(gone.whose(Some(false)), Limit::Container);
    assert_eq!(gone.whose(Some(true)), Limit::Pod);
    assert_eq!(gone.whose(None), Limit::Pod, "as the kernel says");
}

#[test]
fn no_number_of_a_file_is_too_large() {
    let most = Memory { limit: Some(u64::MAX), current: Some(u64::MAX), peak: None };
    let limits = Limits {
        bytes: Some(u64::MAX),
        container: Some(most),
        killed: Some(u64::MAX),
        below: Some(Parts { count: u64::MAX, sum: u64::MAX }),
        ..one()
    };
    assert_eq!(limits.whose(None), Limit::Container);
}

#[test]
fn what_a_container_had_in_use_is_its_limit_or_bounded_by_what_was_read() {
    let at = |place, container| Limits { place, container, ..one() };
    let read = |current: Option<u64>, peak: Option<u64>| {
        let bytes = |mebibytes: Option<u64>| mebibytes.map(|mebibytes| mebibytes * MIB);
        Some(Memory { limit: Some(256 * MIB), current: bytes(current), peak: bytes(peak) })
    };
    let table = [
        // Whatever is left of it: the victim may have released its memory.
        ("its own limit", at(Place::Container, read(Some(9), Some(300))), Some(256)),
        ("its own limit, and it is gone", at(Place::Container, None), Some(256)),
        ("the pod's", at(Place::Parent, read(Some(100), Some(255))), Some(185)),
        ("the node's, not released yet", at(Place::Node, read(Some(200), Some(210))), Some(210)),
        ("no peak (before Linux 5.19)", at(Place::Inside, read(Some(100), None)), Some(185)),
        ("only the peak", at(Place::Unknown, read(None, Some(210))), Some(210)),
        ("gone", at(Place::Node, None), None),
        ("nothing could be read", at(Place::Node, read(None, None)), None),
    ];
    for (case, limits, expected) in table {
        assert_eq!(limits.container_used(), expected.map(|bytes| bytes * MIB), "{case}");
    }
    let unread = Limits { bytes: None, ..at(Place::Container, read(Some(100), None)) };
    assert_eq!(unread.container_used(), Some(185 * MIB), "the limit is gone with its cgroup");
}
