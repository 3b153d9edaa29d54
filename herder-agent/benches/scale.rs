//! What a cluster's agents ask of the API server and of Prometheus, by the agent's own
//! code: series of a node, and requests for Events when everything is killed at once.
//! Prints figures for docs/scale.md; `cargo bench -p herder-agent --bench scale`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark says what it found"
)]

use herder_agent::inside::{
    kubernetes::events::{
        About, Occurrence, Reason,
        correlate::{Correlator, UPDATE_EVERY},
        gate::{Gate, Pass},
    },
    report::Reporter,
};
use herder_model::{
    cgroup::CgroupId,
    clock::Monotonic,
    kill::KillReport,
    oom::{Kind, Limit, OomKill, Victim, event::Means},
    owner::{ContainerNames, Owner, id::PodUid},
    pods::{ContainerKind, wire::PodObject},
};
use std::time::{Duration, Instant as StdInstant};
use tokio::time::Instant;

const NODES: usize = 5_000;
/// The kubelet's own limit.
const PODS: usize = 110;
const CONTAINERS: usize = 2;

fn main() {
    println!("{NODES} nodes, {PODS} pods of {CONTAINERS} containers on each");
    series();
    for every in [10, 60, 600] {
        events(Duration::from_secs(every));
    }
    pods();
}

fn owner(pod: usize, container: usize) -> Owner {
    Owner::Container(ContainerNames {
        namespace: format!("team-{}", pod % 20),
        pod: format!("deployment-{}-59f689d69-{pod:05}", pod % 40),
        container: format!("container-{container}"),
    })
}

fn report(owner: Owner, kind: Kind) -> KillReport {
    let victims = vec![Victim::nameless(CgroupId(1), Monotonic::ZERO)];
    KillReport::new(owner, kind, Limit::Container, OomKill { victims, ..OomKill::default() })
}

/// Series and bytes of one node's scrape: nothing matched, all matched, all killed in each
/// of the ways.
fn series() {
    let reporter = Reporter::default();
    reporter.attached("ebpf", Means::Functions);
    let all = || (0..PODS).flat_map(|pod| (0..CONTAINERS).map(move |one| owner(pod, one)));
    let measure = |what: &str| {
        let began = StdInstant::now();
        let (text, _) = reporter.metrics().exposition();
        let took = began.elapsed();
        let count = String::from_utf8_lossy(&text).lines().filter(|l| !l.starts_with('#')).count();
        println!(
            "{what}: {count} series, {} bytes a scrape, written in {:.1} ms; {:.1} million in the cluster",
            text.len(),
            took.as_secs_f64() * 1e3,
            (count * NODES) as f64 / 1e6
        );
    };
    measure("no rule matches");
    for owner in all() {
        reporter.oom_group_effective(&owner, Some(false), false);
    }
    measure("every container is matched");
    for kind in [Kind::Subprocess, Kind::Init, Kind::Group] {
        for owner in all() {
            reporter.kill(&report(owner, kind));
        }
    }
    measure("and was killed as sub-process, init and group");
}

/// Requests of one node for an hour in which each pod has a kill every so often.
fn events(every: Duration) {
    let (mut gate, mut correlator) = (Gate::default(), Correlator::default());
    let (mut at_once, mut minute, mut hour, mut kills) = (0, 0, 0, 0usize);
    let (begin, time) = (Instant::now(), jiff::Timestamp::now());
    for second in 0..3600 {
        let now = begin + Duration::from_secs(second);
        let mut asked = 0;
        if second % every.as_secs() == 0 {
            for pod in 0..PODS {
                let uid = format!("2c39abf0-f543-4c05-8cfe-{pod:012}");
                let about = About {
                    namespace: "shop".into(),
                    pod: format!("pod-{pod}").into(),
                    uid: PodUid::parse(&uid).unwrap(),
                    container: Some((ContainerKind::Regular, "main".into())),
                };
                let text = format!("Process worker (pid {kills}) was killed");
                kills += 1;
                let reason = Reason::SubprocessOomKilled;
                if let Pass::Emit(suppressed) = gate.pass(about.uid, "main", reason, time, now) {
                    let occurrence = Occurrence::new(about, reason, text);
                    asked +=
                        usize::from(correlator.correlate(occurrence, suppressed, now).is_some());
                }
            }
        }
        if second % UPDATE_EVERY.as_secs() == 0 {
            for one in correlator.behind() {
                let due = now >= one.at + UPDATE_EVERY;
                asked += usize::from(due && correlator.catch_up(one, now).is_some());
            }
        }
        at_once += if second == 0 { asked } else { 0 };
        minute += if second < 60 { asked } else { 0 };
        hour += asked;
    }
    println!(
        "a kill in each pod every {} s: {kills} kills of a node in an hour, {at_once} requests at once, {minute} in a minute, {hour} in an hour; {} a second in the cluster over the hour",
        every.as_secs(),
        hour * NODES / 3600
    );
}

/// What the API server sends for a pod.
fn pods() {
    let raw = include_str!("../tests/fixtures/k8s-wire/list-pods-node-1-mixed.body");
    let list: serde_json::Value = serde_json::from_str(raw).unwrap();
    let items = list.get("items").and_then(serde_json::Value::as_array).unwrap();
    let sent: usize = items.iter().map(|item| item.to_string().len()).sum();
    let read = items.iter().filter_map(|item| {
        let object: PodObject = serde_json::from_str(&item.to_string()).ok()?;
        object.trim()
    });
    println!(
        "a recorded pod is {} bytes of JSON on average ({} of {} are read); the list of a node {} KiB, of all nodes {} MiB",
        sent / items.len(),
        read.count(),
        items.len(),
        sent / items.len() * PODS / 1024,
        (sent / items.len() * PODS * NODES) >> 20
    );
}
