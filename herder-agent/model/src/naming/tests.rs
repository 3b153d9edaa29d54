//! Pods as the API server sends them, cgroups as the runtimes make them.

use super::*;
use crate::{
    pods::{store::GRACE, wire::PodObject},
    rules::parse::Config,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

const UID: &str = "2c39abf0-f543-4c05-8cfe-3839410aef01";
const HASH: &str = "ca0757b5d25d60b3db9d57dce6d10c2d";

fn id(letter: char) -> String {
    letter.to_string().repeat(64)
}

fn path(letter: char) -> CgroupPath {
    let path = format!("/kubepods/burstable/pod{UID}/{}", id(letter));
    CgroupPath::parse(path.as_bytes()).unwrap()
}

fn cgroup(text: &str) -> CgroupPath {
    CgroupPath::parse(text.as_bytes()).unwrap()
}

fn status(name: &str, letter: char) -> Value {
    json!({ "name": name, "containerID": format!("containerd://{}", id(letter)) })
}

/// A pod with a container of each kind; of those with statuses the IDs are known.
fn pod(statuses: &[(&str, char)], annotations: &Value) -> Event {
    let of = |names: &[&str]| -> Vec<Value> {
        let listed = statuses.iter().filter(|(name, _)| names.contains(name));
        listed.map(|(name, letter)| status(name, *letter)).collect()
    };
    let object = json!({
        "metadata": {
            "name": "web-0", "namespace": "shop", "uid": UID, "labels": { "app": "web" },
            "annotations": annotations,
        },
        "spec": {
            "initContainers": [{ "name": "setup" }, { "name": "mesh", "restartPolicy": "Always" }],
            "containers": [{ "name": "worker" }, { "name": "logger" }],
            "ephemeralContainers": [{ "name": "debug" }],
        },
        "status": {
            "initContainerStatuses": of(&["setup", "mesh"]),
            "containerStatuses": of(&["worker", "logger"]),
            "ephemeralContainerStatuses": of(&["debug"]),
        },
    });
    let object: PodObject = serde_json::from_value(object).unwrap();
    Event::Applied(Box::new(object.trim().unwrap()))
}

fn naming() -> Naming {
    Naming::new(true)
}

fn policy(text: &str) -> Policy {
    Policy::new(Config::parse(text, "test").unwrap())
}

fn decided(naming: &Naming, policy: &Policy, path: &CgroupPath) -> String {
    match naming.verdict(policy, path) {
        Verdict::Matched(target) => format!("{} {}", target.rule, u8::from(target.value)),
        Verdict::Leave { rule } => format!("{rule} leave"),
        Verdict::Unmatched => "-".into(),
        Verdict::BadAnnotation(_) => "bad".into(),
    }
}

fn owner(naming: &Naming, path: &CgroupPath) -> String {
    match naming.owner(path) {
        Owner::Container(names) => {
            format!("{}/{}/{}", names.namespace, names.pod, names.container)
        }
        Owner::Unnamed { .. } => "unnamed".into(),
        Owner::Host { .. } => "host".into(),
    }
}

const RULE: &str =
    "rules:\n- {name: r, pods: {selector: {matchLabels: {app: web}}}, oomGroup: single-process}";

#[test]
fn containers_of_all_kinds_are_named_and_matched() {
    let mut naming = naming();
    let all = [("setup", 'a'), ("mesh", 'b'), ("worker", 'c'), ("logger", 'd'), ("debug", 'e')];
    for (at, letter) in (1..).zip("fabcde".chars()) {
        naming.made(CgroupId(at), &path(letter));
    }
    naming.apply(pod(&all, &Value::Null), Monotonic::ZERO);
    for (name, letter) in all {
        assert_eq!(owner(&naming, &path(letter)), format!("shop/web-0/{name}"));
        assert_eq!(decided(&naming, &policy(RULE), &path(letter)), "r 0", "{name}");
        let below = cgroup(&format!("{}/made/by/itself", path(letter)));
        assert_eq!(decided(&naming, &policy(RULE), &below), "-");
        assert_eq!(naming.container_path(&below), Some(path(letter)));
    }
    assert_eq!(decided(&naming, &policy(RULE), &path('f')), "-", "the sandbox");
    assert_eq!(owner(&naming, &path('f')), "unnamed");
    assert_eq!(owner(&naming, &cgroup("/system.slice/x.service")), "host");
}

#[test]
fn a_restarted_container_is_matched_before_its_status_is_known() {
    let mut naming = naming();
    naming.made(CgroupId(10), &path('f'));
    naming.made(CgroupId(11), &path('a'));
    assert_eq!(decided(&naming, &policy(RULE), &path('a')), "-", "no pod is known");
    naming.apply(pod(&[], &Value::Null), Monotonic::ZERO);
    assert_eq!(decided(&naming, &policy(RULE), &path('a')), "r 0", "no name is needed");
    naming.apply(pod(&[("worker", 'a')], &Value::Null), Monotonic::ZERO);
    naming.made(CgroupId(12), &path('b'));
    assert_eq!(decided(&naming, &policy(RULE), &path('b')), "r 0", "the next incarnation");
    assert_eq!(decided(&naming, &policy(RULE), &path('f')), "-", "the sandbox is older");
    naming.removed(CgroupId(11), &path('a'));
    assert_eq!(owner(&naming, &path('a')), "shop/web-0/worker", "a late kill");
    naming.apply(Event::Deleted(PodUid::parse(UID).unwrap()), Monotonic::ZERO);
    assert_eq!(owner(&naming, &path('a')), "shop/web-0/worker", "later still");
}

#[test]
fn a_rule_that_kills_groups_waits_for_the_name() {
    let group = policy(&RULE.replace("single-process", "group"));
    let mut naming = naming();
    naming.made(CgroupId(1), &path('f'));
    naming.made(CgroupId(2), &path('a'));
    naming.apply(pod(&[], &Value::Null), Monotonic::ZERO);
    // Either of them may be the sandbox.
    assert_eq!(
        ["a", "f"].map(|it| decided(&naming, &group, &path(it.chars().next().unwrap()))),
        ["-", "-"]
    );
    naming.apply(pod(&[("worker", 'a')], &Value::Null), Monotonic::ZERO);
    assert_eq!(decided(&naming, &group, &path('a')), "r 1");
    assert_eq!(decided(&naming, &group, &path('f')), "-");
}

/// A sandbox must never be restarted, and without a name it may be one.
#[test]
fn nothing_is_escalated_before_it_has_a_name() {
    let rule = RULE.to_owned() + ", escalate: {to: restart}}";
    let rule = policy(&rule.replace("single-process}", "single-process"));
    let mut naming = naming();
    naming.made(CgroupId(1), &path('f'));
    naming.made(CgroupId(2), &path('a'));
    let escalates = |naming: &Naming, letter| match naming.verdict(&rule, &path(letter)) {
        Verdict::Matched(target) => Some(target.escalate.is_some()),
        _ => None,
    };
    naming.apply(pod(&[], &Value::Null), Monotonic::ZERO);
    assert_eq!([escalates(&naming, 'a'), escalates(&naming, 'f')], [Some(false); 2]);
    naming.apply(pod(&[("worker", 'a')], &Value::Null), Monotonic::ZERO);
    assert_eq!([escalates(&naming, 'a'), escalates(&naming, 'f')], [Some(true), None]);
}

#[test]
fn annotations_change_while_containers_run() {
    let mut naming = naming();
    naming.made(CgroupId(1), &path('a'));
    let none = policy("rules: []");
    let table = [
        (json!({}), "-", "r 0"),
        (json!({ "herder.dev/oom-group": "worker=single-process" }), "annotation 0", "r 0"),
        (json!({ "herder.dev/oom-group": "worker=group" }), "annotation 1", "r 0"),
        (json!({ "herder.dev/oom-group": "logger=group" }), "-", "r 0"),
        (json!({ "herder.dev/oom-group": "nonsense" }), "bad", "r 0"),
    ];
    for (annotations, without_rule, with_rule) in table {
        naming.apply(pod(&[("worker", 'a')], &annotations), Monotonic::ZERO);
        assert_eq!(decided(&naming, &none, &path('a')), without_rule, "{annotations}");
        assert_eq!(decided(&naming, &policy(RULE), &path('a')), with_rule, "{annotations}");
        let ignored = policy("podAnnotations: ignore");
        assert_eq!(decided(&naming, &ignored, &path('a')), "-", "{annotations}");
    }
}

/// Its containers run on after a deletion by force, and after the grace period.
#[test]
fn a_deleted_pod_keeps_names_and_rule_while_it_has_cgroups() {
    let begin = Monotonic::ZERO;
    let mut naming = naming();
    naming.made(CgroupId(1), &path('a'));
    naming.apply(pod(&[("worker", 'a')], &Value::Null), begin);
    let names = ["shop", "web-0", "worker"].map(str::to_owned);
    let [namespace, pod, container] = names;
    let names = ContainerNames { namespace, pod, container };
    naming.apply(Event::Deleted(PodUid::parse(UID).unwrap()), begin);
    let hour = begin + Duration::from_secs(3600);
    for now in [begin, begin + GRACE, hour] {
        assert_eq!(naming.expire(now), []);
        assert!(naming.is_there(&names), "its series stay");
        assert_eq!(owner(&naming, &path('a')), "shop/web-0/worker");
        assert_eq!(decided(&naming, &policy(RULE), &path('a')), "r 0");
    }
    naming.removed(CgroupId(1), &path('a'));
    assert!(!naming.is_there(&names));
    naming.expire(hour + GRACE / 2);
    assert_eq!(owner(&naming, &path('a')), "shop/web-0/worker", "a late kill");
    naming.expire(hour + GRACE);
    assert_eq!(owner(&naming, &path('a')), "unnamed");
}

#[test]
fn without_kubernetes_all_is_the_hosts() {
    let mut naming = Naming::new(false);
    naming.made(CgroupId(1), &path('a'));
    assert_eq!(owner(&naming, &path('a')), "host");
    let policy = policy("rules:\n- {name: c, cgroups: ['/kubepods/**'], oomGroup: group}");
    assert_eq!(decided(&naming, &policy, &path('a')), "c 1");
}

/// A rule for cgroups must not take what an earlier one for pods leaves alone, not even until
/// the pods are known.
#[test]
fn a_container_of_an_unknown_pod_waits_for_the_first_rule_for_pods() {
    let cgroups = "{name: cg, cgroups: ['/kubepods/**'], oomGroup: single-process}";
    let of_pods = "{name: shop, pods: {namespaces: [shop]}, oomGroup: leave}";
    let pods_first = policy(&format!("rules: [{of_pods}, {cgroups}]"));
    let cgroups_first = policy(&format!("rules: [{cgroups}, {of_pods}]"));
    let mut naming = naming();
    naming.made(CgroupId(1), &path('a'));
    assert_eq!(decided(&naming, &pods_first, &path('a')), "-");
    assert_eq!(decided(&naming, &cgroups_first, &path('a')), "cg 0", "no pod is needed");
    let below = path('a').child(b"made").unwrap();
    assert_eq!(decided(&naming, &pods_first, &below), "cg 0", "no container of a pod");
    naming.apply(pod(&[], &Value::Null), Monotonic::ZERO);
    assert_eq!(decided(&naming, &pods_first, &path('a')), "shop leave");

    let without_kubernetes = Naming::new(false);
    assert_eq!(decided(&without_kubernetes, &pods_first, &path('a')), "cg 0", "no pod will come");
}

/// What the runtime reports about the container of this letter.
fn learnt(letter: char, name: &str, label: &str) -> RuntimeContainer {
    let pod = Arc::new(Pod {
        labels: Some([("app".into(), label.into())].into()),
        ..Pod::named(PodUid::parse(UID).unwrap(), "shop", "web-0")
    });
    let id = ContainerId::parse(&id(letter)).unwrap();
    RuntimeContainer { id, name: name.into(), pod, init: Some(77), instead_of: Some(true) }
}

/// The runtime sends no spec, so what it reports about a pod says nothing about its limit.
#[test]
fn only_the_api_server_says_whether_a_pod_has_a_limit_of_its_own() {
    let mut naming = naming();
    assert_eq!(naming.pods_own_limit(&path('a')), None, "nothing is known");
    naming.learn(learnt('a', "worker", "web"), Monotonic::ZERO);
    assert_eq!(naming.pods_own_limit(&path('a')), None, "only the runtime has reported it");
    naming.apply(pod(&[], &Value::Null), Monotonic::ZERO);
    assert_eq!(naming.pods_own_limit(&path('a')), Some(false));
    let Event::Applied(mut with_limit) = pod(&[], &Value::Null) else { panic!("a pod") };
    with_limit.memory_limit = Some(1 << 27);
    naming.apply(Event::Applied(with_limit), Monotonic::ZERO);
    assert_eq!(naming.pods_own_limit(&path('a')), Some(true));
    assert_eq!(naming.pods_own_limit(&cgroup("/system.slice/x.service")), None);
}

#[test]
fn the_runtime_names_containers_without_an_api_server() {
    let mut naming = Naming::new(false);
    naming.made(CgroupId(1), &path('f'));
    naming.made(CgroupId(2), &path('a'));
    assert_eq!(owner(&naming, &path('a')), "host");
    let cgroups = naming.learn(learnt('a', "worker", "web"), Monotonic::ZERO);
    assert_eq!(cgroups, [CgroupId(1), CgroupId(2)], "they are decided again");
    assert_eq!(owner(&naming, &path('a')), "shop/web-0/worker");
    assert_eq!(decided(&naming, &policy(RULE), &path('a')), "r 0");
    assert_eq!((naming.init(&path('a')), naming.adjusted(&path('a'))), (Some(77), Some(true)));
    assert_eq!(owner(&naming, &path('f')), "host", "nothing is known of the sandbox");
    assert_eq!(decided(&naming, &policy(RULE), &path('f')), "-");
    let names = ["shop", "web-0", "worker"].map(str::to_owned);
    let [namespace, pod, container] = names;
    assert!(naming.is_there(&ContainerNames { namespace, pod, container }));
}

#[test]
fn the_runtime_names_a_container_before_its_status_does() {
    let mut naming = naming();
    naming.learn(learnt('a', "worker", "web"), Monotonic::ZERO);
    naming.made(CgroupId(1), &path('a'));
    let group = policy(&RULE.replace("single-process", "group"));
    assert_eq!(decided(&naming, &group, &path('a')), "r 1", "the API server has sent no pod");
    // Its labels are those of now, the runtime's those of its creation.
    naming.learn(learnt('a', "worker", "other"), Monotonic::ZERO);
    assert_eq!(decided(&naming, &group, &path('a')), "-");
    naming.apply(pod(&[], &Value::Null), Monotonic::ZERO);
    assert_eq!(owner(&naming, &path('a')), "shop/web-0/worker");
    assert_eq!(decided(&naming, &group, &path('a')), "r 1");
}

#[test]
fn a_learnt_container_is_forgotten_a_while_after_its_cgroup() {
    let begin = Monotonic::ZERO;
    let mut naming = Naming::new(false);
    naming.learn(learnt('a', "worker", "web"), begin);
    naming.made(CgroupId(1), &path('a'));
    let (hour, grace) = (Duration::from_secs(3600), GRACE);
    naming.expire(begin + hour);
    assert_eq!(owner(&naming, &path('a')), "shop/web-0/worker", "it is there");
    naming.removed(CgroupId(1), &path('a'));
    naming.expire(begin + hour + grace / 2);
    assert_eq!(owner(&naming, &path('a')), "shop/web-0/worker", "a late kill");
    naming.expire(begin + hour + grace);
    assert_eq!(owner(&naming, &path('a')), "host");
}

#[test]
fn what_the_runtime_sends_again_adds_to_what_is_known() {
    let mut naming = Naming::new(false);
    let created = RuntimeContainer { init: None, ..learnt('a', "worker", "web") };
    let started = RuntimeContainer { instead_of: None, ..learnt('a', "worker", "web") };
    naming.learn(created, Monotonic::ZERO);
    assert_eq!(naming.init(&path('a')), None);
    naming.learn(started, Monotonic::ZERO);
    assert_eq!((naming.init(&path('a')), naming.adjusted(&path('a'))), (Some(77), Some(true)));
}

/// Before the API server's first list only the names of what is there are passed on.
#[test]
fn labels_that_are_withheld_match_no_selector_and_take_none_away() {
    let mut naming = naming();
    naming.made(CgroupId(1), &path('a'));
    let known = learnt('a', "worker", "web");
    let withheld = RuntimeContainer { pod: Arc::new(known.pod.names_only()), ..known.clone() };
    naming.learn(withheld.clone(), Monotonic::ZERO);
    assert_eq!(owner(&naming, &path('a')), "shop/web-0/worker");
    assert_eq!(decided(&naming, &policy(RULE), &path('a')), "-");
    let by_namespace = policy("rules:\n- {name: n, pods: {namespaces: [shop]}, oomGroup: group}");
    assert_eq!(decided(&naming, &by_namespace, &path('a')), "n 1");
    naming.learn(known, Monotonic::ZERO);
    assert_eq!(decided(&naming, &policy(RULE), &path('a')), "r 0");
    naming.learn(withheld, Monotonic::ZERO);
    assert_eq!(decided(&naming, &policy(RULE), &path('a')), "r 0");
}

/// The owner of a cgroup on the way to a pod can put anything into it.
#[test]
fn what_lies_below_another_users_cgroup_is_no_pods() {
    let mut naming = naming();
    naming.apply(pod(&[("worker", 'a')], &json!({})), Monotonic::ZERO);
    let container = path('a');
    let of_pod = naming.pod_path(&container).unwrap();
    assert_eq!(Some(&of_pod), container.parent().as_ref());
    assert_eq!(naming.pod_path(&of_pod).as_ref(), Some(&of_pod));
    assert_eq!(naming.pod_path(&cgroup("/kubepods/burstable")), None);
    let below = container.child(b"x").unwrap();
    assert_eq!(naming.pod_path(&below), None, "it is the container's own");
    let named = |naming: &Naming| [&container, &below].map(|path| owner(naming, path));
    let of_kubepods = Some(cgroup("/kubepods"));
    for other in [Some(of_pod.clone()), of_kubepods] {
        assert!(naming.belongs_to(&of_pod, other.clone()));
        assert!(!naming.belongs_to(&of_pod, other), "known already");
        assert_eq!(named(&naming)[0], "host");
        assert!(naming.parse(&container).is_none() && naming.parse(&of_pod).is_none());
    }
    // It is root's again.
    assert!(!naming.belongs_to(&of_pod, None));
    assert_eq!(named(&naming)[0], "shop/web-0/worker");
    assert!(naming.belongs_to(&of_pod, Some(of_pod.clone())));
    naming.removed(CgroupId(1), &of_pod);
    assert_eq!(named(&naming)[0], "shop/web-0/worker", "the next one of its name");
}

#[test]
fn pods_are_named_below_what_is_given_only() {
    let naming = || {
        let mut naming = naming();
        naming.apply(pod(&[("worker", 'a')], &json!({})), Monotonic::ZERO);
        naming
    };
    let elsewhere = cgroup(&format!("/docker/1{}", path('a')));
    assert_eq!(
        [owner(&naming(), &path('a')), owner(&naming(), &elsewhere)],
        ["shop/web-0/worker", "host"]
    );
    let given = naming().below(KubeletRoots::given(&[cgroup("/docker/1")]));
    assert_eq!(
        [owner(&given, &path('a')), owner(&given, &elsewhere)],
        ["host", "shop/web-0/worker"]
    );
}

mod kills;
mod roles;
mod static_pods;
mod unlisted;
