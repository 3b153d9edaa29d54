use super::*;
use crate::runtime::nri::wire::{LinuxContainer, LinuxMemory, OptionalInt64};
use herder_model::rules::parse::Config;

const UID: &str = "2c39abf0-f543-4c05-8cfe-3839410aef01";

fn id() -> String {
    "5".repeat(64)
}

fn sandbox(annotation: Option<&str>) -> PodSandbox {
    let annotation = annotation.map(|text| (OOM_GROUP_ANNOTATION.to_owned(), text.to_owned()));
    PodSandbox {
        id: "f".repeat(64),
        name: "web-0".into(),
        uid: UID.into(),
        namespace: "shop".into(),
        labels: [("app".to_owned(), "web".to_owned())].into(),
        annotations: annotation.into_iter().collect(),
    }
}

fn given(value: &str) -> LinuxResources {
    LinuxResources { memory: None, unified: [(OOM_GROUP.to_owned(), value.to_owned())].into() }
}

/// One whose spec has this value; `-` for none.
fn container(name: &str, value: &str) -> Container {
    let resources = Some(value).filter(|value| *value != "-").map(given);
    let cgroups_path =
        format!("kubepods-burstable-pod{}.slice:cri-containerd:{}", UID.replace('-', "_"), id());
    let linux = Some(LinuxContainer { resources, cgroups_path });
    Container {
        id: id(),
        pod_sandbox_id: "f".repeat(64),
        name: name.into(),
        linux,
        state: 0,
        pid: 0,
    }
}

fn made() -> Pod {
    pod_from_sandbox(&sandbox(None)).unwrap()
}

fn policy(text: &str) -> Policy {
    Policy::new(Config::parse(text, "test").unwrap())
}

/// What is wanted, in words: the value, and what was found.
fn wanted(policy: &Policy, sandbox: &PodSandbox, container: &Container) -> String {
    let Some(pod) = pod_from_sandbox(sandbox) else { return "-".into() };
    match desired_adjustment(policy, &pod, container, spec_resources(container)) {
        Ok(Some(Wish { target, found })) => {
            let found = found.map_or("-".to_owned(), |value| u8::from(value).to_string());
            format!("{} {} for {found}", target.rule, u8::from(target.value))
        }
        Ok(None) => "-".into(),
        Err(AdjustError::CgroupsPath(path)) => format!("no path: {path}"),
    }
}

#[test]
fn rules_decide_by_what_the_runtime_says() {
    let rule = |selects: &str, oom_group: &str| {
        policy(&format!("rules:\n- {{name: r, {selects}, oomGroup: {oom_group}}}"))
    };
    let web = "pods: {selector: {matchLabels: {app: web}}}";
    let scope = format!(
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-*.scope",
        UID.replace('-', "_")
    );
    let table = [
        (rule(web, "single-process"), "1", "r 0 for 1"),
        (rule(web, "single-process"), "0", "r 0 for 0"),
        (rule(web, "single-process"), "-", "r 0 for -"),
        (rule(web, "single-process"), "max", "r 0 for -"),
        (rule(web, "group"), "0", "r 1 for 0"),
        (rule(web, "leave"), "1", "-"),
        (rule("pods: {namespaces: [other]}", "single-process"), "1", "-"),
        (rule("pods: {containers: [worker]}", "single-process"), "1", "r 0 for 1"),
        (rule("pods: {containers: [side*]}", "single-process"), "1", "-"),
        (rule(&format!("cgroups: ['{scope}']"), "single-process"), "1", "r 0 for 1"),
        (rule("cgroups: ['/kubepods.slice/*']", "single-process"), "1", "-"),
    ];
    for (policy, value, expected) in table {
        let wanted = wanted(&policy, &sandbox(None), &container("worker", value));
        assert_eq!(wanted, expected, "{policy:?} {value}");
    }
}

#[test]
fn a_rule_about_its_cgroup_comes_first_if_it_stands_first() {
    let policy = policy(
        "rules:\n- {name: c, cgroups: ['/kubepods.slice/**'], oomGroup: leave}\n- {name: p, pods: {}, oomGroup: group}",
    );
    assert_eq!(wanted(&policy, &sandbox(None), &container("worker", "0")), "-");
}

#[test]
fn annotations_choose_where_no_rule_does() {
    let allow = policy("podAnnotations: allow");
    let table = [
        (Some("single-process"), "annotation 0 for 1"),
        (Some("worker=single-process,sidecar=group"), "annotation 0 for 1"),
        (Some("sidecar=group"), "-"),
        (Some("leave"), "-"),
        (Some("nonsense"), "-"),
        (None, "-"),
    ];
    for (annotation, expected) in table {
        let wanted = wanted(&allow, &sandbox(annotation), &container("worker", "1"));
        assert_eq!(wanted, expected, "{annotation:?}");
    }
}

#[test]
fn what_no_kubelet_made_is_left_alone() {
    let all = policy("rules:\n- {name: r, pods: {}, oomGroup: single-process}");
    let right = (sandbox(None), container("worker", "1"));
    assert_eq!(wanted(&all, &right.0, &right.1), "r 0 for 1");
    let pod = PodSandbox { uid: "hdishd83djaidwnduwk28bcsb".into(), ..sandbox(None) };
    assert_eq!(wanted(&all, &pod, &right.1), "-", "a pod of crictl");
    let label = (KUBELETS_LABEL.to_owned(), pod.uid.clone());
    let of_kubelet = PodSandbox { labels: [label].into(), ..pod };
    assert_eq!(wanted(&all, &of_kubelet, &right.1), "r 0 for 1", "a static pod");
    let named = Container { id: "redis".into(), ..container("worker", "1") };
    assert_eq!(wanted(&all, &right.0, &named), "-", "a container of ctr");
    let placed = |path: &str| Container {
        linux: Some(LinuxContainer { cgroups_path: path.into(), resources: None }),
        ..container("worker", "1")
    };
    for path in ["", "/elsewhere", "a:b", "user:cri:x", "-.slice:a:b", "a.slice:../..:b"] {
        assert_eq!(wanted(&all, &right.0, &placed(path)), format!("no path: {path}"));
    }
}

#[test]
fn cgroups_in_both_drivers_forms() {
    let id = ContainerId::parse(&id()).unwrap();
    let table = [
        (format!("/kubepods/besteffort/podX/{id}"), format!("/kubepods/besteffort/podX/{id}")),
        (format!("/kubepods/podX/crio-{id}"), format!("/kubepods/podX/crio-{id}")),
        (format!("kubepods.slice:crio:{id}"), format!("/kubepods.slice/crio-{id}.scope")),
        (
            format!("kubepods-besteffort-podX.slice:cri-containerd:{id}"),
            format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podX.slice/cri-containerd-{id}.scope"
            ),
        ),
    ];
    for (given, expected) in table {
        assert_eq!(cgroup(&given, id).unwrap().as_str(), expected, "{given}");
    }
}

#[test]
fn an_update_is_changed_unless_it_is_right() {
    let all = policy("rules:\n- {name: r, pods: {}, oomGroup: single-process}");
    // The stored spec says nothing about what an update asks for.
    for (asked, found, fulfilled) in
        [(Some("1"), Some(true), false), (Some("0"), Some(false), true), (None, None, false)]
    {
        let asked = asked.map(given);
        let container = container("worker", "0");
        let wish = desired_adjustment(&all, &made(), &container, asked.as_ref()).unwrap().unwrap();
        assert_eq!((wish.found, wish.is_fulfilled()), (found, fulfilled), "{asked:?}");
    }
}

#[test]
fn answers_say_only_the_difference_and_never_make_an_update_fail() {
    let all = policy("rules:\n- {name: r, pods: {}, oomGroup: group}");
    let container = container("worker", "0");
    let wish =
        desired_adjustment(&all, &made(), &container, spec_resources(&container)).unwrap().unwrap();
    let resources = wish.adjustment().linux.unwrap().resources.unwrap();
    assert_eq!(resources, given("1"));
    let update = wish.update("x");
    assert_eq!((update.container_id.as_str(), update.ignore_failure), ("x", true));
    assert_eq!(update.linux.unwrap().resources.unwrap(), given("1"));
}

#[test]
fn names_and_init_are_learnt() {
    let started = Container { pid: 42, ..container("worker", "1") };
    let pod = |annotation| Arc::new(pod_from_sandbox(&sandbox(annotation)).unwrap());
    let learnt = learn(&pod(Some("leave")), &started).unwrap();
    assert_eq!((&*learnt.name, learnt.init), ("worker", Some(42)));
    assert_eq!((&*learnt.pod.namespace, &*learnt.pod.name), ("shop", "web-0"));
    assert_eq!(learnt.pod.label("app"), Some("web"));
    assert_eq!(learnt.pod.oom_group.as_deref(), Some("leave"));
    assert_eq!(learn(&pod(None), &container("worker", "1")).unwrap().init, None);
    assert_eq!(learn(&pod(None), &container("", "1")), None);
}

#[test]
fn labels_that_are_too_many_match_no_selector() {
    let many = (0..1000).map(|number| (format!("key-{number}"), "v".repeat(63)));
    let pod = PodSandbox { labels: many.collect(), ..sandbox(None) };
    let rule = "rules:\n- {name: r, pods: {selector: {matchLabels: {key-1: v}}}, oomGroup: group}";
    assert_eq!(wanted(&policy(rule), &pod, &container("worker", "1")), "-");
}

#[test]
fn swap_is_read_from_the_spec() {
    let number = |value: i64| Some(OptionalInt64 { value });
    let table = [
        (Some(64), Some(64), false),
        (Some(64), Some(96), true),
        (Some(64), Some(-1), true),
        (Some(64), None, false),
        (None, None, false),
        (None, Some(-1), true),
    ];
    for (limit, swap, expected) in table {
        let memory = LinuxMemory { limit: limit.and_then(number), swap: swap.and_then(number) };
        let mut container = container("worker", "1");
        let resources = container.linux.as_mut().unwrap().resources.as_mut().unwrap();
        resources.memory = Some(memory);
        assert_eq!(allows_swap(&container), expected, "{limit:?} {swap:?}");
    }
    assert!(!allows_swap(&container("worker", "-")));
}
