use super::*;

const UID: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
const UID_: &str = "0a1b2c3d_4e5f_6071_8293_a4b5c6d7e8f9";
const HASH: &str = "0123456789abcdef0123456789abcdef";
const ID: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The path with the names filled in, and what it is in short.
fn told(path: &str) -> String {
    let path =
        path.replace("UID_", UID_).replace("UID", UID).replace("HASH", HASH).replace("ID", ID);
    match PodCgroup::of(&CgroupPath::parse(path.as_bytes()).unwrap()) {
        None => "host".into(),
        Some(pod) => {
            let uid = pod.uid.replace(UID, "UID").replace(HASH, "HASH");
            let container = pod.container.map_or("no container".into(), |container| {
                assert_eq!(container.id, ID);
                let below = path.strip_prefix(container.path.as_str()).unwrap();
                format!("{:?}{below}", container.runtime)
            });
            format!("{uid} {:?} {container}", pod.qos)
        }
    }
}

#[test]
fn every_known_layout() {
    let table = [
        // systemd driver
        (
            "/kubepods.slice/kubepods-podUID_.slice/cri-containerd-ID.scope",
            "UID Guaranteed Containerd",
        ),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice/cri-containerd-ID.scope",
            "UID Burstable Containerd",
        ),
        (
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podUID_.slice/crio-ID.scope",
            "UID BestEffort Crio",
        ),
        (
            "/kubepods.slice/kubepods-podUID_.slice/crio-ID.scope/container",
            "UID Guaranteed Crio/container",
        ),
        ("/kubepods.slice/kubepods-podUID_.slice/docker-ID.scope", "UID Guaranteed Docker"),
        (
            "/kubepods.slice/kubepods-podUID_.slice/crio-conmon-ID.scope",
            "UID Guaranteed no container",
        ),
        ("/kubepods.slice/kubepods-podUID_.slice", "UID Guaranteed no container"),
        // a static pod
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podHASH.slice/cri-containerd-ID.scope",
            "HASH Burstable Containerd",
        ),
        // kind, and a --cgroup-root
        (
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-podUID_.slice/cri-containerd-ID.scope",
            "UID Burstable Containerd",
        ),
        (
            "/a.slice/a-b.slice/a-b-kubepods.slice/a-b-kubepods-podUID_.slice/cri-containerd-ID.scope",
            "UID Guaranteed Containerd",
        ),
        // cgroupfs driver
        ("/kubepods/podUID/ID", "UID Guaranteed Unknown"),
        ("/kubepods/burstable/podUID/ID", "UID Burstable Unknown"),
        ("/kubepods/besteffort/podUID/ID", "UID BestEffort Unknown"),
        ("/kubepods/burstable/podUID/crio-ID", "UID Burstable Crio"),
        ("/kubepods/burstable/podUID/crio-conmon-ID", "UID Burstable no container"),
        ("/kubepods/burstable/podHASH/ID", "HASH Burstable Unknown"),
        ("/custom/root/kubepods/podUID/ID", "UID Guaranteed Unknown"),
        // deeper, inside of the container
        (
            "/kubepods/podUID/ID/system.slice/x.service",
            "UID Guaranteed Unknown/system.slice/x.service",
        ),
        (
            "/kubepods.slice/kubepods-podUID_.slice/cri-containerd-ID.scope/init.scope",
            "UID Guaranteed Containerd/init.scope",
        ),
        // a node inside of a pod: the inner pod counts
        ("/kubepods/podHASH/ID/kubepods/podUID/ID", "UID Guaranteed Unknown"),
    ];
    for (path, expected) in table {
        assert_eq!(told(path), expected, "{path}");
    }
}

#[test]
fn what_is_not_exactly_so_is_the_hosts() {
    let table = [
        "/",
        "/system.slice/docker-ID.scope",
        "/kubepods.slice",
        "/kubepods.slice/kubepods-burstable.slice",
        "/kubepods/burstable",
        // a slice below the wrong parent
        "/kubepods.slice/kubepods-burstable-podUID_.slice/cri-containerd-ID.scope",
        "/kubepods-burstable.slice/kubepods-burstable-podUID_.slice/cri-containerd-ID.scope",
        "/user.slice/kubepods-podUID_.slice/cri-containerd-ID.scope",
        "/notkubepods.slice/notkubepods-podUID_.slice/cri-containerd-ID.scope",
        // the wrong separator, a short UID, capitals
        "/kubepods.slice/kubepods-podUID.slice/cri-containerd-ID.scope",
        "/kubepods/pod0a1b2c3d/ID",
        "/kubepods/podUID_/ID",
        "/kubepods/pod0123456789ABCDEF0123456789ABCDEF/ID",
        "/podUID/ID",
        "/other/burstable/podUID/ID",
    ];
    for path in table {
        assert_eq!(told(path), "host", "{path}");
    }
    for path in ["/kubepods/podUID/abc", "/kubepods/podUID/IDID", "/kubepods/podUID/ID.scope"] {
        assert_eq!(told(path), "UID Guaranteed no container", "{path}");
    }
}

/// The cgroups of a real node: kubelet 1.36, containerd 2.1, systemd driver.
#[test]
fn a_real_nodes_tree() {
    let tree = include_str!("../../../tests/fixtures/node-1-cgroup-tree.txt");
    let paths = tree
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.contains("kubepods")));
    let (mut pods, mut containers) = (0, 0);
    for path in paths {
        let path = format!("/{}", path.trim_start_matches("/sys/fs/cgroup").trim_matches('/'));
        let found = PodCgroup::of(&CgroupPath::parse(path.as_bytes()).unwrap());
        assert_eq!(found.is_some(), path.contains("-pod"), "{path}");
        pods += usize::from(found.as_ref().is_some_and(|pod| pod.container.is_none()));
        containers += usize::from(found.is_some_and(|pod| pod.container.is_some()));
    }
    assert!(pods >= 5 && containers > pods, "{pods} pods, {containers} containers");
}

/// Whatever the bytes, an answer and no panic; and a container's path is one of
/// the given path's ancestors or itself.
#[test]
fn changed_paths_never_panic() {
    let seed = "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-podUID_.slice/cri-containerd-ID.scope/container";
    let seed = seed.replace("UID_", UID_).replace("ID", ID).into_bytes();
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % u64::try_from(below).unwrap()).unwrap()
    };
    for _ in 0..20_000 {
        let mut bytes = seed.clone();
        for _ in 0..=next(4) {
            let at = next(bytes.len().max(1));
            match next(4) {
                0 if at < bytes.len() => bytes[at] = b"/-_.podxAF0\xff"[next(12)],
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, b"/-_.0a"[next(6)]),
            }
        }
        let Ok(path) = CgroupPath::parse(&bytes) else { continue };
        if let Some(container) = PodCgroup::of(&path).and_then(|pod| pod.container) {
            assert!(path.is_within(&container.path));
        }
    }
}
