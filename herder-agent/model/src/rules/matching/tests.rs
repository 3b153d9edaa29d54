use super::*;
use crate::owner::id::PodUid;

fn policy(text: &str) -> Policy {
    Policy::new(Config::parse(text, "test").unwrap())
}

#[test]
fn only_rules_that_want_something_have_names() {
    let rules = "rules:\n- {name: a, cgroups: ['/a'], oomGroup: group}\n\
                 - {name: b, cgroups: ['/b'], oomGroup: leave}\n";
    let names = |more: &str| {
        let policy = Policy::new(Config::parse(&format!("{rules}{more}"), "x").unwrap());
        policy.names().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names("podAnnotations: ignore"), ["a"]);
    assert_eq!(names("podAnnotations: allow"), ["a", "annotation"]);
}

fn pod(namespace: &str, labels: &[(&str, &str)], annotation: Option<&str>) -> Pod {
    let mut labels: Vec<(Box<str>, Box<str>)> =
        labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    labels.sort_unstable();
    let uid = PodUid::parse("2c39abf0-f543-4c05-8cfe-3839410aef01").unwrap();
    Pod {
        labels: Some(labels.into()),
        oom_group: annotation.map(Into::into),
        ..Pod::named(uid, namespace, "pod")
    }
}

/// What is decided, in short.
fn decided(policy: &Policy, cgroup: &str, pod: Option<PodSubject<'_>>) -> String {
    let cgroup = CgroupPath::parse(cgroup.as_bytes()).unwrap();
    let pod = pod.map_or(SubjectPod::None, SubjectPod::Known);
    match policy.decide(&Subject { cgroup: &cgroup, pod }) {
        Verdict::Matched(target) => format!("{} {}", target.rule, u8::from(target.value)),
        Verdict::Leave { rule } => format!("{rule} leave"),
        Verdict::Unmatched => "unmatched".into(),
        Verdict::BadAnnotation(error) => format!("bad: {error}"),
    }
}

#[test]
fn globs_match_whole_components() {
    let policy = policy(
        "rules:\n- {name: d, cgroups: ['/system.slice/docker-*.scope', '/*/x'], oomGroup: single-process}\n- {name: all, cgroups: ['/**'], oomGroup: leave}\n",
    );
    let table = [
        ("/system.slice/docker-1.scope", "d 0"),
        ("/system.slice/docker-1.scope/container", "d 0"),
        ("/system.slice/docker-1.scope/container/deeper", "all leave"),
        ("/system.slice/docker-1.scope/other", "all leave"),
        ("/system.slice/other/docker-1.scope", "all leave"),
        ("/system.slice/docker-1.scopes", "all leave"),
        ("/a/x", "d 0"),
        ("/a/b/x", "all leave"),
        ("/", "unmatched"),
        ("/container", "all leave"),
    ];
    for (path, expected) in table {
        assert_eq!(decided(&policy, path, None), expected, "{path}");
    }
}

/// A workload that may make cgroups of its own gets nothing by their names.
#[test]
fn a_glob_crosses_no_slash_but_crun_s() {
    let table = [
        ("/demo/match-*", &["/demo/match-b", "/demo/match-b.scope/container"][..]),
        ("/demo/match-?", &["/demo/match-b"]),
        ("/demo/match-[ab]", &["/demo/match-b"]),
        ("/demo/match-[!a]", &["/demo/match-b"]),
        ("/demo?match-b", &[]),
        ("/demo[/]match-b", &[]),
        ("/demo[!a]match-b", &[]),
        ("/*", &["/a", "/x.scope/container"]),
        ("/*/*", &["/demo/match-b", "/demo/match-b.scope/container", "/x.scope/container"]),
        ("/demo/*.scope", &["/demo/match-b.scope/container"]),
        ("/demo/*/container", &["/demo/match-b/container", "/demo/match-b.scope/container"]),
        ("/**/match-b", &["/demo/match-b"]),
        (
            "/demo/**",
            &[
                "/demo/match-b",
                "/demo/match-b/container",
                "/demo/match-b/container/container",
                "/demo/match-b.scope/container",
                "/demo/match-b.scope/container/container",
            ],
        ),
    ];
    let paths = [
        "/a",
        "/demo/match-b",
        "/demo/match-b/container",
        "/demo/match-b/container/container",
        "/demo/match-b.scope/container",
        "/demo/match-b.scope/container/container",
        "/x.scope/container",
    ];
    for (glob, expected) in table {
        let policy = policy(&format!(
            "rules:\n- {{name: r, cgroups: ['{glob}'], oomGroup: single-process}}\n"
        ));
        let matched: Vec<_> =
            paths.into_iter().filter(|path| decided(&policy, path, None) == "r 0").collect();
        assert_eq!(matched, expected, "{glob}");
    }
}

/// A later rule must not hold for the seconds in which the name is not known.
#[test]
fn a_container_without_a_name_waits_for_the_first_rule_that_asks_for_it() {
    let policy = policy(
        "rules:\n- {name: s, pods: {namespaces: [shop], containers: [sidecar]}, oomGroup: leave}\n- {name: all, pods: {}, oomGroup: single-process}\n",
    );
    for (namespace, container, expected) in [
        ("shop", None, "unmatched"),
        ("shop", Some("sidecar"), "s leave"),
        ("shop", Some("worker"), "all 0"),
        ("other", None, "all 0"),
    ] {
        let pod = pod(namespace, &[], None);
        let subject = PodSubject { pod: &pod, container };
        assert_eq!(decided(&policy, "/x", Some(subject)), expected, "{namespace} {container:?}");
    }
}

#[test]
fn the_first_rule_wins() {
    let policy = policy(
        "rules:\n- {name: a, cgroups: [/x], oomGroup: leave}\n- {name: b, cgroups: [/*], oomGroup: group}\n",
    );
    assert_eq!(decided(&policy, "/x", None), "a leave");
    assert_eq!(decided(&policy, "/y", None), "b 1");
}

#[test]
fn pods_match_by_namespace_labels_and_container() {
    let policy = policy(
        r"
rules:
- name: web
  pods:
    namespaces: [prod-*]
    selector:
      matchLabels: {app: web}
      matchExpressions:
      - {key: tier, operator: In, values: [front, back]}
      - {key: legacy, operator: DoesNotExist}
      - {key: zone, operator: NotIn, values: [x]}
      - {key: app, operator: Exists}
    containers: [worker]
  oomGroup: single-process
- {name: rest, pods: {}, oomGroup: leave}
",
    );
    let table = [
        ("prod-1", "worker", vec![("app", "web"), ("tier", "front")], "web 0"),
        ("dev", "worker", vec![("app", "web"), ("tier", "front")], "rest leave"),
        ("prod-1", "sidecar", vec![("app", "web"), ("tier", "front")], "rest leave"),
        ("prod-1", "worker", vec![("app", "web"), ("tier", "front"), ("legacy", "")], "rest leave"),
        ("prod-1", "worker", vec![("app", "web"), ("tier", "front"), ("zone", "x")], "rest leave"),
        ("prod-1", "worker", vec![("app", "web"), ("tier", "front"), ("zone", "y")], "web 0"),
        ("prod-1", "worker", vec![("app", "web"), ("tier", "other")], "rest leave"),
        ("prod-1", "worker", vec![("app", "other"), ("tier", "front")], "rest leave"),
    ];
    for (namespace, container, labels, expected) in &table {
        let pod = pod(namespace, labels, Some("group"));
        let subject = PodSubject { pod: &pod, container: Some(container) };
        assert_eq!(decided(&policy, "/p/c", Some(subject)), *expected, "{namespace} {labels:?}");
    }
    assert_eq!(decided(&policy, "/p/c", None), "unmatched", "a pod rule needs a known pod");
}

/// Neither a rule that asks for labels nor what comes after it: the pod might have
/// been the first rule's.
#[test]
fn a_pod_whose_labels_are_not_kept_is_left_alone_where_a_rule_asks_for_some() {
    let table = [
        ("selector: {matchLabels: {app: web}}", "unmatched"),
        ("selector: {matchExpressions: [{key: a, operator: NotIn, values: [b]}]}", "unmatched"),
        ("selector: {matchExpressions: [{key: a, operator: In, values: [b]}]}", "unmatched"),
        ("selector: {matchExpressions: [{key: a, operator: DoesNotExist}]}", "unmatched"),
        ("selector: {matchExpressions: [{key: a, operator: Exists}]}", "unmatched"),
        ("selector: {matchLabels: {app: web}}, namespaces: [other]", "rest 0"),
        ("selector: {matchLabels: {app: web}}, containers: [sidecar]", "rest 0"),
        ("selector: {}", "first 1"),
        ("namespaces: [shop]", "first 1"),
        ("namespaces: [other]", "rest 0"),
    ];
    for (pods, expected) in table {
        let policy = policy(&format!(
            "rules:\n- {{name: first, pods: {{{pods}}}, oomGroup: group}}\n- {{name: rest, pods: {{}}, oomGroup: single-process}}\n"
        ));
        let pod = Pod { labels: None, ..pod("shop", &[], Some("group")) };
        let subject = PodSubject { pod: &pod, container: Some("worker") };
        assert_eq!(decided(&policy, "/x", Some(subject)), expected, "{pods}");
    }
    let annotated = Pod { labels: None, ..pod("shop", &[], Some("group")) };
    let subject = PodSubject { pod: &annotated, container: Some("worker") };
    for (rules, expected) in [
        ("[]", "annotation 1"),
        ("[{name: a, pods: {selector: {matchLabels: {a: b}}}, oomGroup: leave}]", "unmatched"),
    ] {
        let policy = policy(&format!("rules: {rules}"));
        assert_eq!(decided(&policy, "/x", Some(subject)), expected, "{rules}");
    }
}

#[test]
fn the_annotation_counts_only_where_no_rule_matches() {
    let decided = |policy: &Policy, cgroup: &str, annotation: Option<&str>| {
        let pod = pod("n", &[], annotation);
        decided(policy, cgroup, Some(PodSubject { pod: &pod, container: Some("worker") }))
    };
    let allow = policy("rules:\n- {name: r, cgroups: [/ruled], oomGroup: leave}\n");
    assert_eq!(decided(&allow, "/c", Some("worker=single-process")), "annotation 0");
    assert_eq!(decided(&allow, "/c", Some("other=group")), "unmatched");
    assert_eq!(decided(&allow, "/c", None), "unmatched");
    assert_eq!(decided(&allow, "/ruled", Some("group")), "r leave");
    assert!(decided(&allow, "/c", Some("nonsense")).starts_with("bad: "));
    let ignore = policy("podAnnotations: ignore");
    assert_eq!(decided(&ignore, "/c", Some("single-process")), "unmatched");
    assert_eq!(decided(&ignore, "/c", Some("nonsense")), "unmatched");
}

#[test]
fn a_container_without_a_name_matches_only_what_any_name_would() {
    let pod = pod("n", &[], None);
    let pod = Some(PodSubject { pod: &pod, container: None });
    for (containers, expected) in
        [("", "r 0"), ("containers: ['*']", "r 0"), ("containers: [w]", "unmatched")]
    {
        let text =
            format!("rules:\n- name: r\n  oomGroup: single-process\n  pods: {{{containers}}}\n");
        assert_eq!(decided(&policy(&text), "/c", pod), expected, "{containers}");
    }
}

#[test]
fn what_follows_repeated_kills_comes_from_what_decides_the_value() {
    let policy = policy(
        "rules:\n\
         - {name: web, pods: {namespaces: [shop]}, oomGroup: single-process, escalate: {to: restart}}\n\
         - {name: plain, pods: {namespaces: [batch]}, oomGroup: single-process}\n",
    );
    let escalate = |namespace: &str, mode: Option<&str>| {
        let mut pod = pod(namespace, &[], mode);
        pod.oom_escalate = Some("2/1m=group".into());
        let pod = SubjectPod::Known(PodSubject { pod: &pod, container: Some("worker") });
        match policy.decide(&Subject { cgroup: &CgroupPath::root(), pod }) {
            Verdict::Matched(target) => target.escalate.map(|it| it.to_string()),
            Verdict::BadAnnotation(error) => Some(error.annotation().into()),
            _ => None,
        }
    };
    let table = [
        ("shop", None, Some("3/5m=restart")),
        ("shop", Some("single-process"), Some("3/5m=restart")),
        ("batch", Some("single-process"), None),
        ("other", Some("single-process"), Some("2/1m=group")),
        ("other", Some("worker=single-process"), Some("2/1m=group")),
        ("other", Some("worker=group"), None),
        ("other", Some("sidecar=single-process"), None),
        ("other", Some("leave"), None),
        ("other", None, Some("herder.dev/oom-escalate")),
    ];
    for (namespace, mode, expected) in table {
        assert_eq!(escalate(namespace, mode).as_deref(), expected, "{namespace} {mode:?}");
    }
    let names: Vec<_> = policy.escalations().map(|(rule, to)| (rule, to.as_str())).collect();
    assert_eq!(names, [("web", "restart"), ("annotation", "group"), ("annotation", "restart")]);
}

#[test]
fn arguments_are_kept_only_where_a_rule_says_so_and_not_everyone_can_ask() {
    for (asks, expected) in [
        ("", false),
        ("\n    victimArguments: false", false),
        ("\n    victimArguments: true", true),
    ] {
        let text = format!(
            "rules:\n  - {{name: b, cgroups: [/b], oomGroup: leave}}\n  - name: a\n    cgroups: [/a]\n    oomGroup: group{asks}\n"
        );
        let config = Config::parse(&text, "rules.yaml").unwrap();
        let exposed = config.clone().where_asked(false, "rules.yaml").map_err(|it| it.to_string());
        assert_eq!(exposed.is_err(), expected, "{text}");
        if let Err(error) = exposed {
            assert!(
                error.starts_with("rules.yaml:6:22: `victimArguments` needs a port"),
                "{error}"
            );
            assert!(error.contains("--web-config-file") && error.contains("--listen"), "{error}");
        }
        let policy = Policy::new(config.where_asked(true, "rules.yaml").unwrap());
        assert_eq!(policy.reads_arguments(), expected);
        assert_eq!((policy.keeps_arguments("a"), policy.keeps_arguments("b")), (expected, false));
    }
}

#[test]
fn arguments_stay_only_where_their_containers_stay_under_the_rule() {
    let policy = |rules: &str| {
        let rules = format!("rules: [{rules}]");
        Policy::new(Config::parse(&rules, "r.yaml").unwrap())
    };
    let asks = "{name: a, cgroups: [/a], oomGroup: group, victimArguments: true}";
    let other = "{name: b, cgroups: [/b], oomGroup: group}";
    let before = policy(&format!("{other}, {asks}"));
    for (rules, stays) in [
        (format!("{other}, {asks}"), true),
        (format!("{other}, {asks}, {{name: c, cgroups: [/c], oomGroup: leave}}"), true),
        (format!("{other}, {}", asks.replace("name: a", "name: z")), true),
        (format!("{other}, {}", asks.replace("group, v", "single-process, v")), true),
        (format!("{other}, {}", asks.replace("[/a]", "[/x]")), false),
        (format!("{other}, {}", asks.replace("true", "false")), false),
        (format!("{}, {asks}", other.replace("[/b]", "[/*]")), false),
        (format!("{asks}, {other}"), false),
        (other.to_owned(), false),
        (String::new(), false),
    ] {
        assert_eq!(policy(&rules).still_asks(&before), stays, "{rules}");
    }
    assert!(policy("").still_asks(&policy(other)), "nothing was kept");
}
