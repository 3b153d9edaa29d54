use super::*;
use crate::{
    attribution::id::ContainerId,
    cgroup::CgroupId,
    oom::{
        Domain, Trigger, Victim,
        limit::{Memory, Place},
    },
    pods::restarts::Reason,
};

/// A kill of one process.
pub(crate) fn report(owner: Owner, kind: Kind) -> KillReport {
    let victim = Victim {
        time: 0,
        tid: 4711,
        tgid: 4711,
        ns_pid: None,
        start_boottime: 0,
        cgroup: CgroupId(1),
        parent_cgroup: None,
        memory_cgroup: None,
        is_outside: false,
        comm: "hog".into(),
        uid: 0,
        oom_score_adj: None,
        sizes: None,
    };
    let trigger = Trigger { tid: 1, tgid: 1, cgroup: CgroupId(1), comm: "x".into() };
    KillReport {
        pod: None,
        kill: OomKill {
            victims: vec![victim],
            trigger: Some(trigger),
            domain: Domain::Unknown,
            group: None,
            group_cgroup: None,
            ended: None,
        },
        kind,
        ends: kind != Kind::Subprocess,
        group: None,
        limit: Limit::Container,
        limits: Limits::default(),
        owner: owner.clone(),
        cgroup: None,
        victim_owners: vec![owner],
        rule: None,
    }
}

const UID: &str = "2c39abf0-f543-4c05-8cfe-3839410aef01";

fn id(letter: char) -> ContainerId {
    ContainerId::parse(&letter.to_string().repeat(64)).unwrap()
}

fn names() -> ContainerNames {
    let [namespace, pod, container] = ["shop", "web-0", "worker"].map(str::to_owned);
    ContainerNames { namespace, pod, container }
}

#[test]
fn a_record_says_what_the_path_says() {
    let reporter = Reporter::default();
    let owner = Owner::Container(names());
    let path = format!("/kubepods/burstable/pod{UID}/crio-{}/below", id('a'));
    let cgroup = CgroupPath::parse(path.as_bytes()).ok();
    let pod = cgroup.as_ref().and_then(PodCgroup::parse);
    reporter.kill(&KillReport { cgroup, pod, ..report(owner.clone(), Kind::Init) });
    reporter.kill(&report(owner, Kind::Init));
    let records = serde_json::to_value(reporter.kills(2)).unwrap();
    let told = |at: usize| {
        ["pod_uid", "qos_class", "container_id", "runtime", "restarted"]
            .map(|key| records[at][key].as_str().unwrap_or("-").to_owned())
    };
    assert_eq!(told(1), [UID, "Burstable", &id('a').to_string(), "cri-o", "-"]);
    assert_eq!(told(0), ["-"; 5], "of an unknown cgroup");
}

/// The limit that the kernel hit, and the container's own.
#[test]
fn a_record_has_the_numbers_of_both_limits() {
    let reporter = Reporter::default();
    let limits = Limits {
        place: Place::Parent,
        cgroup: CgroupPath::parse(b"/kubepods/pod").ok(),
        bytes: Some(120 << 20),
        container: Some(Memory { limit: Some(60 << 20), ..Memory::default() }),
        ..Limits::default()
    };
    let kill = report(Owner::Container(names()), Kind::Subprocess);
    reporter.kill(&KillReport { limits, ..kill.clone() });
    reporter.kill(&kill);
    let records = serde_json::to_value(reporter.kills(2)).unwrap();
    let told = |at: usize| {
        ["limit_bytes", "limit_cgroup", "container_limit_bytes"].map(|key| records[at][key].clone())
    };
    let expected = serde_json::json!([120 << 20, "/kubepods/pod", 60 << 20]);
    assert_eq!(serde_json::json!(told(1)), expected);
    assert!(told(0).iter().all(serde_json::Value::is_null), "not read");
}

#[test]
fn a_restart_is_tied_to_the_kill_that_ended_the_incarnation() {
    let reporter = Reporter::default();
    let kill = |letter, kind| {
        let path = format!("/kubepods/pod{UID}/{}", id(letter));
        let cgroup = CgroupPath::parse(path.as_bytes()).ok();
        let pod = cgroup.as_ref().and_then(PodCgroup::parse);
        reporter.kill(&KillReport { cgroup, pod, ..report(Owner::Container(names()), kind) });
    };
    let restart = |ended, reason| {
        reporter.restart(&RestartSeen { names: names(), reason, times: 1, ended });
        // The kills from the oldest to the newest.
        let records = serde_json::to_value(reporter.kills(9)).unwrap();
        let records = records.as_array().unwrap().iter().rev();
        let reason = |record: &serde_json::Value| record["restarted"]["reason"].clone();
        records.map(|record| reason(record).as_str().unwrap_or("-").to_owned()).collect::<Vec<_>>()
    };
    kill('a', Kind::Init);
    kill('b', Kind::Subprocess);
    kill('c', Kind::Subprocess);
    kill('c', Kind::Group);
    assert_eq!(restart(None, Reason::Unknown), ["-", "-", "-", "-"]);
    assert_eq!(restart(Some(id('d')), Reason::OomKilled), ["-", "-", "-", "-"], "not seen");
    assert_eq!(restart(Some(id('b')), Reason::Error), ["-", "-", "-", "-"], "it lived on");
    let expected = ["-", "-", "-", "OOMKilled"];
    assert_eq!(restart(Some(id('c')), Reason::OomKilled), expected);
    let expected = ["OOMKilled", "-", "-", "OOMKilled"];
    assert_eq!(restart(Some(id('a')), Reason::OomKilled), expected);
}
