use super::*;
use herder_model::{
    cgroup::CgroupId,
    clock::Monotonic,
    kill::{KEPT, KillReport},
    oom::{
        Kind, Limit, OomKill, Trigger, Victim,
        limit::{Limits, Memory, Place},
    },
    owner::{id::ContainerId, path::PodCgroup},
    pods::restarts::Reason,
};

/// A kill of one process.
pub(crate) fn report(owner: Owner, kind: Kind) -> KillReport {
    let victim = Victim {
        tid: 4711,
        tgid: 4711,
        comm: "hog".into(),
        ..Victim::nameless(CgroupId(1), Monotonic::ZERO)
    };
    let trigger = Trigger { tid: 1, tgid: 1, cgroup: CgroupId(1), comm: "x".into() };
    let kill = OomKill { victims: vec![victim], trigger: Some(trigger), ..OomKill::default() };
    KillReport::new(owner, kind, Limit::Container, kill)
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
    let fields = |at: usize| {
        ["pod_uid", "qos_class", "container_id", "runtime", "restarted"]
            .map(|key| records[at][key].as_str().unwrap_or("-").to_owned())
    };
    assert_eq!(fields(1), [UID, "Burstable", &id('a').to_string(), "cri-o", "-"]);
    assert_eq!(fields(0), ["-"; 5], "of an unknown cgroup");
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
    let fields = |at: usize| {
        ["limit_bytes", "limit_cgroup", "container_limit_bytes"].map(|key| records[at][key].clone())
    };
    let expected = serde_json::json!([120 << 20, "/kubepods/pod", 60 << 20]);
    assert_eq!(serde_json::json!(fields(1)), expected);
    assert!(fields(0).iter().all(serde_json::Value::is_null), "not read");
}

#[test]
fn a_restart_is_tied_to_the_kill_that_ended_the_incarnation() {
    let reporter = Reporter::default();
    let kill = |letter, kind| {
        let path = format!("/kubepods/pod{UID}/{}", id(letter));
        let cgroup = CgroupPath::parse(path.as_bytes()).ok();
        let pod = cgroup.as_ref().and_then(PodCgroup::parse);
        reporter.kill(&KillReport { cgroup, pod, ..report(Owner::Container(names()), kind) })
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
    let survived = kill('b', Kind::Subprocess);
    reporter.settled(survived, &Owner::Container(names()), None, None);
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

/// systemd may stop a container at the first kill, or its program may end by itself.
#[test]
fn a_subprocess_may_take_its_container_along() {
    let reporter = Reporter::default();
    let owner = Owner::Container(names());
    let path = format!("/kubepods/pod{UID}/{}", id('a'));
    let cgroup = CgroupPath::parse(path.as_bytes()).ok();
    let pod = cgroup.as_ref().and_then(PodCgroup::parse);
    let report_of =
        |kind| KillReport { cgroup: cgroup.clone(), pod, ..report(owner.clone(), kind) };
    let kill = |kind| reporter.kill(&report_of(kind));
    let survived = || {
        let kills = serde_json::to_value(reporter.kills(9)).unwrap();
        let kills = kills.as_array().unwrap().iter().rev();
        kills.map(|kill| kill["survived"].clone()).collect::<Vec<_>>()
    };
    let (first, second) = (kill(Kind::Subprocess), kill(Kind::Subprocess));
    let (third, init) = (kill(Kind::Subprocess), kill(Kind::Init));
    let null = serde_json::Value::Null;
    assert_eq!(survived(), [null.clone(), null.clone(), null.clone(), false.into()]);
    assert!(reporter.settled(init, &owner, None, None).is_none(), "it is known from the start");
    reporter.settled(first, &owner, None, None).unwrap();
    let ended = reporter.settled(second, &owner, Some(Duration::from_millis(300)), None).unwrap();
    assert_eq!(ended.ended_seconds, Some(0.3));
    assert_eq!(survived(), [true.into(), false.into(), null, false.into()]);
    let text = String::from_utf8(reporter.metrics().exposition().0).unwrap();
    let series =
        r#"herder_oom_kills_survived_total{container="worker",namespace="shop",pod="web-0"} 1"#;
    assert!(text.contains(series), "{text}");
    // Followers get each once, in the order in which it became known.
    let settled = |place| reporter.settled_after(place).map(|(place, kill)| (place, kill.id));
    assert_eq!([0, 1, 2].map(settled), [Some((1, first)), Some((2, second)), None]);
    // A restart says that the container has ended, before its cgroup does.
    let restart =
        RestartSeen { names: names(), reason: Reason::Error, times: 1, ended: Some(id('a')) };
    let reporter = Reporter::default();
    reporter.kill(&report_of(Kind::Subprocess));
    reporter.restart(&restart);
    let kill = &reporter.kills(1)[0];
    assert_eq!((kill.survived, kill.restarted.is_some()), (Some(false), true));
    // Followers get it, once.
    reporter.restart(&restart);
    assert_eq!(reporter.settled_after(0).map(|(place, kill)| (place, kill.id)), Some((1, kill.id)));
    assert_eq!(reporter.last_settled(), 1);
    assert_eq!(third, 3);
}

/// A follower that is far behind gets those that are kept.
#[test]
fn what_became_of_containers_is_bounded() {
    let reporter = Reporter::default();
    let owner = Owner::Container(names());
    for number in 1..=3 * KEPT as u64 {
        assert_eq!(reporter.kill(&report(owner.clone(), Kind::Subprocess)), number);
        assert!(reporter.settled(number, &owner, None, None).is_some());
    }
    let (place, kill) = reporter.settled_after(7).unwrap();
    assert_eq!((place, kill.id), (2001, 2001));
    assert_eq!(reporter.last_settled(), 3000);
    assert!(reporter.settled_after(3000).is_none());
}
