//! Real requests over TCP. Time is tokio's and paused: it jumps to the next timer
//! when nothing else is left to do.

use super::*;
use crate::{attribution::Owner, cgroup::CgroupPath, oom::Kind, report::tests::report};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    sync::oneshot,
};

struct Server {
    address: SocketAddr,
    readiness: Readiness,
    reporter: Arc<Reporter>,
    commands: mpsc::Receiver<Command>,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let readiness = Readiness::default();
        let (core, commands) = mpsc::channel(1);
        let reporter = Arc::<Reporter>::default();
        reporter.attached("ebpf");
        let state = State::new(reporter.clone(), readiness.clone(), core, None, "node-1");
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(run(listener, state, async {
            let _ = stopped.await;
        }));
        Server { address, readiness, reporter, commands, stop, ended }
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

/// A pod that takes all it can get takes nothing from the kubelet and Prometheus.
#[tokio::test]
async fn one_address_gets_a_share_and_others_are_served() {
    let server = Server::start().await;
    let mut taken = Vec::new();
    for _ in 0..peers::OF_ONE_ADDRESS {
        taken.push(server.follow_from(2, "").await);
    }
    for _ in 0..50 {
        has(&server.ask_from(2, LIVEZ).await, 503, "connections of your address");
    }
    for path in ["/livez", "/metrics", "/", "/api/v1/kills"] {
        has(&server.get(path).await, 200, "");
    }
    taken.push(server.follow("").await);
    has(&taken.pop().unwrap().until("retry").await, 200, "event-stream");
    // Those that go make room.
    taken.truncate(1);
    while !server.ask_from(2, LIVEZ).await.starts_with("HTTP/1.1 200") {
        server.kill();
    }
    server.stop.send(()).unwrap();
    server.ended.await.unwrap();
}

/// Many addresses take all places and ask for nothing, or ask and take no answer.
#[tokio::test]
async fn who_comes_is_served_though_all_places_are_taken() {
    let server = Server::start().await;
    let mut taken = Vec::new();
    for address in 10..10 + 3 * u8::try_from(CONNECTIONS).unwrap() {
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
    for address in 10..10 + u8::try_from(CONNECTIONS).unwrap() {
        taken.push(server.connect(address).await);
    }
    has(&timeout(HEAD / 2, server.ask_from(1, LIVEZ)).await.unwrap(), 200, "ok");
    server.kill();
    has(&followed.until("data:").await, 200, "event-stream");
}

#[test]
fn addresses_are_counted_apart_and_forgotten() {
    let peers = Peers::default();
    let address = |text: &str| text.parse().unwrap();
    let mut places: Vec<_> =
        (0..peers::OF_ONE_ADDRESS).map(|_| peers.enter(address("10.0.0.1")).unwrap()).collect();
    assert!(peers.enter(address("10.0.0.1")).is_none());
    assert!(peers.enter(address("::ffff:10.0.0.1")).is_none(), "the same, on an IPv6 socket");
    assert!(peers.enter(address("10.0.0.2")).is_some());
    places.pop();
    assert!(peers.enter(address("10.0.0.1")).is_some());
    places.clear();
    assert_eq!(peers.addresses(), 0);
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
    let error = bind(server.address).await.unwrap_err().to_string();
    assert!(error.contains(&server.address.to_string()) && error.contains("--listen"), "{error}");
}

/// The page's parts are all here, and nothing else may run in it.
#[tokio::test]
async fn the_page_is_whole_and_strict() {
    let server = Server::start().await;
    let page = server.get("/").await;
    has(&page, 200, "text/html");
    has(&page, 200, "content-security-policy: default-src 'none'; script-src 'self'");
    for part in page.split(['"', '=']).filter(|part| part.starts_with("/page.")) {
        has(&server.get(part).await, 200, "nosniff");
    }
    let (_, html) = page.split_once("\r\n\r\n").unwrap();
    for inline in ["<style", "style=", "onclick", "onload", "javascript:", "http:", "https:"] {
        assert!(!html.contains(inline), "{inline}");
    }
    assert_eq!(html.matches("<script").count(), html.matches("<script src=\"/page.js\"").count());
    let script = include_str!("page/page.js");
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
    (0..100).for_each(|_| server.kill());
    let text = stream.until("id: 100\n").await;
    assert!(text.contains("event: missed\ndata: {\"missed\":36}\n\n"), "{text}");
    assert!(!text.contains("id: 36\n") && text.contains("id: 37\n"), "{text}");
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
