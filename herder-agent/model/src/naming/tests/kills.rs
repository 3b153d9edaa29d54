//! Whose a kill is, where its cgroup is no container or the container has no name yet.

use super::*;

/// A pod with these containers, by kind: `i` init, `s` sidecar, `r` regular, `e` ephemeral;
/// with the ID that the status has, and whether an init container has ended well.
fn of(containers: &[(&str, char, Option<char>, bool)]) -> Event {
    let list = |kinds: &str, sidecars: bool| -> (Vec<Value>, Vec<Value>) {
        let mine = containers.iter().filter(|(_, kind, ..)| kinds.contains(*kind));
        mine.map(|(name, kind, id, completed)| {
            let spec = json!({
                "name": name, "restartPolicy": (sidecars && *kind == 's').then_some("Always"),
            });
            let ended = completed.then(|| json!({ "terminated": { "exitCode": 0 } }));
            let id = id.map(|letter| format!("containerd://{}", letter.to_string().repeat(64)));
            (spec, json!({ "name": name, "containerID": id, "state": ended }))
        })
        .unzip()
    };
    let ((init, inits), (regular, regulars)) = (list("is", true), list("r", false));
    let (ephemeral, ephemerals) = list("e", false);
    let object = json!({
        "metadata": {
            "name": "web-0", "namespace": "shop", "uid": UID, "labels": { "app": "web" },
        },
        "spec": {
            "initContainers": init, "containers": regular, "ephemeralContainers": ephemeral,
        },
        "status": {
            "initContainerStatuses": inits, "containerStatuses": regulars,
            "ephemeralContainerStatuses": ephemerals,
        },
    });
    let object: PodObject = serde_json::from_value(object).unwrap();
    Event::Applied(Box::new(object.trim().unwrap()))
}

fn kill(naming: &Naming, path: &CgroupPath) -> String {
    match naming.owner_of_kill(path) {
        Some(Owner::Container(names)) => {
            format!("{}/{}/{}", names.namespace, names.pod, names.container)
        }
        Some(Owner::Unnamed { .. }) => "unnamed".into(),
        Some(Owner::Host { .. }) | None => "host".into(),
    }
}

/// With `?` if more could be known.
fn at_last(naming: &Naming, path: &CgroupPath) -> String {
    naming.owner_at_last(path).map_or("host".into(), |(names, is_known)| {
        let more = if is_known { "" } else { "?" };
        format!("{}/{}/{}{more}", names.namespace, names.pod, names.container)
    })
}

/// Cgroups as they are made (`+`) and removed (`-`), each with a greater id.
fn with_cgroups(pod: Event, cgroups: &str) -> Naming {
    let mut naming = naming();
    let mut ids = std::collections::HashMap::new();
    for (at, word) in (1..).zip(cgroups.split_whitespace()) {
        let letter = word.chars().nth(1).unwrap();
        if word.starts_with('+') {
            ids.insert(letter, CgroupId(at));
            naming.made(CgroupId(at), &path(letter));
        } else {
            naming.removed(ids[&letter], &path(letter));
        }
    }
    naming.apply(pod, Monotonic::ZERO);
    naming
}

/// gVisor, Kata, and what the runtime itself has in a pod.
#[test]
fn what_is_no_container_is_the_pods() {
    let slice = format!(
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice",
        UID.replace('-', "_")
    );
    let directory = format!("/kubepods/burstable/pod{UID}");
    let paths = [
        slice.clone(),
        format!("{slice}/kata_overhead.scope"),
        format!("{slice}/crio-conmon-{}.scope", id('a')),
        directory.clone(),
        format!("{directory}/kata_{}", id('f')),
        format!("{directory}/crio-conmon-{}", id('a')),
        format!("{directory}/of/another"),
    ];
    for path in paths {
        let path = cgroup(&path);
        let mut naming = naming();
        naming.made(CgroupId(1), &path);
        assert_eq!(kill(&naming, &path), "unnamed", "{path}: the API server may name it");
        assert_eq!(at_last(&naming, &path), "host", "{path}");
        naming.apply(of(&[("worker", 'r', Some('a'), false)]), Monotonic::ZERO);
        assert_eq!(kill(&naming, &path), "shop/web-0/", "{path}");
        assert_eq!(at_last(&naming, &path), "shop/web-0/", "{path}");
        assert_eq!(owner(&naming, &path), "host", "{path}: for a rule it is a cgroup like others");
        assert_eq!(decided(&naming, &policy(RULE), &path), "-", "{path}");
    }
    assert_eq!(kill(&naming(), &cgroup("/system.slice/x.service")), "host");
}

#[test]
fn all_of_a_pod_in_its_sandbox_is_the_pods() {
    // With cgroups for its containers, as gVisor makes them empty, and without.
    let worker = || of(&[("worker", 'r', Some('a'), false)]);
    let naming = with_cgroups(worker(), "+f +a");
    assert_eq!(kill(&naming, &path('f')), "shop/web-0/");
    let naming = with_cgroups(worker(), "+f");
    assert_eq!(kill(&naming, &path('f')), "unnamed", "it may be the worker's next start");
    assert_eq!(at_last(&naming, &path('f')), "shop/web-0/");
    assert_eq!(
        decided(&naming, &policy(&RULE.replace("single-process", "group")), &path('f')),
        "-"
    );
}

#[test]
fn a_container_is_named_when_it_can_be_no_other() {
    let init = |id, completed| ("setup", 'i', id, completed);
    let mesh = |id| ("mesh", 's', id, false);
    let worker = |id| ("worker", 'r', id, false);
    let logger = |id| ("logger", 'r', id, false);
    let debug = |id| ("debug", 'e', id, false);
    let (x, y) = (Some('a'), Some('b'));
    // What the pod has, its cgroups (0 and 1 are sandboxes), whose cgroup it is about; the
    // name at once, if it is not waited for, and the name at last.
    let table: &[(&str, &[_], &str, char, &str, &str)] = &[
        ("the only one", &[worker(None)], "+0 +a", 'a', "worker", ""),
        ("it is gone", &[worker(None)], "+0 +a -a", 'a', "worker", ""),
        ("its pod is gone", &[worker(None)], "+0 +a -a -0", 'a', "worker", ""),
        ("no sandbox is known", &[worker(None)], "+a", 'a', "?", "worker"),
        ("the same, gone", &[worker(None)], "+a -a", 'a', "?", "worker"),
        ("the sandbox of it", &[worker(None)], "+0 +a", '0', "?", ""),
        ("it started again", &[worker(x)], "+0 +a -a +b", 'b', "worker", ""),
        ("again without a sandbox", &[worker(x)], "+a -a +b", 'b', "?", "worker"),
        ("all of the pod", &[worker(x)], "+b", 'b', "?", ""),
        ("all of a greater pod", &[worker(x), logger(None)], "+b", 'b', "?", ""),
        ("its earlier start was not seen", &[worker(x)], "+0 +b", 'b', "worker", ""),
        ("the status knows it", &[worker(x), logger(None)], "+0 +a", 'a', "worker", ""),
        ("the other runs", &[worker(x), logger(None)], "+0 +a +b", 'b', "logger", ""),
        ("the other ran then", &[worker(x), logger(None)], "+0 +a +b -a", 'b', "logger", ""),
        ("the other may be again", &[worker(x), logger(None)], "+0 +a -a +b", 'b', "?", "?"),
        ("two without", &[worker(None), logger(None)], "+0 +a", 'a', "?", "?"),
        ("either, alone", &[worker(None), logger(None)], "+a", 'a', "?", "?"),
        ("both run", &[worker(None), logger(None)], "+0 +a +b", 'b', "?", "?"),
        ("one too many", &[worker(x), logger(y)], "+0 +a +b +c", 'c', "?", "?"),
        ("one of both again", &[worker(x), logger(y)], "+0 +a +b -b +c", 'c', "logger", ""),
        ("either of both again", &[worker(x), logger(y)], "+0 +a +b -b -a +c", 'c', "?", "?"),
        ("the init has not begun", &[init(None, false), worker(None)], "+0 +a", 'a', "?", "?"),
        ("the init may be again", &[init(x, false), worker(None)], "+0 +a -a +b", 'b', "?", "?"),
        ("the init is done", &[init(x, true), worker(None)], "+0 +a -a +b", 'b', "worker", ""),
        ("it was done before", &[init(x, true), worker(None)], "+0 +b", 'b', "?", "worker"),
        (
            "in another sandbox",
            &[init(x, true), worker(y)],
            "+0 +a -a +b -b -0 +1 +c",
            'c',
            "?",
            "worker",
        ),
        ("the sidecar runs", &[mesh(x), worker(None)], "+0 +a +b", 'b', "worker", ""),
        ("the sidecar may be again", &[mesh(x), worker(None)], "+0 +a -a +b", 'b', "?", "?"),
        ("a debugger is to come", &[worker(x), debug(None)], "+0 +a +b", 'b', "debug", ""),
        ("a debugger was there", &[worker(y), debug(x)], "+0 +b +a -a -b +c", 'c', "worker", ""),
        ("its last start lingers", &[worker(None)], "+0 +a +b", 'b', "?", "worker"),
        ("no container at all", &[], "+0 +a", 'a', "?", "?"),
    ];
    for (case, containers, cgroups, letter, at_once, late) in table {
        let naming = with_cgroups(of(containers), cgroups);
        let path = path(*letter);
        let expected = match *at_once {
            "?" => "unnamed".to_owned(),
            name => format!("shop/web-0/{name}"),
        };
        assert_eq!(kill(&naming, &path), expected, "{case}, at once");
        if *at_once == "?" {
            assert_eq!(at_last(&naming, &path), format!("shop/web-0/{late}"), "{case}, at last");
        } else {
            assert_eq!(owner(&naming, &path), expected, "{case}");
        }
    }
}

/// A rule for one container holds before the status names it.
#[test]
fn a_rule_that_asks_for_a_name_takes_the_only_one() {
    let rule = |name: &str| {
        policy(&format!("rules:\n- {{name: r, pods: {{containers: [{name}]}}, oomGroup: group}}"))
    };
    let naming = with_cgroups(of(&[("worker", 'r', None, false)]), "+0 +a");
    assert_eq!(decided(&naming, &rule("worker"), &path('a')), "r 1");
    assert_eq!(decided(&naming, &rule("logger"), &path('a')), "-");
    assert_eq!(decided(&naming, &rule("worker"), &path('0')), "-", "the sandbox");
}

#[test]
fn the_runtime_names_the_owner_of_a_pod_without_an_api_server() {
    let mut naming = Naming::new(false);
    let above = cgroup(&format!("/kubepods/burstable/pod{UID}"));
    naming.made(CgroupId(1), &above);
    naming.made(CgroupId(2), &path('f'));
    naming.made(CgroupId(3), &path('a'));
    assert_eq!([&above, &path('f'), &path('a')].map(|it| kill(&naming, it)), ["host"; 3]);
    naming.learn(learnt('a', "worker", "web"), Monotonic::ZERO);
    let kills = [&above, &path('f'), &path('a')].map(|it| kill(&naming, it));
    assert_eq!(kills, ["shop/web-0/", "shop/web-0/", "shop/web-0/worker"]);
}

/// The order of the last cgroups of pods that are gone is kept for the kills that wait,
/// of no more than some of them.
#[test]
fn pods_without_cgroups_are_forgotten() {
    let mut naming = naming();
    for number in 0..1000u64 {
        let of_pod = format!("/kubepods/pod00000000-0000-0000-0000-{number:012x}");
        let path = cgroup(&format!("{of_pod}/{}", id('a')));
        let (own, container) = (CgroupId(number * 2), CgroupId(number * 2 + 1));
        naming.made(own, &cgroup(&of_pod));
        naming.made(container, &path);
        naming.removed(container, &path);
        naming.removed(own, &cgroup(&of_pod));
        naming.removed(own, &cgroup(&of_pod));
    }
    assert_eq!((naming.cgroups.len(), naming.ended.len()), (MOST_ENDED, MOST_ENDED));
    for number in 2000..3000u64 {
        naming.made(CgroupId(number), &path('a'));
        naming.removed(CgroupId(number), &path('a'));
    }
    assert!(naming.cgroups.len() <= MOST_ENDED && naming.ended.len() <= MOST_ENDED);
}
