//! Real requests over TCP. Time is tokio's and paused: it jumps to the next timer
//! when nothing else is left to do.

use super::{
    places::{NEW, SERVED},
    socket::UNREAD,
    *,
};
use crate::{
    enforce::{ContainerState, States, StatesRequest},
    report::tests::report,
};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    kill::KEPT,
    oom::Kind,
    owner::Owner,
};
use serde_json::Value;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    sync::oneshot,
    time::advance,
};

struct Server {
    address: SocketAddr,
    readiness: Readiness,
    heartbeat: Heartbeat,
    reporter: Arc<Reporter>,
    commands: mpsc::Receiver<StatesRequest>,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let listeners = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let address = listeners.addresses()[0];
        let readiness = Readiness::default();
        let (core, commands) = mpsc::channel(1);
        let reporter = Arc::<Reporter>::default();
        reporter.attached("ebpf");
        let heartbeat = Heartbeat::default();
        let (told, ready) = (reporter.clone(), readiness.clone());
        let state = State::new(told, ready, core, heartbeat.clone(), None, "node-1");
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(run(listeners, state, async {
            let _ = stopped.await;
        }));
        Server { address, readiness, heartbeat, reporter, commands, stop, ended }
    }

    /// Status line and everything after it.
    async fn ask(&self, request: &str) -> String {
        self.ask_from(1, request).await
    }

    /// A connection from 127.0.0.`host`, all of which are this machine.
    async fn connect(&self, host: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, host], 0).into()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    async fn ask_from(&self, host: u8, request: &str) -> String {
        let mut stream = self.connect(host).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A connection that the server resets has said what it had to say.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    }
}

fn has(answer: &str, status: u16, text: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(text), "{answer}");
}

#[tokio::test]
async fn each_endpoint_answers() {
    let server = Server::start().await;
    has(&server.get("/livez").await, 200, "ok");
    has(&server.get("/metrics").await, 200, "herder_build_info{");
    has(&server.get("/api/v1/kills").await, 200, "[]");
    has(&server.get("/api/v1/kills?limit=x").await, 400, "number");
    has(&server.get("/nothing").await, 404, "/metrics");
    has(&server.ask("POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await, 405, "GET, HEAD");
    let head = server.ask("HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn ready_only_when_every_latch_is_released() {
    let server = Server::start().await;
    let (one, other) = (server.readiness.latch("one"), server.readiness.latch("other"));
    has(&server.get("/readyz").await, 503, "one, other");
    one.release();
    drop(other);
    has(&server.get("/readyz").await, 503, "not ready: other\n");
    server.readiness.latch("again").release();
    has(&server.get("/readyz").await, 503, "other");
}

/// Nothing else makes the kubelet end the agent.
#[tokio::test(start_paused = true)]
async fn alive_while_the_core_turns() {
    let server = Server::start().await;
    let _not_ready = server.readiness.latch("one");
    has(&server.get("/livez").await, 200, "ok");
    advance(Duration::from_secs(59)).await;
    has(&server.get("/livez").await, 200, "turned 59 s ago");
    advance(Duration::from_secs(1)).await;
    has(&server.get("/livez").await, 503, "the core's loop has not turned for 60 s");
    server.heartbeat.beat();
    has(&server.get("/livez").await, 200, "turned 0 s ago");
}

/// The body and the header of a page.
fn page(answer: &str) -> (Vec<u64>, Option<&str>) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let kills: Vec<Value> = serde_json::from_str(body).unwrap();
    let next =
        head.lines().find_map(|line| line.strip_prefix("link: <")?.strip_suffix(">; rel=\"next\""));
    (kills.iter().map(|kill| kill["id"].as_u64().unwrap()).collect(), next)
}

#[tokio::test]
async fn kills_come_in_pages() {
    let server = Server::start().await;
    let get = async |query: &str| {
        // In the oldest version of HTTP a body is as it is.
        let path = format!("/api/v1/kills{query}");
        server.ask(&format!("GET {path} HTTP/1.0\r\n\r\n")).await
    };
    assert_eq!(page(&get("").await), (vec![], None));
    (0..KEPT + 5).for_each(|_| server.kill());
    let (all, next) = (get("").await, None);
    assert_eq!(page(&all), ((6..=1005).rev().collect(), next), "all that are kept");
    let table = [
        ("?limit=2", vec![1005, 1004], Some("?limit=2&before=1004")),
        ("?limit=2&before=1004", vec![1003, 1002], Some("?limit=2&before=1002")),
        ("?before=9", vec![8, 7, 6], None),
        ("?limit=3&before=9", vec![8, 7, 6], None),
        ("?limit=2&before=8", vec![7, 6], None),
        ("?limit=2&before=7", vec![6], None),
        ("?limit=2&before=6", vec![], None),
        ("?before=0", vec![], None),
        ("?limit=0", vec![], None),
        ("?limit=1&before=18446744073709551615", vec![1005], Some("?limit=1&before=1005")),
    ];
    for (query, kills, next) in table {
        assert_eq!(page(&get(query).await), (kills, next), "{query}");
    }
    assert_eq!(page(&get("?limit=18446744073709551615").await).0.len(), KEPT);
    for bad in ["?limit=", "?limit=-1", "?before=x", "?limit=18446744073709551616"] {
        has(&server.get(&format!("/api/v1/kills{bad}")).await, 400, "must be numbers");
    }
    let (mut query, mut walked) = ("?limit=300".to_owned(), Vec::new());
    loop {
        let answer = get(&query).await;
        let (kills, next) = page(&answer);
        walked.extend(kills);
        let Some(next) = next else { break };
        query = next.to_owned();
    }
    assert_eq!(walked, (6..=1005).rev().collect::<Vec<_>>());
}

/// A core with so many matched containers.
async fn play_core(
    commands: &mut mpsc::Receiver<StatesRequest>,
    containers: usize,
    answers: usize,
) {
    let mut asked = 0;
    while let Some(StatesRequest { after, most, answer }) = commands.recv().await {
        asked += 1;
        if asked > answers {
            drop(answer);
            continue;
        }
        let first = after.map_or(0, |(_, id)| usize::try_from(id.0).unwrap() + 1);
        let last = (first + most).min(containers);
        let state = |number: usize| ContainerState {
            cgroup: CgroupPath::parse(format!("/c{number}").as_bytes()).unwrap(),
            inner_cgroup: None,
            owner: Owner::Host { cgroup: CgroupPath::root() },
            rule: "rule".into(),
            wanted: 0,
            effective: Some(0),
            first: None,
            obstacle: None,
            explanation: None,
            writes: 1,
            reverts: 0,
        };
        let more = last < containers;
        let next = more.then(|| (CgroupPath::root(), CgroupId(last as u64 - 1)));
        let _ = answer.send(States { states: (first..last).map(state).collect(), next });
    }
}

#[tokio::test]
async fn containers_come_piece_by_piece() {
    for containers in [0, 1, 32, 33, 200] {
        let mut server = Server::start().await;
        let (_, mut none) = mpsc::channel(1);
        std::mem::swap(&mut server.commands, &mut none);
        tokio::spawn(async move { play_core(&mut none, containers, usize::MAX).await });
        let answer = server.ask("GET /api/v1/containers HTTP/1.0\r\n\r\n").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let all: Vec<Value> = serde_json::from_str(body).unwrap();
        let paths: Vec<_> = all.iter().map(|one| one["cgroup"].as_str().unwrap()).collect();
        let expected: Vec<_> = (0..containers).map(|number| format!("/c{number}")).collect();
        assert_eq!(paths, expected);
        assert_eq!(head.contains("content-length"), containers <= 32, "{head}");
    }
}

/// Nobody takes a part of a list for all of it.
#[tokio::test]
async fn a_core_that_stops_answering_breaks_the_answer() {
    let mut server = Server::start().await;
    let (_, mut none) = mpsc::channel(1);
    std::mem::swap(&mut server.commands, &mut none);
    tokio::spawn(async move { play_core(&mut none, 200, 3).await });
    let answer = server.get("/api/v1/containers").await;
    has(&answer, 200, "/c95");
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_core_that_does_not_answer_is_told() {
    let server = Server::start().await;
    has(&server.get("/api/v1/containers").await, 503, "core");
    assert!(!server.commands.is_empty(), "it was asked");
}

#[tokio::test(start_paused = true)]
async fn slow_and_huge_requests_are_cut_and_others_served() {
    let server = Server::start().await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHost:").await.unwrap();
    has(&server.get("/livez").await, 200, "ok");
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    let huge = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024));
    assert!(!server.ask(&huge).await.contains("200 OK"));
    has(&server.ask("nonsense\r\n\r\n").await, 400, "");
}

const LIVEZ: &str = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// What a client may do with a connection that it holds on to.
const HELD: [&str; 5] = [
    "",
    "GET /livez HTTP/1.1\r\nHost:",
    "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /api/v1/kills HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /api/v1/kills HTTP/1.1\r\nHost: x\r\n\r\nGET /api/v1/kills HTTP/1.1\r\nHost: x\r\n\r\n",
];

/// Less than a client gets for its request; more than others may keep a processor.
const SOON: Duration = Duration::from_secs(3);

/// The kubelet, and every pod of the host's network, have the node's address.
#[tokio::test]
async fn probes_of_an_address_get_in_whatever_else_it_holds() {
    let server = Server::start().await;
    (0..KEPT).for_each(|_| server.kill());
    let mut held = Vec::new();
    for held_as in HELD.iter().cycle().take(NEW + SERVED) {
        let mut connection = server.connect(1).await;
        connection.write_all(held_as.as_bytes()).await.unwrap();
        held.push(connection);
        for path in ["/livez", "/readyz", "/metrics"] {
            let asked = async { has(&server.get(path).await, 200, "") };
            timeout(SOON, asked).await.expect(path);
        }
    }
}

/// Also while connections come faster than they are looked at, and where the streams of the
/// address are all taken.
#[tokio::test]
async fn probes_get_in_while_their_address_floods() {
    let server = Arc::new(Server::start().await);
    let mut streams = Vec::new();
    for _ in 0..stream::OF_ONE_ADDRESS {
        streams.push(server.follow("").await);
    }
    has(&server.get("/api/v1/kills/stream").await, 503, "streams of your address");
    let flooding = server.clone();
    let flood = tokio::spawn(async move {
        let mut held = std::collections::VecDeque::new();
        loop {
            let mut connection = flooding.connect(1).await;
            connection.write_all(b"GET /livez HTTP/1.1\r\nHost:").await.unwrap();
            held.push_back(connection);
            if held.len() > 1000 {
                held.pop_front();
            }
        }
    });
    for _ in 0..100 {
        let asked = async { has(&server.ask(LIVEZ).await, 200, "ok") };
        timeout(SOON, asked).await.expect("an answer");
    }
    flood.abort();
    server.kill();
    for mut stream in streams {
        has(&stream.until("data:").await, 200, "event-stream");
    }
}

/// A pod that takes all it can get takes nothing from the kubelet and Prometheus.
#[tokio::test]
async fn one_address_keeps_nobody_out() {
    let server = Server::start().await;
    (0..KEPT).for_each(|_| server.kill());
    let mut slow = server.connect(1).await;
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost:").await.unwrap();
    let mut taken = Vec::new();
    for held_as in HELD.iter().cycle().take(NEW + SERVED).chain([&HELD[1]; NEW]) {
        let mut connection = server.connect(2).await;
        connection.write_all(held_as.as_bytes()).await.unwrap();
        taken.push(connection);
    }
    has(&server.ask_from(2, LIVEZ).await, 200, "ok");
    // One that has no more than its share is none that makes room.
    slow.write_all(b" x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    has(&answer, 200, "ok");
}

/// Many addresses take all places and ask for nothing, or ask and take no answer.
#[tokio::test]
async fn who_comes_is_served_though_all_places_are_taken() {
    let server = Server::start().await;
    let mut taken = Vec::new();
    for address in 10..10 + 2 * u8::try_from(NEW + SERVED).unwrap() {
        let mut idle = server.connect(address).await;
        idle.write_all(b"GET /api/v1/kills HTTP/1.1\r\n").await.unwrap();
        if address % 2 == 0 {
            idle.write_all(b"Host: x\r\n\r\n").await.unwrap();
        }
        taken.push(idle);
        // Before those that came first would be cut for being slow.
        let answer = timeout(HEAD / 2, server.ask_from(1, LIVEZ)).await.unwrap();
        has(&answer, 200, "ok");
    }
    let mut followed = server.follow_from(2, "").await;
    for address in 10..10 + u8::try_from(NEW).unwrap() {
        taken.push(server.connect(address).await);
    }
    has(&timeout(HEAD / 2, server.ask_from(1, LIVEZ)).await.unwrap(), 200, "ok");
    server.kill();
    has(&followed.until("data:").await, 200, "event-stream");
}

/// An end in the midst of a head stays readable for ever, and must keep nothing busy.
#[tokio::test(start_paused = true)]
async fn a_client_that_goes_before_it_has_asked_is_let_go() {
    let server = Server::start().await;
    let began = tokio::time::Instant::now();
    for held_as in HELD.iter().take(2) {
        let mut connection = server.connect(1).await;
        connection.write_all(held_as.as_bytes()).await.unwrap();
        connection.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = connection.read_to_end(&mut rest).await;
        assert_eq!(rest, b"");
    }
    // Who has asked is answered all the same.
    let mut connection = server.connect(1).await;
    connection.write_all(LIVEZ.as_bytes()).await.unwrap();
    connection.shutdown().await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    has(&answer, 200, "ok");
    assert!(began.elapsed() < HEAD, "{:?}", began.elapsed());
}

/// A reader that takes nothing is cut, also where it follows the kills.
#[tokio::test]
async fn who_does_not_read_is_cut() {
    let server = Server::start().await;
    (0..KEPT).for_each(|_| server.kill());
    for path in ["/api/v1/kills", "/api/v1/kills/stream"] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut slow = socket.connect(server.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 1\r\n\r\n");
        slow.write_all(request.as_bytes()).await.unwrap();
        // The server writes until the socket takes no more.
        sleep(Duration::from_millis(200)).await;
        tokio::time::pause();
        advance(UNREAD + Duration::from_secs(1)).await;
        tokio::time::resume();
        let mut part = vec![0; 1 << 20];
        let ends = async { while slow.read(&mut part).await.is_ok_and(|length| length > 0) {} };
        timeout(Duration::from_secs(5), ends).await.expect("the end");
    }
}

#[tokio::test]
async fn it_listens_where_it_is_told_to() {
    let listeners = bind(&["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()]).unwrap();
    let addresses = listeners.addresses();
    let (core, _commands) = mpsc::channel(1);
    let (ready, heartbeat) = (Readiness::default(), Heartbeat::default());
    let state = State::new(Arc::default(), ready, core, heartbeat, None, "node-1");
    tokio::spawn(run(listeners, state, std::future::pending()));
    for address in addresses.iter().chain(&addresses) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(LIVEZ.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        has(&answer, 200, "ok");
    }
}

/// One socket has both families, unless IPv4 has one of its own.
#[tokio::test]
async fn all_addresses_of_ipv6_are_those_of_ipv4_too() {
    let (all, all_of_ipv4) = ("[::]:0".parse().unwrap(), SocketAddr::from(([0, 0, 0, 0], 0)));
    let both = bind(&[all]).unwrap();
    let port = both.addresses()[0].port();
    for address in
        [SocketAddr::from(([127, 0, 0, 1], port)), format!("[::1]:{port}").parse().unwrap()]
    {
        TcpStream::connect(address).await.unwrap();
    }
    drop(both);
    let listed = [SocketAddr::new(all.ip(), port), SocketAddr::new(all_of_ipv4.ip(), port)];
    assert_eq!(bind(&listed).unwrap().addresses(), listed);
    let taken = bind(&listed[1..]).unwrap();
    let error = bind(&listed[..1]).unwrap_err().to_string();
    assert!(error.contains(&format!("[::]:{port}")), "{error}");
    drop(taken);
}

#[tokio::test]
async fn it_ends_when_told_to() {
    let server = Server::start().await;
    has(&server.get("/livez").await, 200, "ok");
    server.stop.send(()).unwrap();
    server.ended.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let server = Server::start().await;
    let error = bind(&[server.address]).unwrap_err().to_string();
    assert!(error.contains(&server.address.to_string()) && error.contains("--listen"), "{error}");
}

/// The page's parts are all here, and nothing else may run in it.
#[tokio::test]
async fn the_page_is_whole_and_strict() {
    let server = Server::start().await;
    let page = server.get("/").await;
    has(&page, 200, "text/html");
    has(&page, 200, "content-security-policy: default-src 'none'; script-src 'self'");
    let parts = page.split(['"', '=']).filter(|part| part.starts_with("page."));
    for part in parts.chain(["page.svg"]) {
        has(&server.get(&format!("/{part}")).await, 200, "nosniff");
    }
    let (_, html) = page.split_once("\r\n\r\n").unwrap();
    for inline in ["<style", "style=", "onclick", "onload", "javascript:", "http:", "https:"] {
        assert!(!html.contains(inline), "{inline}");
    }
    assert_eq!(html.matches("<script").count(), html.matches("<script src=\"page.js\"").count());
    let script = include_str!("page/page.js");
    // A proxy may have the page below a path.
    for path in ["/page.", "/api/", "/metrics"] {
        for quote in ['"', '\'', '`', '='] {
            let root = format!("{quote}{path}");
            assert!(!html.contains(&root) && !script.contains(&root), "{root}");
        }
    }
    for markup in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("] {
        assert!(!script.contains(markup), "{markup}");
    }
    has(&server.get("/api/v1/node").await, 200, r#""node":"node-1""#);
}

impl Server {
    fn kill(&self) {
        let cgroup = CgroupPath::parse(b"/c").unwrap();
        self.reporter.kill(&report(Owner::Host { cgroup }, Kind::Subprocess));
    }

    async fn follow(&self, headers: &str) -> Followed {
        self.follow_from(1, headers).await
    }

    async fn follow_from(&self, host: u8, headers: &str) -> Followed {
        let mut stream = self.connect(host).await;
        let request = format!("GET /api/v1/kills/stream HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut followed = Followed { stream, read: Vec::new() };
        followed.until("\r\n\r\n").await;
        followed
    }
}

/// A stream, and all that has come of it.
struct Followed {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Followed {
    /// Reads until a text has come, or the end.
    async fn until(&mut self, text: &str) -> String {
        let mut part = [0; 4096];
        loop {
            let all = String::from_utf8_lossy(&self.read).into_owned();
            let length =
                if all.contains(text) { 0 } else { self.stream.read(&mut part).await.unwrap_or(0) };
            if length == 0 {
                return all;
            }
            self.read.extend_from_slice(&part[..length]);
        }
    }
}

#[tokio::test]
async fn a_stream_tells_each_kill_and_ends_with_the_server() {
    let server = Server::start().await;
    server.kill();
    let mut stream = server.follow("").await;
    server.kill();
    let text = stream.until("4711").await;
    assert!(text.contains("event: kill\nid: 2\ndata: {") && !text.contains("id: 1\n"), "{text}");
    let mut again = server.follow("Last-Event-ID: 1\r\n").await;
    assert!(again.until("4711").await.contains("id: 2\n"), "what it missed meanwhile");
    let mut anew = server.follow("Last-Event-ID: 700\r\n").await;
    assert!(anew.until("id: 2\n").await.contains("id: 1\n"), "of an agent before this one");
    server.stop.send(()).unwrap();
    server.ended.await.unwrap();
    assert!(stream.until("never").await.ends_with("0\r\n\r\n"), "a whole answer");
}

/// Other connections end after a minute.
#[tokio::test(start_paused = true)]
async fn a_quiet_stream_is_kept_alive_until_its_own_limit() {
    let server = Server::start().await;
    let began = tokio::time::Instant::now();
    let mut stream = server.follow("").await;
    let rest = stream.until("never").await;
    assert!(rest.matches(": alive").count() > 200, "{}", rest.len());
    assert!(rest.ends_with("0\r\n\r\n"), "a whole answer");
    assert!(began.elapsed() >= stream::LONGEST);
}

#[tokio::test]
async fn a_slow_client_is_told_what_it_missed() {
    let server = Server::start().await;
    let mut stream = server.follow("").await;
    // One thread: the server has no turn before the client reads.
    let all = KEPT + 36;
    (0..all).for_each(|_| server.kill());
    let text = stream.until(&format!("id: {all}\n")).await;
    assert!(text.contains("event: missed\ndata: {\"missed\":36}\n\n"), "{text}");
    assert!(!text.contains("id: 36\n") && text.contains("id: 37\n"), "{text}");
    let mut late = server.follow("Last-Event-ID: 6\r\n").await;
    assert!(late.until("id: 37\n").await.contains("{\"missed\":30}"));
}

#[tokio::test]
async fn streams_are_few_and_a_closed_one_makes_room() {
    let server = Server::start().await;
    let mut streams = Vec::new();
    for host in (2..).take(stream::STREAMS) {
        streams.push(server.follow_from(host, "").await);
    }
    has(&server.get("/api/v1/kills/stream").await, 503, "streams are open already");
    has(&server.get("/livez").await, 200, "ok");
    drop(streams);
    // A closed connection is noticed when something is written to it.
    while !server.follow("").await.until("\r\n\r\n").await.starts_with("HTTP/1.1 200") {
        server.kill();
    }
}
