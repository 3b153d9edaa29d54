//! The port for pods. Pods connect from 127.0.0.1, .2 and so on; the test answers for the core.

use super::*;
use crate::report::requests::PodRequest;
use herder_model::{
    kill::KillReport,
    owner::{ContainerNames, id::PodUid, path::PodCgroup},
    pods::addresses::SelfRefused,
};
use std::{collections::HashMap, net::IpAddr, sync::Mutex};

const UIDS: [&str; 2] =
    ["2c39abf0-f543-4c05-8cfe-3839410aef01", "b9c7824b-74db-45a3-aa84-2934140f7307"];

fn uid(number: usize) -> PodUid {
    PodUid::parse(UIDS[number]).unwrap()
}

/// Whose an address is now.
type Pods = Arc<Mutex<HashMap<u8, Result<PodUid, SelfRefused>>>>;

struct Port {
    server: Server,
    pods: Pods,
}

impl Port {
    /// 127.0.0.1 is the first pod, 127.0.0.2 the second.
    async fn start() -> Self {
        let listeners = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let address = listeners.addresses()[0];
        let (readiness, heartbeat) = (Readiness::default(), Heartbeat::default());
        let (core, commands) = mpsc::channel(1);
        let reporter = Arc::<Reporter>::default();
        let (shown, ready) = (reporter.clone(), readiness.clone());
        let state = State::new(shown, ready, core, heartbeat.clone(), None, "node-1");
        let (asks, mut asked) = mpsc::channel::<PodRequest>(8);
        let pods = Pods::default();
        pods.lock().unwrap().extend([(1, Ok(uid(0))), (2, Ok(uid(1)))]);
        let known = pods.clone();
        tokio::spawn(async move {
            while let Some(PodRequest { address, answer }) = asked.recv().await {
                let IpAddr::V4(ip) = address else { panic!("{address} is not canonical") };
                let found = known.lock().unwrap().get(&ip.octets()[3]).copied();
                let _ = answer.send(found.unwrap_or(Err(SelfRefused::UnknownAddress)));
            }
        });
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(run(listeners, state.for_pods(asks), async {
            let _ = stopped.await;
        }));
        let server = Server { address, readiness, heartbeat, reporter, commands, stop, ended };
        Port { server, pods }
    }

    fn address_is(&self, host: u8, pod: Result<PodUid, SelfRefused>) {
        self.pods.lock().unwrap().insert(host, pod);
    }

    /// A kill in a pod.
    fn kill(&self, number: usize, comm: &str) -> u64 {
        let [namespace, pod, container] = ["shop", "web-0", "worker"].map(str::to_owned);
        let owner = Owner::Container(ContainerNames { namespace, pod, container });
        let mut kill = report(owner, Kind::Subprocess);
        kill.kill.victims[0].comm = comm.into();
        let path = format!("/kubepods/burstable/pod{}/{}", UIDS[number], "a".repeat(64));
        let cgroup = CgroupPath::parse(path.as_bytes()).unwrap();
        let (pod, victim_pods) = (PodCgroup::parse(&cgroup), vec![Some(uid(number))]);
        self.server.reporter.kill(&KillReport { cgroup: Some(cgroup), pod, victim_pods, ..kill })
    }

    async fn get_from(&self, host: u8, path: &str, headers: &str) -> String {
        let rest = format!("Host: x\r\nConnection: close\r\n{headers}\r\n");
        self.server.ask_from(host, &format!("GET {path} HTTP/1.1\r\n{rest}")).await
    }

    /// What a pod is shown, by the names of the victims.
    async fn shown(&self, host: u8) -> Vec<String> {
        let answer = self.get_from(host, "/api/v1/self/kills", "").await;
        has(&answer, 200, "application/json");
        comms(&body(&answer))
    }

    async fn follow(&self, host: u8, headers: &str) -> Followed {
        let mut stream = self.server.connect(host).await;
        let request = format!("GET /api/v1/self/kills/stream HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut followed = Followed { stream, read: Vec::new() };
        followed.until("\r\n\r\n").await;
        followed
    }

    fn refused(&self, reason: &str) -> bool {
        let text = String::from_utf8(self.server.reporter.metrics().exposition().0).unwrap();
        text.contains(&format!("herder_self_refused_total{{reason=\"{reason}\"}} 1\n"))
    }
}

/// The JSON of an answer, in chunks or not.
fn body(answer: &str) -> Value {
    let begin = answer.find("\r\n\r\n").unwrap() + 4;
    let text = &answer[begin..];
    let json: String = text.split("\r\n").filter(|line| line.len() > 5 || *line == "[]").collect();
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn comms(kills: &Value) -> Vec<String> {
    let comm = |kill: &Value| kill["victim"]["comm"].as_str().unwrap().to_owned();
    kills.as_array().unwrap().iter().map(comm).collect()
}

#[tokio::test]
async fn each_pod_sees_its_own_kills_only() {
    let port = Port::start().await;
    assert_eq!(port.shown(1).await, [""; 0]);
    port.kill(0, "pa1");
    port.kill(1, "pb1");
    port.kill(0, "pa2");
    port.server.kill();
    assert_eq!(
        (port.shown(1).await, port.shown(2).await),
        (vec!["pa2".into(), "pa1".into()], vec!["pb1".into()])
    );
    let one = port.get_from(1, "/api/v1/self/kills?limit=1", "").await;
    assert_eq!(comms(&body(&one)), ["pa2"]);
    has(&port.get_from(1, "/api/v1/self/kills?limit=many", "").await, 400, "limit");
    // The next pod with that address.
    port.address_is(1, Ok(uid(1)));
    assert_eq!(port.shown(1).await, ["pb1"]);
}

/// Not even how many kills there are is shown: the numbers of others have gaps.
#[tokio::test]
async fn nothing_else_is_answered_here() {
    let port = Port::start().await;
    port.kill(1, "pb1");
    for path in [
        "/",
        "/metrics",
        "/livez",
        "/readyz",
        "/api/v1/kills",
        "/api/v1/kills/stream",
        "/api/v1/containers",
        "/api/v1/node",
        "/api/v1/self/kills/",
        "//api/v1/self/kills",
    ] {
        let answer = port.get_from(2, path, "").await;
        has(&answer, 404, "/api/v1/self/kills?limit=N");
        assert!(!answer.contains("pb1"), "{answer}");
    }
    let post = "POST /api/v1/self/kills HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    has(&port.server.ask_from(1, post).await, 405, "GET");
    port.kill(0, "pa1");
    let kill = &body(&port.get_from(1, "/api/v1/self/kills", "").await)[0];
    let id = kill["id"].as_str().unwrap();
    assert!(id.len() == 16 && u64::from_str_radix(id, 16).unwrap() > 9, "{id}");
}

#[tokio::test]
async fn who_is_not_known_hears_why_and_when_to_ask_again() {
    let port = Port::start().await;
    port.kill(0, "pa1");
    for (refused, status, again) in [
        (SelfRefused::PodsUnknown, 503, true),
        (SelfRefused::UnknownAddress, 403, true),
        (SelfRefused::HostNetwork, 403, false),
        (SelfRefused::Ambiguous, 503, true),
        (SelfRefused::NotRunning, 503, true),
        (SelfRefused::Busy, 503, true),
    ] {
        port.address_is(1, Err(refused));
        for path in ["/api/v1/self/kills", "/api/v1/self/kills/stream"] {
            let answer = port.get_from(1, path, "").await;
            has(&answer, status, refused.as_str());
            assert_eq!(answer.contains("retry-after: "), again, "{answer}");
            assert!(!answer.contains("pa1"), "{answer}");
        }
    }
    has(&port.get_from(9, "/api/v1/self/kills", "").await, 403, "has the address 127.0.0.9");
}

/// Whatever such a header says, the pod behind the proxy is another one.
#[tokio::test]
async fn a_proxy_is_no_pod_and_its_headers_choose_none() {
    let port = Port::start().await;
    port.kill(0, "pa1");
    port.kill(1, "pb1");
    for (number, header) in [
        "X-Forwarded-For: 127.0.0.2",
        "x-real-ip: 127.0.0.2",
        "Forwarded: for=127.0.0.2",
        "Via: 1.1 x",
    ]
    .iter()
    .enumerate()
    {
        let answer = port.get_from(1, "/api/v1/self/kills", &format!("{header}\r\n")).await;
        has(&answer, 400, "forwarded");
        assert!(!answer.contains("pa1") && !answer.contains("pb1"), "{answer}");
        assert_eq!(port.refused("forwarded"), number == 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_the_pods_kills_from_then_on() {
    let port = Port::start().await;
    port.kill(0, "pa1");
    let mut first = port.follow(1, "").await;
    let mut second = port.follow(2, "").await;
    let number = port.kill(0, "pa2");
    port.kill(1, "pb1");
    let all = first.until("pa2").await;
    assert!(all.contains("event: kill\nid: ") && !all.contains("pa1"), "{all}");
    let owner = Owner::Host { cgroup: CgroupPath::root() };
    port.server.reporter.settled(number, &owner, None, None);
    let all = first.until("event: settled").await;
    let others = second.until("pb1").await;
    assert!(
        !all.contains("pb1") && !others.contains("pa2") && !others.contains("settled"),
        "{others}"
    );
}

#[tokio::test]
async fn a_stream_goes_on_after_the_kill_that_is_named() {
    let port = Port::start().await;
    for comm in ["pa1", "pa2", "pa3"] {
        port.kill(0, comm);
        port.kill(1, "b");
    }
    let kills = body(&port.get_from(1, "/api/v1/self/kills", "").await);
    let id = kills[1]["id"].as_str().unwrap();
    let all = port.follow(1, &format!("Last-Event-ID: {id}\r\n")).await.until("pa3").await;
    assert!(!all.contains("pa2"), "{all}");
    // One of an earlier agent was before all of these.
    let all = port.follow(1, "Last-Event-ID: 0123456789abcdef\r\n").await.until("pa3").await;
    assert!(all.contains("pa1") && !all.contains("\"b\""), "{all}");
    // Another pod's name is none.
    let all = port.follow(2, &format!("Last-Event-ID: {id}\r\n")).await.until("\"b\"").await;
    assert!(!all.contains("pa3"), "{all}");
}

/// What it was about to send comes when the core has time again.
#[tokio::test]
async fn a_stream_loses_nothing_while_the_core_has_no_time() {
    let port = Port::start().await;
    let mut stream = port.follow(1, "").await;
    port.address_is(1, Err(SelfRefused::Busy));
    port.kill(0, "pa1");
    let early = tokio::time::timeout(Duration::from_millis(100), stream.until("pa1")).await;
    assert!(early.is_err(), "it is neither shown nor ended: {early:?}");
    port.address_is(1, Ok(uid(0)));
    assert!(stream.until("pa1").await.contains("pa1"));
}

/// The address goes to another pod while a stream of the first is open.
#[tokio::test(start_paused = true)]
async fn a_stream_ends_before_it_shows_another_pod() {
    let port = Port::start().await;
    let mut stream = port.follow(1, "").await;
    port.kill(0, "pa1");
    stream.until("pa1").await;
    port.address_is(1, Ok(uid(1)));
    port.kill(0, "pa2");
    let all = stream.until("the end").await;
    assert!(!all.contains("pa2"), "{all}");
    // Also if nothing happens.
    let mut stream = port.follow(1, "").await;
    port.address_is(1, Err(SelfRefused::NotRunning));
    let all = stream.until("the end").await;
    assert!(!all.contains(": alive"), "{all}");
}

#[tokio::test]
async fn one_pod_leaves_streams_for_others() {
    let port = Port::start().await;
    let _open = [port.follow(1, "").await, port.follow(1, "").await];
    has(&port.get_from(1, "/api/v1/self/kills/stream", "").await, 503, "busy");
    let mut other = port.follow(2, "").await;
    port.kill(1, "pb1");
    assert!(other.until("pb1").await.contains("pb1"));
    assert!(port.refused("busy"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_asks_without_end_is_refused_and_others_are_not() {
    let port = Port::start().await;
    let mut answered = 0;
    for _ in 0..60 {
        let answer = port.get_from(1, "/api/v1/self/kills", "").await;
        answered += usize::from(answer.starts_with("HTTP/1.1 200"));
    }
    assert!((20..40).contains(&answered), "{answered} of 60 at once");
    assert_eq!(port.shown(2).await, [""; 0], "another pod");
    advance(Duration::from_secs(1)).await;
    assert_eq!(port.shown(1).await, [""; 0], "it has waited");
}

/// Connections of the pod that has most make room.
#[tokio::test(start_paused = true)]
async fn one_pod_cannot_take_anothers_connections() {
    let port = Port::start().await;
    port.kill(1, "pb1");
    let mut own = port.follow(2, "").await;
    // It has been idle for longer than all of the others, which would else be a reason to close it.
    let mut idle = port.server.connect(2).await;
    let keep = "GET /api/v1/self/kills HTTP/1.1\r\nHost: x\r\n\r\n";
    idle.write_all(keep.as_bytes()).await.unwrap();
    let mut idle = Followed { stream: idle, read: Vec::new() };
    idle.until("pb1").await;
    let mut flood = Vec::new();
    for _ in 0..100 {
        let mut stream = port.server.connect(1).await;
        stream.write_all(keep.as_bytes()).await.unwrap();
        flood.push(stream);
        tokio::task::yield_now().await;
    }
    idle.read.clear();
    idle.stream.write_all(keep.as_bytes()).await.unwrap();
    assert!(idle.until("pb1").await.contains("pb1"), "its connection was closed");
    port.kill(1, "pb2");
    assert!(own.until("pb2").await.contains("pb2"));
}

#[tokio::test(start_paused = true)]
async fn a_core_that_does_not_answer_is_busy() {
    let port = Port::start().await;
    let listeners = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let address = listeners.addresses()[0];
    let (core, _never) = mpsc::channel(1);
    let state = State::new(
        port.server.reporter.clone(),
        Readiness::default(),
        mpsc::channel(1).0,
        Heartbeat::default(),
        None,
        "x",
    );
    tokio::spawn(run(listeners, state.for_pods(core), std::future::pending()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /api/v1/self/kills HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    has(&answer, 503, "busy: ");
    assert!(port.refused("busy"));
}
