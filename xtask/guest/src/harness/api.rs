//! An API server of the test: a thread that streams pods to clients that watch, and takes Events.

use super::wait::eventually;
use serde_json::{Value, json};
use std::{
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// An API server with some pods.
pub struct Api {
    watches: Arc<Mutex<Vec<TcpStream>>>,
    events: Arc<Mutex<Vec<Value>>>,
    away: Arc<AtomicBool>,
}

impl Api {
    /// One with a single pod.
    pub fn start(pod: &Value) -> Self {
        Self::serve(std::slice::from_ref(pod))
    }

    /// One with these pods, at the address that the agent's configuration then has, and at all
    /// others of the machine.
    pub fn serve(pods: &[Value]) -> Self {
        let listener = TcpListener::bind("0.0.0.0:6443").unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {
                "server": "http://127.0.0.1:6443", "certificate-authority": "/tmp/ca.pem"
            }}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
            "users": [{"name": "c", "user": {}}]
        });
        // The client wants some authority, although it then talks plain HTTP.
        fs::write("/tmp/ca.pem", include_str!("../../../../herder-agent/tests/fixtures/ca.pem"))
            .unwrap();
        fs::write("/tmp/kubeconfig", config.to_string()).unwrap();
        let api = Api { watches: Arc::default(), events: Arc::default(), away: Arc::default() };
        let (watches, events, away) = (api.watches.clone(), api.events.clone(), api.away.clone());
        let first = pods.to_vec();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                if away.load(Ordering::Relaxed) {
                    refuse(&mut stream);
                } else {
                    answer(stream, &first, &watches, &events);
                }
            }
        });
        api
    }

    /// Waits for an Event of this reason.
    pub fn event(&self, reason: &str) -> Value {
        eventually(reason, || !self.events(reason).is_empty());
        self.events(reason).remove(0)
    }

    /// Events of this reason that were written.
    pub fn events(&self, reason: &str) -> Vec<Value> {
        let events = self.events.lock().unwrap();
        events.iter().filter(|event| event["reason"] == reason).cloned().collect()
    }

    /// Cuts all watches, and refuses whatever is asked.
    pub fn go_away(&self) {
        self.away.store(true, Ordering::Relaxed);
        self.cut();
    }

    /// Ends all watches.
    pub fn cut(&self) {
        self.watches.lock().unwrap().clear();
    }

    pub fn come_back(&self) {
        self.away.store(false, Ordering::Relaxed);
    }

    /// Pushes a changed pod to the clients that watch.
    pub fn modified(&self, pod: &Value) {
        self.push("MODIFIED", pod);
    }

    /// An event of this kind.
    pub fn push(&self, kind: &str, pod: &Value) {
        eventually("a client watches", || {
            let mut watches = self.watches.lock().unwrap();
            // An agent that has ended watches no more.
            watches.retain_mut(|stream| send(stream, kind, pod).is_ok());
            !watches.is_empty()
        });
    }
}

fn refuse(stream: &mut TcpStream) {
    let _ = request(stream);
    let rest = "Content-Length: 0\r\nConnection: close\r\n\r\n";
    write!(stream, "HTTP/1.1 503 Service Unavailable\r\n{rest}").unwrap();
}

/// One event of a watch, in a chunk of its own.
fn send(stream: &mut TcpStream, kind: &str, object: &Value) -> io::Result<()> {
    let line = json!({"type": kind, "object": object}).to_string() + "\n";
    write!(stream, "{:x}\r\n{line}\r\n", line.len())
}

/// Head and body of a request.
fn request(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0u8; 8192];
        let length = stream.read(&mut buffer).unwrap();
        bytes.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_lowercase().lines().find_map(|line| {
            line.strip_prefix("content-length: ").map(|length| length.parse().unwrap())
        });
        if body.len() >= length.unwrap_or(0) {
            return (head.to_owned(), body.to_owned());
        }
    }
}

fn answer(
    mut stream: TcpStream,
    pods: &[Value],
    watches: &Mutex<Vec<TcpStream>>,
    events: &Mutex<Vec<Value>>,
) {
    let (head, body) = request(&mut stream);
    if head.contains("/events") {
        // One that is counted up has only what changes.
        if head.starts_with("POST") {
            let event: Value = serde_json::from_str(&body).unwrap();
            let namespace = event["involvedObject"]["namespace"].as_str().unwrap();
            let path = format!("/api/v1/namespaces/{namespace}/events");
            assert!(head.contains(&path), "the pod's namespace: {head}");
            events.lock().unwrap().push(event);
        }
        let kind = "Content-Type: application/json\r\nConnection: close";
        let length = body.len();
        let head = format!("HTTP/1.1 201 Created\r\n{kind}\r\nContent-Length: {length}");
        // The agent may have ended meanwhile.
        let _ = write!(stream, "{head}\r\n\r\n{body}");
        return;
    }
    assert!(head.contains("fieldSelector=spec.nodeName%3Dnode-1"), "only this node: {head}");
    assert!(head.contains("watch=true"), "a server of today has the streaming list: {head}");
    let kind = "Content-Type: application/json\r\nTransfer-Encoding: chunked";
    write!(stream, "HTTP/1.1 200 OK\r\n{kind}\r\n\r\n").unwrap();
    if head.contains("sendInitialEvents=true") {
        for pod in pods {
            send(&mut stream, "ADDED", pod).unwrap();
        }
        let metadata = json!({
            "resourceVersion": "1", "annotations": {"k8s.io/initial-events-end": "true"}
        });
        let bookmark = json!({"kind": "Pod", "apiVersion": "v1", "metadata": metadata});
        send(&mut stream, "BOOKMARK", &bookmark).unwrap();
    }
    watches.lock().unwrap().push(stream);
}
