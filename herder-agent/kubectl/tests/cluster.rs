//! The program against an API server with several agents, of which some hang, answer garbage,
//! are forbidden or do not run.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]

#[path = "cluster/edges.rs"]
mod edges;
#[path = "cluster/following.rs"]
mod following;

use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

static CASES: AtomicUsize = AtomicUsize::new(0);

/// Paths, each with its `Last-Event-ID`.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// A kubeconfig that leads to a server of this test, and what that was asked.
struct Cluster(PathBuf, Asked);

impl Cluster {
    fn start(answer: fn(&str, &mut TcpStream)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Asked::default();
        let all = asked.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, all) = (stream.unwrap(), all.clone());
                thread::spawn(move || {
                    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                    let head: Vec<_> =
                        lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                    let path = head.first().and_then(|line| line.split(' ').nth(1));
                    let path = path.unwrap_or_default();
                    let after = head.iter().find_map(|line| line.strip_prefix("last-event-id: "));
                    all.lock().unwrap().push((path.into(), after.unwrap_or("none").into()));
                    answer(path, &mut stream);
                });
            }
        });
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "none",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [
                {"name": "none", "context": {"cluster": "nowhere", "user": "u"}},
                {"name": "shop", "context": {"cluster": "c", "user": "u", "namespace": "shop"}},
            ],
        });
        let number = CASES.fetch_add(1, Relaxed);
        let file =
            std::env::temp_dir().join(format!("herder-kubeconfig-{}-{number}", std::process::id()));
        fs::write(&file, config.to_string()).unwrap();
        Cluster(file, asked)
    }

    fn asked(&self) -> Vec<(String, String)> {
        self.1.lock().unwrap().clone()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-herder"));
        command.args(arguments).env("KUBECONFIG", &self.0).env("NO_PROXY", "*");
        command
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } =
            self.command(&[arguments, &["--context", "shop"]].concat()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn send(stream: &mut TcpStream, status: &str, kind: &str, body: &str) {
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
}

fn send_json(stream: &mut TcpStream, body: &Value) {
    send(stream, "200 OK", "application/json", &body.to_string());
}

fn pod(name: &str, phase: &str, owner: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "herder-system",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": owner, "name": "x", "uid": "x", "controller": true}],
        },
        "spec": {
            "nodeName": name.replace("agent", "node"),
            "containers": [{"name": "agent", "ports": [{"name": "metrics", "containerPort": 9469}]}],
        },
        "status": {"phase": phase},
    })
}

fn list(pods: &[Value]) -> Value {
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": pods})
}

fn kill(id: u64, second: u64, namespace: &str) -> Value {
    json!({
        "id": id, "time": format!("2026-01-01T00:00:{second:02}.000Z"), "kind": "subprocess", "limit": "container",
        "namespace": namespace, "pod": "web-0", "container": "worker", "rule": null, "processes": 1, "survived": true,
        "victim": {"comm": format!("victim-{second}"), "pid": 1, "anon_rss": 4096},
    })
}

const AGENTS: [&str; 8] = [
    "agent-1",
    "agent-2",
    "agent-garbage",
    "agent-half",
    "agent-hangs",
    "agent-login",
    "agent-no",
    "agent-tls",
];

/// One page of the list has half of the pods.
fn of_many_kinds(path: &str, stream: &mut TcpStream) {
    let status = |code: u16, message: &str| {
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code})
            .to_string()
    };
    if path.contains("/pods?") {
        assert!(path.contains("labelSelector=app.kubernetes.io%2Fname%3Dherder"), "{path}");
        let pods = AGENTS.map(|name| pod(name, "Running", "DaemonSet"));
        let mut others =
            list(&[pod("agent-waits", "Pending", "DaemonSet"), pod("test", "Running", "Job")]);
        let mut first = list(&pods);
        first["metadata"]["continue"] = "more".into();
        others["metadata"]["resourceVersion"] = "1".into();
        return send_json(stream, if path.contains("continue=more") { &others } else { &first });
    }
    let rest = path.strip_prefix("/api/v1/namespaces/herder-system/pods/").unwrap();
    let (agent, path) = rest.split_once(":9469/proxy/").unwrap();
    match agent {
        "agent-hangs" => thread::sleep(Duration::from_secs(60)),
        "agent-garbage" => send(stream, "200 OK", "text/html", "<title>Sign in</title>"),
        "agent-half" => {
            drop(write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[{{\"id\""));
        }
        "agent-no" => {
            let body =
                status(403, "pods \"agent-no\" is forbidden: cannot get resource \"pods/proxy\"");
            send(stream, "403 Forbidden", "application/json", &body);
        }
        "agent-login" => {
            send(stream, "401 Unauthorized", "text/plain", "A name and a password are needed.\n");
        }
        "agent-tls" => {
            let text = "This port speaks TLS: ask https://.\n";
            send(stream, "400 Bad Request", "text/plain", text);
        }
        _ => {
            let kills = match agent {
                "agent-1" => json!([kill(7, 40, "shop"), kill(6, 10, "bank"), kill(5, 5, "shop")]),
                "agent-2" => json!([kill(2, 30, "shop"), kill(1, 20, "shop")]),
                "https:agent-tls" => json!([kill(1, 35, "shop")]),
                other => panic!("{other} was asked"),
            };
            let container = |namespace: &str| {
                json!({
                    "cgroup": "/c", "owner": {"namespace": namespace, "pod": "web-0", "container": "worker"},
                    "rule": "web", "wanted": 0, "effective": 0, "obstacle": null, "explanation": null,
                    "writes": 1, "reverts": 0,
                })
            };
            match path.split('?').next().unwrap() {
                "api/v1/kills" => send_json(stream, &kills),
                "api/v1/containers" => {
                    send_json(stream, &json!([container("shop"), container("bank")]));
                }
                other => panic!("{other} was asked for"),
            }
        }
    }
}

/// Every agent that is not in the table, with the reason.
const FAULTS: [(&str, &str); 6] = [
    ("node-garbage (agent-garbage)", "not what an agent says"),
    ("node-half (agent-half)", "kubectl-herder: node-half"),
    ("node-hangs (agent-hangs)", "no answer in time"),
    ("node-login (agent-login)", "The API server passes no password on"),
    ("node-no (agent-no)", "403 Forbidden: pods \\\"agent-no\\\" is forbidden"),
    ("node-waits (agent-waits)", "its pod is Pending"),
];

fn names_all_faults(stderr: &str) {
    for (agent, why) in FAULTS {
        let line = stderr.lines().find(|line| line.contains(agent));
        assert!(line.is_some_and(|line| line.contains(why)), "{agent}: {why}\n{stderr}");
    }
    assert!(stderr.ends_with("6 of 9 agents did not answer\n"), "{stderr}");
}

#[test]
fn kills_of_all_nodes_are_merged_and_who_is_missing_is_named() {
    let cluster = Cluster::start(of_many_kinds);
    let began = Instant::now();
    let (code, stdout, stderr) = cluster.run(&["kills", "-o", "json", "--timeout", "2"]);
    assert!(began.elapsed() < Duration::from_secs(20), "the agent that hangs was waited for");
    let kills: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shown: Vec<_> = kills
        .iter()
        .map(|kill| (kill["node"].as_str().unwrap(), kill["victim"]["comm"].as_str().unwrap()))
        .collect();
    let expected = [
        ("node-1", "victim-5"),
        ("node-2", "victim-20"),
        ("node-2", "victim-30"),
        ("node-tls", "victim-35"),
        ("node-1", "victim-40"),
    ];
    assert_eq!(shown, expected);
    assert_eq!(code, 3, "{stderr}");
    names_all_faults(&stderr);

    let (code, stdout, _) = cluster.run(&["kills", "-A", "--limit", "3", "--timeout", "2"]);
    let lines: Vec<_> = stdout.lines().collect();
    assert!(code == 3 && lines.len() == 4 && lines[0].starts_with("NODE "), "{stdout}");
    assert!(lines[1].contains("victim-30") && lines[3].contains("victim-40"), "{stdout}");
    let (_, stdout, _) = cluster.run(&["kills", "-n", "bank", "--timeout", "2"]);
    assert!(stdout.lines().count() == 2 && stdout.contains("bank/web-0/worker"), "{stdout}");
}

#[test]
fn containers_and_the_worst_of_all_nodes_are_shown() {
    let cluster = Cluster::start(of_many_kinds);
    let (code, stdout, stderr) = cluster.run(&["containers", "--timeout", "2"]);
    assert_eq!(code, 3);
    names_all_faults(&stderr);
    let lines: Vec<_> = stdout.lines().collect();
    assert!(lines.len() == 4 && lines[0].starts_with("NODE      CONTAINER"), "{stdout}");
    assert!(lines[1..].iter().all(|line| line.contains("shop/web-0/worker")), "{stdout}");
    let (_, stdout, _) = cluster.run(&["containers", "-A", "-o", "json", "--timeout", "2"]);
    assert_eq!(stdout.lines().count(), 6);
    let (_, stdout, _) = cluster.run(&["top", "-A", "--timeout", "2"]);
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(lines.len(), 5, "{stdout}");
    assert!(lines[0].starts_with("KILLS  SUBPROCESS"), "{stdout}");
    assert!(lines[1].starts_with("2 ") && lines[2].starts_with("2 "), "{stdout}");
    let (_, stdout, _) = cluster.run(&["top", "--limit", "1", "-o", "json", "--timeout", "2"]);
    let top: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&top["kills"], &top["container"]), (&2.into(), &"shop/web-0/worker".into()));
}

/// A list of one agent, whose stream has a kill, is cut, and is asked again after that kill.
fn streaming(path: &str, stream: &mut TcpStream) {
    static STREAMS: AtomicUsize = AtomicUsize::new(0);
    if path.contains("/pods?") {
        send_json(stream, &list(&[pod("agent-1", "Running", "DaemonSet")]));
    } else if path.ends_with("/stream") {
        let number = STREAMS.fetch_add(1, Relaxed) as u64;
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n: hello\n\n"
        );
        for (event, kill) in [
            ("kill", kill(8 + number, 50 + number, "shop")),
            ("kill", kill(9 + number, 55, "bank")),
            ("missed", json!({"missed": 3})),
        ] {
            let id =
                if event == "kill" { format!("id: a-{}\n", kill["id"]) } else { String::new() };
            let _ = write!(stream, "event: {event}\n{id}data: {kill}\n\n");
        }
    } else {
        send_json(stream, &json!([kill(7, 40, "shop")]));
    }
}

#[test]
fn new_kills_are_followed_and_a_stream_that_ends_is_opened_again() {
    let cluster = Cluster::start(streaming);
    let mut followed = cluster
        .command(&["kills", "--follow", "-o", "json", "--context", "shop"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(followed.stdout.take().unwrap()).lines();
    let seen: Vec<Value> =
        lines.take(3).map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let shown: Vec<_> = seen.iter().map(|kill| kill["id"].as_u64().unwrap()).collect();
    assert_eq!(shown, [7, 8, 9]);
    assert!(seen.iter().all(|kill| kill["node"] == "node-1" && kill["namespace"] == "shop"));
    followed.kill().unwrap();
    let mut notes = String::new();
    followed.stderr.take().unwrap().read_to_string(&mut notes).unwrap();
    followed.wait().unwrap();
    assert!(notes.contains("node-1 (agent-1): 3 kills came faster"), "{notes}");
}

fn unanswered(path: &str, stream: &mut TcpStream) {
    if path.contains("/empty/") {
        return send_json(stream, &list(&[]));
    }
    if path.contains("/pods?") {
        return send_json(stream, &list(&[pod("agent-1", "Running", "DaemonSet")]));
    }
    let body = json!({"kind": "Status", "message": "error trying to reach service: connection refused", "code": 503});
    send(stream, "503 Service Unavailable", "application/json", &body.to_string());
}

#[test]
fn what_is_wrong_is_named() {
    let cluster = Cluster::start(unanswered);
    let (code, _, stderr) = cluster.run(&["kills"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(
        stderr.contains("error trying to reach service") && stderr.contains("none of 1 agents"),
        "{stderr}"
    );
    let (code, stdout, stderr) = cluster.run(&["kills", "--agents-namespace", "empty"]);
    assert!(code == 1 && stdout.is_empty(), "{stdout}");
    assert!(
        stderr.contains("no agents in namespace empty") && stderr.contains("--agents-selector"),
        "{stderr}"
    );
    let status = |command: &mut Command| {
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, stderr) = status(&mut cluster.command(&["kills"]));
    assert!(code == Some(1) && stderr.contains("kubeconfig"), "{stderr}");
    let (code, stderr) = status(&mut cluster.command(&["kills", "--kubeconfig", "/nowhere"]));
    assert!(code == Some(1) && stderr.contains("/nowhere"), "{stderr}");
}

/// One agent that says more containers than are kept of all.
fn crowd(path: &str, stream: &mut TcpStream) {
    if path.contains("/pods?") {
        return send_json(stream, &list(&[pod("agent-1", "Running", "DaemonSet")]));
    }
    let many = vec![r#"{"owner":{"namespace":"shop"}}"#; 100_003].join(",");
    send(stream, "200 OK", "application/json", &format!("[{many}]"));
}

#[test]
fn more_containers_than_are_kept_are_named() {
    let cluster = Cluster::start(crowd);
    let (code, stdout, stderr) = cluster.run(&["containers", "-o", "json", "--timeout", "60"]);
    assert_eq!((code, stdout.lines().count()), (3, 100_000), "{stderr}");
    assert!(stderr.contains("3 more are left out: 100000 containers"), "{stderr}");
}
