//! The program against real agents' servers, behind a proxy as the API server has one. Their pods
//! are listed as a recorded API server listed a DaemonSet's. One agent never answers.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]

use herder_agent::inside::{
    enforce::{ContainerState, States},
    kernel::clock::monotonic_now,
    report::{Reporter, heartbeat::Heartbeat, requests::StatesRequest},
    serve::{self, Readiness, State},
};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    clock::Monotonic,
    kill::KillReport,
    oom::{Kind, Limit, OomKill, Victim},
    owner::{ContainerNames, Owner},
};
use serde_json::{Value, json};
use std::{
    fs,
    future::pending,
    io::{self, BufRead, BufReader, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::{runtime::Builder, sync::mpsc};

/// All that is asked of one agent ends after 5 s (`gather`); a machine with much to do is slower.
const BOUNDED: Duration = Duration::from_secs(30);

fn owner(namespace: &str, pod: &str) -> Owner {
    let [namespace, pod, container] = [namespace, pod, "worker"].map(str::to_owned);
    Owner::Container(ContainerNames { namespace, pod, container })
}

/// A node's agent: its server, and the reporter that it shows.
struct Agent {
    node: &'static str,
    address: SocketAddr,
    reporter: Arc<Reporter>,
}

impl Agent {
    fn start(node: &'static str) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let listening = async { serve::bind(&[([127, 0, 0, 1], 0).into()]) };
        let listeners = runtime.block_on(listening).unwrap();
        let address = listeners.addresses()[0];
        let reporter = Arc::<Reporter>::default();
        let (core, mut asked) = mpsc::channel::<StatesRequest>(1);
        let (ready, heartbeat) = (Readiness::default(), Heartbeat::default());
        let state = State::new(reporter.clone(), ready, core, heartbeat, None, node);
        thread::spawn(move || {
            runtime.spawn(async move {
                while let Some(request) = asked.recv().await {
                    let states = vec![container("shop", node), container("bank", node)];
                    let _ = request.answer.send(States { states, next: None });
                }
            });
            runtime.block_on(serve::run(listeners, state, pending()));
        });
        Agent { node, address, reporter }
    }

    /// A kill, so many seconds ago.
    fn kill(&self, ago: u64, namespace: &str) {
        let now = monotonic_now().0;
        let marked = Monotonic(now.saturating_sub(ago * 1_000_000_000));
        let victim = Victim {
            tgid: 7,
            comm: format!("{}-{ago}", self.node),
            ..Victim::nameless(CgroupId(1), marked)
        };
        let owner = owner(namespace, self.node);
        let kill = OomKill { victims: vec![victim], ..OomKill::default() };
        self.reporter.kill(&KillReport {
            victim_pods: vec![None],
            ..KillReport::new(owner, Kind::Subprocess, Limit::Container, kill)
        });
    }
}

fn container(namespace: &str, pod: &str) -> ContainerState {
    ContainerState {
        id: CgroupId(1),
        cgroup: CgroupPath::parse(format!("/{namespace}").as_bytes()).unwrap(),
        inner_cgroup: None,
        owner: owner(namespace, pod),
        rule: "web".into(),
        wanted: 0,
        effective: Some(0),
        first: Some(1),
        obstacle: None,
        explanation: None,
        writes: 1,
        reverts: 0,
        escalation: None,
        init: None,
    }
}

/// A DaemonSet's pod as an API server 1.36 lists it, which is the agent at this address.
fn pod(node: &str, port: u16) -> Value {
    let fixture = "../tests/fixtures/k8s-wire/list-pods-node-1-mixed.body";
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture);
    let list: Value = serde_json::from_str(&fs::read_to_string(fixture).unwrap()).unwrap();
    let pods = list["items"].as_array().unwrap();
    let owned = |pod: &&Value| pod["metadata"]["ownerReferences"][0]["kind"] == "DaemonSet";
    let mut pod = pods.iter().find(owned).unwrap().clone();
    pod["metadata"]["name"] = format!("agent-of-{node}").into();
    pod["metadata"]["namespace"] = "herder-system".into();
    pod["metadata"]["labels"] = json!({"app.kubernetes.io/name": "herder"});
    pod["spec"]["nodeName"] = node.into();
    pod["spec"]["containers"][0]["ports"] =
        json!([{"name": "metrics", "containerPort": port, "protocol": "TCP"}]);
    pod["status"]["phase"] = "Running".into();
    pod
}

/// An API server that lists these pods and hands requests on to them, and a kubeconfig with two
/// contexts for it.
struct Cluster(PathBuf);

impl Cluster {
    fn start(name: &str, pods: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let list = json!({
            "kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": pods,
        });
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, list) = (stream.unwrap(), list.to_string());
                // A client that goes away is no failure.
                thread::spawn(move || drop(proxy(stream, &list)));
            }
        });
        let context = |name: &str, namespace: &str| json!({"name": name, "context": {"cluster": "c", "user": "u", "namespace": namespace}});
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "shop",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [context("shop", "shop"), context("bank", "bank")],
        });
        let file =
            std::env::temp_dir().join(format!("herder-agents-{name}-{}", std::process::id()));
        fs::write(&file, config.to_string()).unwrap();
        Cluster(file)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-herder"));
        command.args(arguments).env("KUBECONFIG", &self.0).env("NO_PROXY", "*");
        command
    }

    /// Exit code, lines of standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (i32, Vec<String>, String) {
        let began = Instant::now();
        let done = self.command(arguments).output().unwrap();
        assert!(began.elapsed() < BOUNDED, "the agent that hangs was waited for");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let lines = text(done.stdout).lines().map(str::to_owned).collect();
        (done.status.code().unwrap(), lines, text(done.stderr))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn proxy(mut client: TcpStream, list: &str) -> io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?).lines();
    let first = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    let headers: Vec<String> =
        lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let path = first.split(' ').nth(1).unwrap_or_default();
    let Some(rest) = path.strip_prefix("/api/v1/namespaces/herder-system/pods/") else {
        let length = list.len();
        return write!(
            client,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{list}"
        );
    };
    let (pod, path) = rest.split_once("/proxy/").ok_or(io::ErrorKind::InvalidInput)?;
    let port: u16 = pod.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap();
    let mut agent = TcpStream::connect(("127.0.0.1", port))?;
    let wanted = headers.iter().filter(|header| {
        let name = header.split(':').next().unwrap_or_default().to_ascii_lowercase();
        ["last-event-id", "accept-encoding"].contains(&&*name)
    });
    let wanted: String = wanted.map(|header| format!("{header}\r\n")).collect();
    write!(agent, "GET /{path} HTTP/1.1\r\nHost: {pod}\r\nConnection: close\r\n{wanted}\r\n")?;
    io::copy(&mut agent, &mut client)?;
    client.shutdown(Shutdown::Both)
}

/// Two agents with kills, and one that takes connections and never says anything.
fn cluster(name: &str) -> ([Agent; 2], Cluster) {
    let agents = ["node-1", "node-2"].map(Agent::start);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut pods: Vec<_> =
        agents.iter().map(|agent| pod(agent.node, agent.address.port())).collect();
    pods.push(pod("node-3", port));
    thread::spawn(move || silent.incoming().map(Result::unwrap).collect::<Vec<_>>());
    let [one, other] = &agents;
    one.kill(50, "shop");
    one.kill(40, "bank");
    one.kill(10, "shop");
    other.kill(30, "shop");
    other.kill(20, "bank");
    (agents, Cluster::start(name, &pods))
}

fn victims(lines: &[String]) -> Vec<String> {
    let kill = |line: &String| serde_json::from_str::<Value>(line).unwrap();
    let victim = |kill: Value| kill["victim"]["comm"].as_str().unwrap().to_owned();
    lines.iter().map(kill).map(victim).collect()
}

/// What is said of the agent that hangs, and that something is missing.
fn names_who_hangs(code: i32, stderr: &str) {
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("node-3 (agent-of-node-3): no answer in time\n"), "{stderr}");
    assert!(stderr.ends_with("1 of 3 agents did not answer\n"), "{stderr}");
}

#[test]
fn kills_of_real_agents_are_merged_by_time() {
    let (_agents, cluster) = cluster("kills");
    let (code, lines, stderr) = cluster.run(&["kills", "-A", "-o", "json"]);
    names_who_hangs(code, &stderr);
    let all = ["node-1-50", "node-1-40", "node-2-30", "node-2-20", "node-1-10"];
    assert_eq!(victims(&lines), all);
    let (_, lines, _) = cluster.run(&["kills", "-o", "json"]);
    assert_eq!(victims(&lines), ["node-1-50", "node-2-30", "node-1-10"], "the context's namespace");
    let (_, lines, _) = cluster.run(&["kills", "--context", "bank", "-o", "json"]);
    assert_eq!(victims(&lines), ["node-1-40", "node-2-20"], "another context's");
    let (code, lines, stderr) = cluster.run(&["kills", "-n", "bank", "-o", "table"]);
    names_who_hangs(code, &stderr);
    assert!(lines.len() == 3 && lines[0].starts_with("NODE "), "{lines:?}");
    assert!(
        lines[1].starts_with("node-1 ") && lines[1].contains("bank/node-1/worker"),
        "{lines:?}"
    );
}

#[test]
fn containers_and_top_of_real_agents() {
    let (_agents, cluster) = cluster("containers");
    let (code, lines, stderr) = cluster.run(&["containers"]);
    names_who_hangs(code, &stderr);
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (line, node) in lines[1..].iter().zip(["node-1", "node-2"]) {
        assert!(line.contains(&format!("shop/{node}/worker")), "{lines:?}");
    }
    let (_, lines, _) = cluster.run(&["containers", "-A", "-o", "json"]);
    assert_eq!(lines.len(), 4, "{lines:?}");
    let (code, lines, stderr) = cluster.run(&["top", "-A", "-o", "json"]);
    names_who_hangs(code, &stderr);
    let top: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let counted: Vec<_> =
        top.iter().map(|row| (row["container"].as_str().unwrap(), row["kills"].as_u64())).collect();
    assert_eq!(
        counted,
        [
            ("shop/node-1/worker", Some(2)),
            ("bank/node-1/worker", Some(1)),
            ("bank/node-2/worker", Some(1)),
            ("shop/node-2/worker", Some(1)),
        ]
    );
    let (_, lines, _) = cluster.run(&["top", "-n", "shop"]);
    assert!(lines.len() == 3 && lines[0].starts_with("KILLS "), "{lines:?}");
}

/// What comes later is printed, although one agent never says anything.
#[test]
fn new_kills_of_real_agents_are_followed() {
    let (agents, cluster) = cluster("follow");
    let mut command = cluster.command(&["kills", "-A", "--follow", "-o", "json", "--limit", "1"]);
    let mut followed = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(followed.stdout.take().unwrap()).lines();
    let mut next = || victims(&[lines.next().unwrap().unwrap()]);
    assert_eq!(next(), ["node-1-10"], "the last of all");
    // The stream begins after the last kill of the list, whenever it is opened.
    agents[1].kill(0, "bank");
    assert_eq!(next(), ["node-2-0"]);
    agents[0].kill(1, "shop");
    assert_eq!(next(), ["node-1-1"]);
    followed.kill().unwrap();
    followed.wait().unwrap();
}
