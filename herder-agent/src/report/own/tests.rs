use super::*;
use crate::report::tests::report;
use herder_model::{
    cgroup::CgroupPath,
    kill::KillReport,
    oom::limit::{Limits, Memory, Place},
    owner::{ContainerNames, Owner, path::PodCgroup},
    scene::{Scene, finding::Finding},
};
use serde_json::{Value, json};

const UID: &str = "2c39abf0-f543-4c05-8cfe-3839410aef01";
const OTHER: &str = "b9c7824b-74db-45a3-aa84-2934140f7307";

fn uid(text: &str) -> PodUid {
    PodUid::parse(text).unwrap()
}

/// A decision that took processes of two pods: the kernel chose one of the first.
fn group_above_the_pods() -> KillReport {
    let names = ["shop", "web-0", "worker"].map(str::to_owned);
    let [namespace, pod, container] = names;
    let owner = Owner::Container(ContainerNames { namespace, pod, container });
    let path = format!("/kubepods/burstable/pod{UID}/{}", "a".repeat(64));
    let cgroup = CgroupPath::parse(path.as_bytes()).unwrap();
    let mut report = report(owner, Kind::Group);
    let victim = report.kill.victims.remove(0);
    report.kill.victims = ["web", "secret", "web-2"]
        .map(|comm| herder_model::oom::Victim { comm: comm.into(), ..victim.clone() })
        .into();
    report.victim_pods = vec![Some(uid(UID)), Some(uid(OTHER)), Some(uid(UID))];
    report.pod = PodCgroup::parse(&cgroup);
    report.limits = Limits {
        place: Place::Above,
        cgroup: CgroupPath::parse(b"/kubepods").ok(),
        bytes: Some(12 << 30),
        container: Some(Memory { limit: Some(60 << 20), current: Some(1), peak: Some(2) }),
        ..Limits::default()
    };
    report.cgroup = Some(cgroup);
    report.group = CgroupPath::parse(b"/kubepods").ok();
    report.rule = Some("secret-rule".into());
    report
}

fn own(reporter: &Reporter, pod: &str) -> Option<Value> {
    let kill = reporter.kill_after(0).unwrap();
    let own = OwnKill::new(&kill, uid(pod), &KillNames::default())?;
    Some(serde_json::to_value(own).unwrap())
}

#[test]
fn a_pod_sees_its_own_processes_and_limits_only() {
    let reporter = Reporter::default();
    reporter.kill(&group_above_the_pods());
    assert_eq!(own(&reporter, OTHER), None, "the kernel chose a process of another pod");
    let shown = own(&reporter, UID).unwrap();
    assert_eq!(shown["processes"], 2);
    let comms: Vec<_> = shown["victims"].as_array().unwrap().iter().map(|it| &it["comm"]).collect();
    assert_eq!(comms, ["web", "web-2"]);
    assert_eq!(shown["victim"]["comm"], "web");
    assert_eq!(shown["limit_bytes"], Value::Null, "the node's pods together");
    assert_eq!(shown["container_limit_bytes"], 60 << 20);
    assert_eq!(shown["container_memory_bytes"], 2);
    let text = shown.to_string();
    for secret in ["secret", "kubepods", "4711", "trigger", UID, &(12u64 << 30).to_string()] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

/// A field that is added to the record is not shown to pods by itself.
#[test]
fn the_fields_are_these() {
    let reporter = Reporter::default();
    reporter.kill(&group_above_the_pods());
    let shown = own(&reporter, UID).unwrap();
    let fields: Vec<_> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "container",
        "container_id",
        "container_limit_bytes",
        "container_memory_bytes",
        "ended_seconds",
        "finding",
        "id",
        "kind",
        "limit",
        "limit_bytes",
        "processes",
        "restarted",
        "survived",
        "time",
        "victim",
        "victims",
    ];
    assert_eq!(fields, expected);
    let of_process: Vec<_> = shown["victim"].as_object().unwrap().keys().cloned().collect();
    let expected = [
        "anon_rss",
        "comm",
        "exit_seconds",
        "file_rss",
        "ns_pid",
        "oom_score_adj",
        "shmem_rss",
        "total_vm",
    ];
    assert_eq!(of_process, expected);
}

#[test]
fn limits_up_to_the_pods_are_reported() {
    let table = [
        (Place::Container, true),
        (Place::Inside, true),
        (Place::Parent, true),
        (Place::Above, false),
        (Place::Node, false),
        (Place::Unknown, false),
    ];
    for (place, is_shown) in table {
        let reporter = Reporter::default();
        let mut report = group_above_the_pods();
        report.limits.place = place;
        reporter.kill(&report);
        let shown = own(&reporter, UID).unwrap()["limit_bytes"].clone();
        assert_eq!(shown, if is_shown { json!(12u64 << 30) } else { Value::Null }, "{place:?}");
    }
    // In the pod's own cgroup, as with gVisor: what is above that is not the pod's.
    let reporter = Reporter::default();
    let path = CgroupPath::parse(format!("/kubepods/burstable/pod{UID}").as_bytes()).unwrap();
    let mut report = group_above_the_pods();
    report.limits.place = Place::Parent;
    report.pod = PodCgroup::parse(&path);
    reporter.kill(&KillReport { cgroup: Some(path), ..report });
    assert_eq!(own(&reporter, UID).unwrap()["limit_bytes"], Value::Null);
}

/// Where others' memory is a part of it, it names what the pod may not know.
#[test]
fn a_finding_is_emitted_where_it_is_about_the_pod_alone() {
    for (place, is_shown) in [
        (Place::Container, true),
        (Place::Parent, true),
        (Place::Above, false),
        (Place::Node, false),
    ] {
        let reporter = Reporter::default();
        let mut report = group_above_the_pods();
        report.limits.place = place;
        let finding = Finding {
            text: "One process has most of it: sh (pid 7), 9 MiB.".into(),
            rules: Vec::new(),
        };
        report.scene = Some(Arc::new(Scene { finding: Some(finding), ..Scene::default() }));
        reporter.kill(&report);
        let shown = own(&reporter, UID).unwrap()["finding"].clone();
        let expected = is_shown.then_some("One process has most of it: sh, 9 MiB.");
        assert_eq!(shown, json!(expected), "{place:?}");
    }
}

/// Numbers would say how many kills other pods had.
#[test]
fn a_kills_name_is_stable_and_says_nothing() {
    let reporter = Reporter::default();
    let first = reporter.kill(&group_above_the_pods());
    reporter.kill(&group_above_the_pods());
    let kills = reporter.kills(2);
    let names = KillNames::default();
    assert_eq!(names.of(&kills[0]), names.clone().of(&kills[0]));
    assert_ne!(names.of(&kills[0]), names.of(&kills[1]));
    assert_ne!(names.of(&kills[1]), KillNames::default().of(&kills[1]), "another agent's");
    assert_eq!((names.of(&kills[1]).len(), first), (16, 1));
}
