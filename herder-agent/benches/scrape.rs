//! How long a scrape of 10,000 series takes, with the agent's own reporter and server
//! on this machine. `cargo xtask bench --only scrape` keeps what it prints.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement says what it found"
)]

use herder_agent::{
    report::{Reporter, heartbeat::Heartbeat},
    serve::{self, Readiness, State},
};
use herder_model::{
    cgroup::CgroupId,
    clock::Monotonic,
    kill::KillReport,
    oom::{Domain, Kind, Limit, OomKill, Victim, limit::Limits},
    owner::{ContainerNames, Owner},
};
use serde_json::{Value, json};
use std::{
    future::pending,
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    thread,
    time::Instant,
};
use tokio::{runtime::Builder, sync::mpsc};

/// Pods with one container each, which has fifteen series.
const PODS: usize = 750;

const KINDS: [Kind; 3] = [Kind::Subprocess, Kind::Init, Kind::Group];

/// Scrapes that are timed.
const TIMES: usize = 500;

fn kill(owner: &Owner, kind: Kind) -> KillReport {
    KillReport {
        pod: None,
        kill: OomKill {
            victims: vec![Victim::nameless(CgroupId(1), Monotonic::ZERO)],
            trigger: None,
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
        victim_owners: vec![owner.clone()],
        rule: Some("web".into()),
    }
}

/// A reporter with kills of each kind in each pod.
fn reporter() -> Arc<Reporter> {
    let reporter = Arc::new(Reporter::default());
    for number in 0..PODS {
        let owner = Owner::Container(ContainerNames {
            namespace: format!("team-{}", number % 40),
            pod: format!("checkout-service-7d9c5b8f6d-{number:05}"),
            container: "worker".into(),
        });
        for kind in KINDS {
            reporter.kill(&kill(&owner, kind));
        }
        reporter.oom_group_effective(&owner, Some(false), false);
    }
    reporter
}

fn scrape(address: std::net::SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    // In the oldest version of HTTP an answer ends with its connection.
    write!(stream, "GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Milliseconds of each of many runs.
fn timed(mut run: impl FnMut()) -> Value {
    let mut all: Vec<_> = (0..TIMES)
        .map(|_| {
            let began = Instant::now();
            run();
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    all.sort_by(f64::total_cmp);
    let at = |thousandths: usize| all[(TIMES * thousandths / 1000).min(TIMES - 1)];
    json!({"count": TIMES, "least": at(0), "median": at(500), "p90": at(900), "p99": at(990), "most": at(1000)})
}

fn main() {
    let reporter = reporter();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let listeners = runtime.block_on(async { serve::bind(&[([127, 0, 0, 1], 0).into()]) }).unwrap();
    let address = listeners.addresses()[0];
    // Nobody asks the core here.
    let (core, _commands) = mpsc::channel(1);
    let (ready, heartbeat) = (Readiness::default(), Heartbeat::default());
    let state = State::new(reporter.clone(), ready, core, heartbeat, None, "node-1");
    thread::spawn(move || runtime.block_on(serve::run(listeners, state, pending())));
    let answer = scrape(address);
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let series = body.lines().filter(|line| !line.starts_with('#')).count();
    let encode = timed(|| drop(reporter.metrics().exposition()));
    let get = timed(|| drop(scrape(address)));
    let figures = json!({
        "pods": PODS, "series": series, "bytes": body.len(), "encode": encode, "GET /metrics": get,
    });
    println!("{figures}");
}
