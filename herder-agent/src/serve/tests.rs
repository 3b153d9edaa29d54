//! Real requests over TCP. Time is tokio's and paused: it jumps to the next timer
//! when nothing else is left to do.

use super::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
};

struct Server {
    address: SocketAddr,
    readiness: Readiness,
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
        let state = State::new(Arc::default(), readiness.clone(), core, None);
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(run(listener, state, async {
            let _ = stopped.await;
        }));
        Server { address, readiness, commands, stop, ended }
    }

    /// Status line and everything after it.
    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // A connection that the server resets has said what it had to say.
        let _ = stream.read_to_string(&mut answer).await;
        answer
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
