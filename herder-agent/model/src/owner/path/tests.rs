//! Every layout there is, a recorded tree, and a great many broken paths.

use super::*;

const UUID: &str = "2c39abf0-f543-4c05-8cfe-3839410aef01";
const UUID_: &str = "2c39abf0_f543_4c05_8cfe_3839410aef01";
const HASH: &str = "ca0757b5d25d60b3db9d57dce6d10c2d";
const ID: &str = "51c89318749f37429d5fa724d212f00472bced49ff32a7674085aba73d1992eb";
const OTHER_ID: &str = "74f235d74cbede2b5e6b7e876cdc91ca76ba40ca0cbedb043be1afc2682c6e76";

fn parse(text: &str) -> Option<PodCgroup> {
    PodCgroup::parse(&CgroupPath::parse(text.as_bytes()).unwrap())
}

/// Writes `{uid}`, `{uid_}`, `{hash}`, `{id}` and `{id2}` out.
fn fill(template: &str) -> String {
    template
        .replace("{uid}", UUID)
        .replace("{uid_}", UUID_)
        .replace("{hash}", HASH)
        .replace("{id2}", OTHER_ID)
        .replace("{id}", ID)
}

fn container(runtime: Runtime, place: Place) -> Part {
    Part::Container(ContainerCgroup { id: ContainerId::parse(ID).unwrap(), runtime, place })
}

#[test]
fn every_layout_is_read() {
    use Driver::{Cgroupfs, Systemd};
    use Place::{Below, Payload, Top};
    use QosClass::{BestEffort, Burstable, Guaranteed};
    use Runtime::{Containerd, CriO, Docker, Unnamed};
    let monitor = Part::Monitor(ContainerId::parse(ID).unwrap());
    let burstable = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid_}.slice";
    let table = [
        // systemd driver, the three classes.
        (
            "/kubepods.slice/kubepods-pod{uid_}.slice/cri-containerd-{id}.scope".to_owned(),
            (Systemd, Guaranteed, container(Containerd, Top)),
        ),
        (
            format!("{burstable}/cri-containerd-{{id}}.scope"),
            (Systemd, Burstable, container(Containerd, Top)),
        ),
        (
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{uid_}.slice/cri-containerd-{id}.scope".to_owned(),
            (Systemd, BestEffort, container(Containerd, Top)),
        ),
        // cgroupfs driver, the three classes.
        (
            "/kubepods/pod{uid}/{id}".to_owned(),
            (Cgroupfs, Guaranteed, container(Unnamed, Top)),
        ),
        (
            "/kubepods/burstable/pod{uid}/{id}".to_owned(),
            (Cgroupfs, Burstable, container(Unnamed, Top)),
        ),
        (
            "/kubepods/besteffort/pod{uid}/{id}".to_owned(),
            (Cgroupfs, BestEffort, container(Unnamed, Top)),
        ),
        // The pod itself.
        (burstable.to_owned(), (Systemd, Burstable, Part::Pod)),
        ("/kubepods/pod{uid}".to_owned(), (Cgroupfs, Guaranteed, Part::Pod)),
        // CRI-O: runc, crun, the monitor, cgroupfs.
        (format!("{burstable}/crio-{{id}}.scope"), (Systemd, Burstable, container(CriO, Top))),
        (
            format!("{burstable}/crio-{{id}}.scope/container"),
            (Systemd, Burstable, container(CriO, Payload)),
        ),
        (
            format!("{burstable}/crio-{{id}}.scope/container/app.service"),
            (Systemd, Burstable, container(CriO, Below(2))),
        ),
        (format!("{burstable}/crio-conmon-{{id}}.scope"), (Systemd, Burstable, monitor)),
        ("/kubepods/pod{uid}/crio-{id}".to_owned(), (Cgroupfs, Guaranteed, container(CriO, Top))),
        ("/kubepods/pod{uid}/crio-conmon-{id}".to_owned(), (Cgroupfs, Guaranteed, monitor)),
        // containerd with crun.
        (
            format!("{burstable}/cri-containerd-{{id}}.scope/container"),
            (Systemd, Burstable, container(Containerd, Payload)),
        ),
        // cri-dockerd.
        (format!("{burstable}/docker-{{id}}.scope"), (Systemd, Burstable, container(Docker, Top))),
        // kind, and other values of --cgroup-root.
        (
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{uid_}.slice/cri-containerd-{id}.scope".to_owned(),
            (Systemd, Burstable, container(Containerd, Top)),
        ),
        (
            "/a.slice/a-b_c.slice/a-b_c-kubepods.slice/a-b_c-kubepods-pod{uid_}.slice/crio-{id}.scope".to_owned(),
            (Systemd, Guaranteed, container(CriO, Top)),
        ),
        (
            "/kubelet/kubepods/burstable/pod{uid}/{id}".to_owned(),
            (Cgroupfs, Burstable, container(Unnamed, Top)),
        ),
        (
            "/kubepods/kubepods/pod{uid}/{id}".to_owned(),
            (Cgroupfs, Guaranteed, container(Unnamed, Top)),
        ),
        // Cgroups that a container made: systemd, docker, a whole cluster in it.
        (
            format!("{burstable}/cri-containerd-{{id}}.scope/init.scope"),
            (Systemd, Burstable, container(Containerd, Below(1))),
        ),
        (
            format!("{burstable}/cri-containerd-{{id}}.scope/docker/{{id2}}"),
            (Systemd, Burstable, container(Containerd, Below(2))),
        ),
        (
            format!("{burstable}/cri-containerd-{{id}}.scope/kubepods/pod{{hash}}/{{id2}}"),
            (Systemd, Burstable, container(Containerd, Below(3))),
        ),
        (
            "/kubepods/pod{uid}/{id}/container".to_owned(),
            (Cgroupfs, Guaranteed, container(Unnamed, Below(1))),
        ),
        // Below a pod, but no container.
        (format!("{burstable}/kata_overhead.scope"), (Systemd, Burstable, Part::Other)),
        (format!("{burstable}/cri-containerd-{{id}}"), (Systemd, Burstable, Part::Other)),
        (format!("{burstable}/cri-containerd-{{id}}0.scope"), (Systemd, Burstable, Part::Other)),
        (format!("{burstable}/{{id}}"), (Systemd, Burstable, Part::Other)),
        ("/kubepods/pod{uid}/kata_{id}".to_owned(), (Cgroupfs, Guaranteed, Part::Other)),
    ];
    for (template, (driver, qos, part)) in table {
        let path = fill(&template);
        let expected = PodCgroup { pod_uid: PodUid::parse(UUID).unwrap(), qos, driver, part };
        assert_eq!(parse(&path), Some(expected), "{path}");
    }
}

#[test]
fn static_pods_carry_the_hash_or_the_uid_of_their_manifest() {
    let digest = "5f".repeat(32);
    for uid in [HASH, UUID, &UUID.to_uppercase(), "etcd", "kube-apiserver", "a-pod", &digest] {
        for template in [
            "/kubepods.slice/kubepods-pod{static_}.slice/cri-containerd-{id}.scope",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{static_}.slice/crio-{id}.scope",
            "/kubepods/burstable/pod{static}/{id}",
        ] {
            let path = template.replace("{static_}", &uid.replace('-', "_"));
            let cgroup = parse(&fill(&path.replace("{static}", uid))).unwrap();
            assert_eq!(Some(cgroup.pod_uid), PodUid::parse_any(uid), "{path}");
            assert!(cgroup.container().is_some(), "{path}");
        }
    }
}

#[test]
fn all_else_is_the_host() {
    for template in [
        "/",
        "/init.scope",
        "/system.slice/containerd.service",
        "/system.slice/docker-{id}.scope",
        "/kubepods.slice",
        "/kubepods.slice/kubepods-burstable.slice",
        "/kubepods",
        "/kubepods/burstable",
        "/{id}",
        // The slices above do not fit the name.
        "/kubepods-pod{uid_}.slice/cri-containerd-{id}.scope",
        "/kubepods.slice/kubepods-burstable-pod{uid_}.slice/cri-containerd-{id}.scope",
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-burstable-pod{uid_}.slice/crio-{id}.scope",
        "/kubepods.slice/kubepods-burstable.slice/kubepods-pod{uid_}.slice/crio-{id}.scope",
        "/kubepods-burstable.slice/kubepods-burstable-pod{uid_}.slice/crio-{id}.scope",
        "/kubelet-kubepods.slice/kubelet-kubepods-pod{uid_}.slice/crio-{id}.scope",
        "/xkubepods.slice/xkubepods-pod{uid_}.slice/crio-{id}.scope",
        "/kubepods/pod{uid_}/{id}",
        "/kubepods/guaranteed/pod{uid}/{id}",
        "/burstable/pod{uid}/{id}",
        "/xkubepods/pod{uid}/{id}",
        // Uids that are none.
        "/kubepods.slice/kubepods-pod{uid}.slice/crio-{id}.scope",
        "/kubepods/podnon_sense/{id}",
        "/kubepods/pod/{id}",
        "/kubepods/nonsense/{id}",
        "/kubepods.slice/kubepods-pod.slice/crio-{id}.scope",
        "/kubepods/pod{hash}{hash}0/{id}",
        // A runtime and a kubelet whose drivers differ: a known mistake.
        "/system.slice/kubepods-burstable-pod{uid_}.slice:cri-containerd:{id}",
        // The owner of a cgroup can name those in it at will.
        "/system.slice/ci-runner.service/kubepods/burstable/pod{uid}/{id}",
        "/system.slice/ci-runner.service/kubepods.slice/kubepods-pod{uid_}.slice/crio-{id}.scope",
        "/system.slice/docker-{id2}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{uid_}.slice/cri-containerd-{id}.scope",
        "/docker/{id2}/kubepods/pod{uid}/{id}",
        "/machine.slice/x/kubepods/pod{uid}/{id}",
        "/lxc.payload.c1/kubepods/burstable/pod{uid}/{id}",
        "/lxc.payload.c1/kubepods.slice/kubepods-pod{uid_}.slice/crio-{id}.scope",
        "/my/root-of-it/kubepods/pod{uid}/{id}",
        "/user.slice/user-kubepods.slice/user-kubepods-pod{uid_}.slice/crio-{id}.scope",
        "/user.slice/user-1000.slice/user@1000.service/kubepods/pod{uid}/{id}",
        "/user.slice/user-1000.slice/user@1000.service/kubepods.slice/kubepods-pod{uid_}.slice/crio-{id}.scope",
    ] {
        assert_eq!(parse(&fill(template)), None, "{template}");
    }
}

/// Where the operator says that pods are, they are, and nowhere else.
#[test]
fn pods_are_where_the_kubelet_is_said_to_have_them() {
    let table = [
        ("/docker/{id2}", "/docker/{id2}/kubepods/burstable/pod{uid}/{id}"),
        ("/docker/{id2}/kubepods", "/docker/{id2}/kubepods/pod{uid}/{id}"),
        (
            "/system.slice/docker-{id2}.scope/kubelet.slice",
            "/system.slice/docker-{id2}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{uid_}.slice/crio-{id}.scope",
        ),
        (
            "/my/root-of-it",
            "/my.slice/my-root_of_it.slice/my-root_of_it-kubepods.slice/my-root_of_it-kubepods-pod{uid_}.slice/crio-{id}.scope",
        ),
        // A cluster in a pod.
        ("/kubepods/pod{hash}/{id2}", "/kubepods/pod{hash}/{id2}/kubepods/pod{uid}/{id}"),
    ];
    for (root, template) in table {
        let roots = KubeletRoots::given(&[CgroupPath::parse(fill(root).as_bytes()).unwrap()]);
        let path = CgroupPath::parse(fill(template).as_bytes()).unwrap();
        let found = PodCgroup::below(&roots, &path).unwrap();
        assert_eq!(found.pod_uid, PodUid::parse(UUID).unwrap(), "{template}");
        assert_eq!(found.container().unwrap().place, Place::Top);
        assert_eq!(found.pod_path(&path), path.parent());
        let elsewhere = fill("/kubepods/besteffort/pod{uid}/{id}");
        let elsewhere = CgroupPath::parse(elsewhere.as_bytes()).unwrap();
        assert_eq!(PodCgroup::below(&roots, &elsewhere), None, "{root}");
    }
}

#[test]
fn the_recorded_tree_is_read() {
    let tree = include_str!("../../../../tests/fixtures/node-1-cgroup-tree.txt");
    let paths: Vec<String> =
        tree.lines().map(|line| format!("/{}", line.split(' ').next().unwrap())).collect();
    let of_pods: Vec<PodCgroup> = paths.iter().filter_map(|path| parse(path)).collect();
    let pods = of_pods.iter().filter(|cgroup| cgroup.part == Part::Pod);
    let containers = of_pods.iter().filter(|cgroup| cgroup.container().is_some());
    // Three cgroups above the pods, six pods, and 12 containers and sandboxes.
    assert_eq!((paths.len() - of_pods.len(), pods.count()), (3, 6));
    assert_eq!(containers.count(), 12);
}

/// Writes a path the way the kubelet and the runtimes do, from what was read.
fn format_path(prefix: &str, cgroup: &PodCgroup) -> String {
    let qos = match cgroup.qos {
        QosClass::Guaranteed => None,
        QosClass::Burstable => Some("burstable"),
        QosClass::BestEffort => Some("besteffort"),
    };
    let uid = cgroup.pod_uid.to_string();
    let mut path = match cgroup.driver {
        Driver::Cgroupfs => {
            let qos = qos.map(|qos| format!("/{qos}")).unwrap_or_default();
            format!("{prefix}/kubepods{qos}/pod{uid}")
        }
        Driver::Systemd => {
            let qos_name = qos.map(|qos| format!("-{qos}")).unwrap_or_default();
            let qos_slice = qos.map(|qos| format!("/kubepods-{qos}.slice"));
            format!(
                "{prefix}/kubepods.slice{}/kubepods{qos_name}-pod{}.slice",
                qos_slice.unwrap_or_default(),
                uid.replace('-', "_")
            )
        }
    };
    let scope = match cgroup.driver {
        Driver::Systemd => ".scope",
        Driver::Cgroupfs => "",
    };
    match &cgroup.part {
        Part::Pod => {}
        Part::Other => path += "/other",
        Part::Monitor(id) => path += &format!("/crio-conmon-{id}{scope}"),
        Part::Container(container) => {
            let name = match container.runtime {
                Runtime::Containerd => "cri-containerd-",
                Runtime::CriO => "crio-",
                Runtime::Docker => "docker-",
                Runtime::Unnamed => "",
            };
            path += &format!("/{name}{}{scope}", container.id);
            match container.place {
                Place::Top => {}
                Place::Payload => path += "/container",
                Place::Below(levels) => path += &"/x".repeat(levels),
            }
        }
    }
    path
}

/// Xorshift: the same mutations in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 1).unwrap() % sides
    }
}

#[test]
fn mutated_paths_are_read_strictly_or_not_at_all() {
    let seeds = [
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid_}.slice/cri-containerd-{id}.scope/container",
        "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{hash}.slice/crio-conmon-{id}.scope",
        "/kubepods/besteffort/pod{uid}/{id}/a/b",
        "/kubelet/kubepods/pod{hash}/crio-{id}",
        "/kubepods.slice/kubepods-podkube_apiserver.slice/crio-{id}.scope",
    ]
    .map(fill);
    let snippets = [
        "/",
        "-",
        "_",
        "pod",
        ".slice",
        ".scope",
        "kubepods",
        "/kubepods",
        "burstable",
        "crio-",
        "container",
        "0",
        "f",
        "é",
        "\n",
        "user.slice",
    ];
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut read = 0;
    for _ in 0..50_000 {
        let mut path: Vec<char> = seeds[dice.roll(seeds.len())].chars().collect();
        for _ in 0..dice.roll(3) {
            let (from, to) = (dice.roll(path.len()), dice.roll(path.len()));
            match dice.roll(4) {
                0 => drop(path.remove(from)),
                1 => path.swap(from, to),
                2 => drop(path.drain(from.min(to)..from.max(to))),
                _ => {
                    let snippet = snippets[dice.roll(snippets.len())];
                    path.splice(from..from, snippet.chars());
                }
            }
        }
        let text: String = path.iter().collect();
        let Ok(path) = CgroupPath::parse(text.as_bytes()) else {
            continue;
        };
        let Some(cgroup) = PodCgroup::parse(&path) else {
            continue;
        };
        read += 1;
        // What was read must be there in the text, letter by letter.
        let uid = cgroup.pod_uid.to_string();
        assert!(text.contains(&uid) || text.contains(&uid.replace('-', "_")), "{text}");
        if let Some(container) = cgroup.container() {
            assert!(text.contains(&container.id.to_string()), "{text}");
        }
        // And written out again it must read the same.
        assert_eq!(parse(&format_path("", &cgroup)), Some(cgroup), "{text}");
        assert_eq!(parse(&format_path("/any.slice/thing.scope", &cgroup)), None, "{text}");
    }
    assert!(read > 10_000, "the mutations leave too little: {read}");
}
