//! Are kills and values told by the names that Kubernetes has?
//!
//! The cgroups are as the kubelet and containerd make them; the API server is a
//! thread of the test, which answers a list and streams a watch.

use crate::{
    Test,
    agent::{Agent, eventually},
    container::Container,
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread::{self, sleep},
    time::Duration,
};

pub const TESTS: &[Test] = &[
    ("pod_is_named", pod_is_named),
    ("names_that_come_late", names_that_come_late),
    ("names_that_never_come", names_that_never_come),
    ("annotation_of_a_running_pod", annotation_of_a_running_pod),
    ("bundle_tells_the_name", bundle_tells_the_name),
];

const UID: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
const ID: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const KILLS: &str = r#"herder_oom_kills_total{container="worker",kind="subprocess",limit="container",namespace="shop",pod="web-0"}"#;

const RULES: &str = "\
rules:
- name: web
  pods: {namespaces: [shop], selector: {matchLabels: {app: web}}}
  oomGroup: single-process
";

fn cgroup() -> String {
    let uid = UID.replace('-', "_");
    format!(
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice/cri-containerd-{ID}.scope"
    )
}

/// The pod, with its container's ID or, before the kubelet has told it, without.
fn pod(version: u32, id: Option<&str>, annotation: Option<&str>) -> Value {
    let statuses = id.map(|id| {
        json!([{
            "name": "worker", "containerID": format!("containerd://{id}"), "image": "x",
            "imageID": "", "ready": true, "restartCount": 0
        }])
    });
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": "web-0", "namespace": "shop", "uid": UID, "resourceVersion": version.to_string(),
            "labels": {"app": "web"},
            "annotations": annotation.map(|value| json!({"herder.dev/oom-group": value}))
        },
        "spec": {"containers": [{"name": "worker"}]},
        "status": {"containerStatuses": statuses}
    })
}

/// An API server with one pod.
struct Api {
    watches: Arc<Mutex<Vec<TcpStream>>>,
}

impl Api {
    fn start(pod: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:6443").unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {
                "server": "http://127.0.0.1:6443", "certificate-authority": "/tmp/ca.pem"
            }}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
            "users": [{"name": "c", "user": {}}]
        });
        // The client wants some authority, although it then talks plain HTTP.
        fs::write("/tmp/ca.pem", include_str!("../fixtures/ca.pem")).unwrap();
        fs::write("/tmp/kubeconfig", config.to_string()).unwrap();
        let list = json!({
            "kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": [pod]
        });
        let watches = Arc::new(Mutex::new(Vec::new()));
        let kept = watches.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &list.to_string(), &kept);
            }
        });
        Api { watches }
    }

    /// Tells a changed pod to whoever watches.
    fn modified(&self, pod: &Value) {
        eventually("somebody watches", || !self.watches.lock().unwrap().is_empty());
        let line = json!({"type": "MODIFIED", "object": pod}).to_string() + "\n";
        for stream in self.watches.lock().unwrap().iter_mut() {
            write!(stream, "{:x}\r\n{line}\r\n", line.len()).unwrap();
        }
    }
}

fn answer(mut stream: TcpStream, list: &str, watches: &Mutex<Vec<TcpStream>>) {
    let mut request = [0u8; 8192];
    let length = stream.read(&mut request).unwrap();
    let request = String::from_utf8_lossy(&request[..length]).into_owned();
    assert!(request.contains("fieldSelector=spec.nodeName%3Dnode-1"), "only this node: {request}");
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    if request.contains("watch=true") {
        write!(stream, "{head}Transfer-Encoding: chunked\r\n\r\n").unwrap();
        watches.lock().unwrap().push(stream);
    } else {
        let end = format!("Content-Length: {}\r\nConnection: close\r\n\r\n", list.len());
        write!(stream, "{head}{end}{list}").unwrap();
    }
}

fn agent(more: &[&str]) -> Agent {
    let flags = ["--kubernetes", "on", "--node-name", "node-1"];
    Agent::start_with(RULES, &[&flags, more].concat())
}

/// A rule by namespace and label; the kill is told by namespace, pod, container.
fn pod_is_named() {
    let _api = Api::start(&pod(1, Some(ID), None));
    let agent = agent(&[]);
    let container = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    let told = ["kind", "namespace", "pod", "container", "rule"].map(|key| kills[0][key].clone());
    assert_eq!(told, ["subprocess", "shop", "web-0", "worker", "web"]);
    assert_eq!(container.cgroup.oom_group(), "0");
    assert_eq!(agent.metric(KILLS), 1.0);
    let value = r#"herder_container_oom_group{container="worker",namespace="shop",pod="web-0"}"#;
    assert!(agent.get("/metrics").contains(&format!("{value} 0")));
    agent.assert_nothing_lost();
}

/// The kubelet tells the container's ID after its first kill: the container was
/// steered all the same, and the kill is told when the name is known.
fn names_that_come_late() {
    let api = Api::start(&pod(1, None, None));
    let agent = agent(&[]);
    let container = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    eventually("the kill has happened", || container.cgroup.event("oom_kill") == 1);
    assert_eq!(container.cgroup.oom_group(), "0");
    sleep(Duration::from_secs(1));
    assert_eq!(agent.kills().len(), 0, "not under a wrong name");
    api.modified(&pod(2, Some(ID), None));
    let kills = agent.wait_for_kills(1);
    assert_eq!(kills[0]["container"], "worker");
    assert_eq!(agent.metric(KILLS), 1.0);
    agent.assert_nothing_lost();
}

/// A pod that the API server does not know: the kill is told with its cgroup, and
/// counted as unattributed, when the agent ends at the latest.
fn names_that_never_come() {
    let _api = Api::start(&pod(1, Some(ID), None));
    let mut agent = agent(&[]);
    let path = cgroup().replace("4e5f", "ffff");
    let container = Container::start(&path, 60, &["idle", "hog:100"]);
    eventually("the kill has happened", || container.cgroup.event("oom_kill") >= 1);
    sleep(Duration::from_millis(500));
    assert!(agent.stop().success());
    let log = Agent::log();
    let line = log.lines().find(|line| line.contains("OOM kill.")).expect("the kill is told");
    assert!(line.contains(&path) && line.contains(r#"kind="group""#), "{line}");
    assert!(log.contains("no known owner"), "{log}");
}

/// The annotation of a running pod is followed, and when it goes, the value
/// comes back.
fn annotation_of_a_running_pod() {
    let api = Api::start(&pod(1, Some(ID), None));
    let agent = Agent::start_with("rules: []", &["--kubernetes", "on", "--node-name", "node-1"]);
    let container = Container::start(&cgroup(), 60, &["idle"]);
    sleep(Duration::from_millis(500));
    assert_eq!(container.cgroup.oom_group(), "1", "nobody asked for anything");
    api.modified(&pod(2, Some(ID), Some("worker=single-process,other=group")));
    eventually("the annotation is followed", || container.cgroup.oom_group() == "0");
    api.modified(&pod(3, Some(ID), Some("nonsense")));
    eventually("a bad one leaves the pod alone", || container.cgroup.oom_group() == "1");
    api.modified(&pod(4, Some(ID), Some("single-process")));
    eventually("a good one again", || container.cgroup.oom_group() == "0");
    api.modified(&pod(5, Some(ID), None));
    eventually("the value comes back", || container.cgroup.oom_group() == "1");
    drop(agent);
}

/// The runtime's bundle names the container before the kubelet does.
fn bundle_tells_the_name() {
    let bundle = format!("/tmp/bundles/{ID}");
    fs::create_dir_all(&bundle).unwrap();
    let annotations = json!({
        "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.container-name": "worker"
    });
    fs::write(format!("{bundle}/config.json"), json!({"annotations": annotations}).to_string())
        .unwrap();
    let _api = Api::start(&pod(1, None, None));
    let agent = agent(&["--bundle-dir", "/tmp/bundles"]);
    let _container = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    assert_eq!(kills[0]["container"], "worker");
    agent.assert_nothing_lost();
}
