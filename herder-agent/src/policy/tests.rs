use super::*;

fn policy(text: &str) -> Policy {
    Policy::new(Config::parse(text, "test").unwrap())
}

/// What is decided, in short.
fn decided(policy: &Policy, cgroup: &str, pod: Option<PodSubject<'_>>) -> String {
    let cgroup = CgroupPath::parse(cgroup.as_bytes()).unwrap();
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
    let labels = |extra: &[(&str, &str)]| -> BTreeMap<String, String> {
        let all = [("app", "web"), ("tier", "front")].iter().chain(extra);
        all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let table = [
        ("prod-1", "worker", labels(&[]), "web 0"),
        ("dev", "worker", labels(&[]), "rest leave"),
        ("prod-1", "sidecar", labels(&[]), "rest leave"),
        ("prod-1", "worker", labels(&[("legacy", "")]), "rest leave"),
        ("prod-1", "worker", labels(&[("zone", "x")]), "rest leave"),
        ("prod-1", "worker", labels(&[("zone", "y")]), "web 0"),
        ("prod-1", "worker", labels(&[("tier", "other")]), "rest leave"),
        ("prod-1", "worker", labels(&[("app", "other")]), "rest leave"),
    ];
    for (namespace, container, labels, expected) in &table {
        let pod =
            PodSubject { namespace, labels, annotation: Some("group"), container: Some(container) };
        assert_eq!(decided(&policy, "/p/c", Some(pod)), *expected, "{namespace} {labels:?}");
    }
    assert_eq!(decided(&policy, "/p/c", None), "unmatched", "a pod rule needs a known pod");
}

#[test]
fn the_annotation_counts_only_where_no_rule_matches() {
    let labels = BTreeMap::new();
    let pod = |annotation| {
        Some(PodSubject { namespace: "n", labels: &labels, annotation, container: Some("worker") })
    };
    let allow = policy("rules:\n- {name: r, cgroups: [/ruled], oomGroup: leave}\n");
    assert_eq!(decided(&allow, "/c", pod(Some("worker=single-process"))), "annotation 0");
    assert_eq!(decided(&allow, "/c", pod(Some("other=group"))), "unmatched");
    assert_eq!(decided(&allow, "/c", pod(None)), "unmatched");
    assert_eq!(decided(&allow, "/ruled", pod(Some("group"))), "r leave");
    assert!(decided(&allow, "/c", pod(Some("nonsense"))).starts_with("bad: "));
    let ignore = policy("podAnnotations: ignore");
    assert_eq!(decided(&ignore, "/c", pod(Some("single-process"))), "unmatched");
    assert_eq!(decided(&ignore, "/c", pod(Some("nonsense"))), "unmatched");
}

#[test]
fn a_container_without_a_name_matches_only_what_any_name_would() {
    let labels = BTreeMap::new();
    let pod =
        Some(PodSubject { namespace: "n", labels: &labels, annotation: None, container: None });
    for (containers, expected) in
        [("", "r 0"), ("containers: ['*']", "r 0"), ("containers: [w]", "unmatched")]
    {
        let text =
            format!("rules:\n- name: r\n  oomGroup: single-process\n  pods: {{{containers}}}\n");
        assert_eq!(decided(&policy(&text), "/c", pod), expected, "{containers}");
    }
}
