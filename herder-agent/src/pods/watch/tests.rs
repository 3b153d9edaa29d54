//! The recorded answers of a real API server (kube-apiserver 1.36), byte for byte.

use super::*;
use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::TcpListener,
    path::PathBuf,
    time::Duration,
};

/// Serves recordings, one for each connection, and then the same last one.
fn serve(answers: &[&str]) -> String {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/k8s-wire");
    let mut answers: VecDeque<Vec<u8>> = answers
        .iter()
        .map(|name| std::fs::read(directory.join(format!("{name}.response.raw"))).unwrap())
        .collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0u8; 8192];
            let _ = stream.read(&mut request);
            let answer =
                if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
            let _ = stream.write_all(&answer.unwrap());
        }
    });
    format!("http://{address}")
}

/// What the core is told until it has been told enough.
fn told(answers: &[&str], enough: impl Fn(&[PodEvent]) -> bool) -> (Vec<PodEvent>, Arc<Reporter>) {
    let mut config = Config::new(serve(answers).parse().unwrap());
    config.default_retry = false;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reporter = Arc::<Reporter>::default();
    let events = runtime.block_on(async {
        let (core, mut received) = mpsc::channel(64);
        let client = Client::try_from(config).unwrap();
        let watching = watch(client, "node-1", core.downgrade(), reporter.clone());
        let mut events = Vec::new();
        let collect = async {
            while !enough(&events) {
                if let Some(Command::Pod(event)) = received.recv().await {
                    events.push(event);
                }
            }
        };
        tokio::select! {
            () = watching => panic!("the watch ended"),
            () = collect => {}
            () = tokio::time::sleep(Duration::from_secs(60)) => panic!("only {events:?}"),
        }
        drop(core);
        events
    });
    (events, reporter)
}

fn names(events: &[PodEvent]) -> Vec<String> {
    let name = |event: &PodEvent| match event {
        PodEvent::ListBegin => "[".to_owned(),
        PodEvent::ListEnd => "]".to_owned(),
        PodEvent::Applied(pod) => pod.name.clone(),
        PodEvent::Deleted(_) => "deleted".to_owned(),
    };
    events.iter().map(name).collect()
}

fn listed(events: &[PodEvent]) -> bool {
    events.contains(&PodEvent::ListEnd)
}

fn errors(reporter: &Reporter) -> String {
    let text = String::from_utf8(reporter.metrics().exposition().0).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("herder_api_errors_total"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_list_is_trimmed_to_what_is_used() {
    let (events, _) = told(&["list-pods-node-1-mixed", "watch-pods-node-1"], listed);
    let pods: Vec<&Pod> = events
        .iter()
        .filter_map(|event| if let PodEvent::Applied(pod) = event { Some(pod) } else { None })
        .collect();
    assert_eq!(pods.len(), 6, "{:?}", names(&events));
    assert!(pods.iter().any(|pod| pod.config_hash.is_some()), "a static pod");
    let containers = || pods.iter().flat_map(|pod| &pod.containers);
    assert!(containers().any(|it| it.restarts >= 2 && it.ended.as_deref() == Some("OOMKilled")));
    let ids = containers().filter_map(|it| it.id.as_ref());
    assert!(ids.clone().count() >= 6 && ids.clone().all(|id| id.len() == 64), "plain IDs");
}

#[test]
fn a_watch_tells_kills_restarts_and_deletions() {
    let enough = |events: &[PodEvent]| {
        events.iter().filter(|event| matches!(event, PodEvent::Deleted(_))).count() == 2
    };
    let (events, _) = told(&["list-pods-node-1-mixed", "watch-pods-node-1"], enough);
    let mut pods = crate::pods::Pods::default();
    let now = std::time::Instant::now();
    let restarts: Vec<_> = events.into_iter().flat_map(|event| pods.apply(event, now)).collect();
    assert!(restarts.iter().any(|restart| restart.reason == "OOMKilled"), "{restarts:?}");
    assert!(restarts.iter().all(|restart| restart.times >= 1));
}

/// Errors are counted and asked again, and never end the watch.
#[test]
fn errors_are_counted_and_survived() {
    let table = [
        (&["forbidden-403"][..], "list"),
        (&["unauthorized-401"], "list"),
        (&["throttled-429-list"], "list"),
        (&["list-pods-node-1-mixed", "watch-gone-410"], "watch-error"),
    ];
    for (before, reason) in table {
        let answers = [before, &["list-pods-node-1-mixed", "watch-pods-node-1"]].concat();
        let lists = if before.len() == 1 { 1 } else { 2 };
        let ends = |events: &[PodEvent]| {
            events.iter().filter(|event| **event == PodEvent::ListEnd).count()
        };
        let (_, reporter) = told(&answers, |events| ends(events) == lists);
        let expected = format!("herder_api_errors_total{{reason=\"{reason}\"}} 1");
        assert_eq!(errors(&reporter), expected, "{before:?}");
    }
}

/// The connection ends in mid-stream: the watch goes on from where it was.
#[test]
fn a_killed_server_is_asked_again() {
    let answers = ["list-pods-node-1-mixed", "watch-server-killed", "watch-pods-node-1"];
    let deleted =
        |events: &[PodEvent]| events.iter().any(|event| matches!(event, PodEvent::Deleted(_)));
    let (events, _) = told(&answers, deleted);
    assert!(listed(&events));
}
