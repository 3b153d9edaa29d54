//! Real requests over TCP. Time is tokio's and paused: it jumps to the next timer
//! when nothing else is left to do.

mod endpoints;
mod listening;
mod lists;
mod own;
mod places;
mod streams;

use super::{
    places::{NEW, SERVED},
    socket::UNREAD,
    *,
};
use crate::{
    enforce::{ContainerState, States},
    report::{requests::StatesRequest, tests::report},
};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    kill::KEPT,
    oom::{Kind, event::Means},
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
        Self::start_with(Arc::default(), false).await
    }

    /// With what was reported before; `is_local` says that only this machine can connect.
    async fn start_with(reporter: Arc<Reporter>, is_local: bool) -> Self {
        let listeners = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let address = listeners.addresses()[0];
        let readiness = Readiness::default();
        let (core, commands) = mpsc::channel(1);
        reporter.attached("ebpf", Means::Functions);
        let heartbeat = Heartbeat::default();
        let (shared, ready) = (reporter.clone(), readiness.clone());
        let state = State::new(shared, ready, core, heartbeat.clone(), None, "node-1");
        let state = state.local(is_local);
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

/// As long as this lives, a paused clock stands still, although nothing but sockets is waited for:
/// tokio moves no clock while a blocking task is under way.
fn standing_clock() -> std::sync::mpsc::Sender<()> {
    let (hold, held) = std::sync::mpsc::channel();
    tokio::task::spawn_blocking(move || held.recv());
    hold
}

fn has(answer: &str, status: u16, text: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(text), "{answer}");
}

const LIVEZ: &str = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

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
