//! Does a pod see its own kills, and none of another's?
//!
//! Each pod has an address of the loopback device. A process that connects to a machine's own
//! address comes from it if it is the first of its network, so each is of a network of its own,
//! and a pod's question is one to the pod's address.

use crate::harness::{
    agent::Agent,
    api::Api,
    container::{Cgroup, Container},
    http::ask,
    kill::assert_at_limit,
    pod::{ID, UID, agent, cgroup, pod},
    system::interface_up,
    test::{Test, tests},
    wait::eventually,
};
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    fs,
    process::{Command, Stdio},
};

pub const TESTS: &[Test] =
    tests![own_kills_only, own_kills_of_an_address_that_is_anothers_now, own_kills_are_off];

/// Flags of an agent that answers pods.
pub const FLAGS: [&str; 2] = ["--self-port", "9470"];

const FIRST: &str = "192.168.11.1";
const SECOND: &str = "192.168.12.1";
const HOST: &str = "192.168.13.1";
const UNKNOWN: &str = "192.168.14.1";

/// Gives this machine addresses of pods.
pub fn addresses() {
    for last in 11..=14 {
        assert!(interface_up(&format!("lo:{last}"), [192, 168, last, 1]));
    }
}

/// The pod of the other tests, at an address.
pub fn at(mut pod: Value, address: &str) -> Value {
    pod["status"]["phase"] = "Running".into();
    pod["status"]["hostIP"] = HOST.into();
    pod["status"]["podIP"] = address.into();
    pod["status"]["podIPs"] = json!([{ "ip": address }]);
    pod
}

fn id(letter: &str) -> String {
    ID.replace('e', letter)
}

/// Another pod, with a container of its own.
fn other(version: u32, uid: &str, id: &str, address: &str) -> Value {
    let mut other = at(pod(version, Some(id), None), address);
    other["metadata"]["uid"] = uid.into();
    other["metadata"]["name"] = "web-1".into();
    other
}

fn other_uid() -> String {
    UID.replace('0', "1")
}

fn other_cgroup(id: &str) -> String {
    let (uid, other) = (UID.replace('-', "_"), other_uid().replace('-', "_"));
    cgroup().replace(&uid, &other).replace(ID, id)
}

/// Status and text. A pod may ask only so often, and then has to ask again.
fn asked(address: &str) -> (u16, String) {
    let mut answer = None;
    eventually("it may ask", || {
        let got = ask(&format!("{address}:9470"), "/api/v1/self/kills").expect("an answer");
        let is_busy = got.1.starts_with("busy: ");
        answer = Some(got);
        !is_busy
    });
    answer.unwrap()
}

fn shown(address: &str) -> Vec<Value> {
    let (status, text) = asked(address);
    assert_eq!(status, 200, "{address}: {text}");
    serde_json::from_str(&text).unwrap()
}

fn assert_refused(address: &str, status: u16, reason: &str) {
    let (got, text) = asked(address);
    assert!(got == status && text.starts_with(&format!("{reason}: ")), "{address}: {got} {text}");
}

fn own_kills_only() {
    addresses();
    let mut host = other(3, &UID.replace('0', "2"), &id("7"), HOST);
    host["spec"]["hostNetwork"] = true.into();
    let (first, second) =
        (at(pod(1, Some(ID), None), FIRST), other(2, &other_uid(), &id("d"), SECOND));
    let _api = Api::serve(&[first, second, host]);
    let agent = agent(&FLAGS);
    let container = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    let _other = Container::start(&other_cgroup(&id("d")), 70, &["idle", "hog:101"]);
    let kills = agent.wait_for_kills(2);
    for (address, limit) in [(FIRST, 60u32), (SECOND, 70)] {
        let shown = shown(address);
        assert_eq!(shown.len(), 1, "{shown:#?}");
        assert_eq!(shown[0]["container_limit_bytes"], limit << 20, "{shown:#?}");
        assert_at_limit(shown[0]["container_memory_bytes"].as_f64().unwrap(), limit);
        assert_eq!([&shown[0]["kind"], &shown[0]["container"]], ["subprocess", "worker"]);
        // The hog was its init's second child.
        assert_eq!(shown[0]["victim"]["ns_pid"], 3, "{shown:#?}");
        let victim =
            kills.iter().find(|kill| kill["container_limit_bytes"] == limit << 20).unwrap();
        assert_eq!(shown[0]["victim"]["anon_rss"], victim["victim"]["anon_rss"]);
        assert_eq!(
            [&shown[0]["victim"]["pid"], &shown[0]["trigger"], &shown[0]["cgroup"]],
            [&Value::Null; 3]
        );
    }
    assert_refused("127.0.0.1", 403, "unknown-address");
    assert_refused(UNKNOWN, 403, "unknown-address");
    assert_refused(HOST, 403, "host-network");
    for path in ["/metrics", "/api/v1/kills", "/readyz"] {
        assert_eq!(ask(&format!("{FIRST}:9470"), path).unwrap().0, 404, "{path}");
    }
    let refused =
        |reason: &str| agent.metric(&format!("herder_self_refused_total{{reason=\"{reason}\"}}"));
    assert_eq!((refused("unknown-address"), refused("host-network")), (2.0, 1.0));
    clients(&container);
    agent.assert_nothing_lost();
}

/// The client, as a pod has it: at once, and following.
fn clients(container: &Container) {
    let client = |flags: &[&str]| {
        let mut command = Command::new("/bin/herder-agent");
        command.arg("self").args(flags).env("HERDER_URL", format!("http://{FIRST}:9470"));
        command
    };
    let output = |flags: &[&str]| {
        let output = client(flags).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let table = output(&[]);
    assert!(
        table.starts_with("AGE") && table.lines().count() == 2 && table.contains("60MiB"),
        "{table}"
    );
    let kill: Value = serde_json::from_str(&output(&["-o", "json"])).unwrap();
    assert_eq!(kill["victim"]["ns_pid"], 3);
    let mut refused = client(&[]);
    let refused = refused.env("HERDER_URL", format!("http://{UNKNOWN}:9470")).output().unwrap();
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && why.contains("No pod of this node has the address"),
        "{why}"
    );
    let file = fs::File::create("/tmp/followed").unwrap();
    let mut following = client(&["--follow", "-o", "json"]);
    let mut following = following.stdout(Stdio::from(file)).spawn().unwrap();
    // A kill comes again when it is known what became of the container.
    let printed = || {
        let text = fs::read_to_string("/tmp/followed").unwrap();
        let id = |line: &str| {
            serde_json::from_str::<Value>(line).ok()?["id"].as_str().map(str::to_owned)
        };
        text.lines().filter_map(id).collect::<HashSet<_>>().len()
    };
    eventually("the first kill is printed", || printed() == 1);
    let mut hog = crate::harness::container::run_in(&container.cgroup, &["hog", "100"]);
    hog.wait().unwrap();
    eventually("the next one is, too", || printed() == 2);
    following.kill().unwrap();
    following.wait().unwrap();
}

/// Whatever the API server still says: once nothing runs of the pod that had the address, no
/// client sees its kills there.
fn own_kills_of_an_address_that_is_anothers_now() {
    addresses();
    let api = Api::serve(&[at(pod(1, Some(ID), None), FIRST)]);
    let agent = agent(&FLAGS);
    let container = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    agent.wait_for_kills(1);
    assert_eq!(shown(FIRST).len(), 1);
    drop(container);
    let scope = Cgroup::made(&cgroup());
    eventually("nothing runs", || scope.processes().is_empty());
    assert_refused(FIRST, 503, "not-running");
    // The next pod has the address, and the API server does not know that yet.
    let _next = Container::start(&other_cgroup(&id("d")), 70, &["idle", "hog:101"]);
    assert_refused(FIRST, 503, "not-running");
    // Now it does, and still has the other.
    api.push("ADDED", &other(2, &other_uid(), &id("d"), FIRST));
    eventually("both claim it", || asked(FIRST).1.starts_with("ambiguous: "));
    api.push("DELETED", &at(pod(3, Some(ID), None), FIRST));
    eventually("it is the next one's", || asked(FIRST).0 == 200);
    eventually("its own kill is shown", || !shown(FIRST).is_empty());
    let shown = shown(FIRST);
    assert_eq!((shown.len(), &shown[0]["container_limit_bytes"]), (1, &json!(70u64 << 20)));
    agent.assert_nothing_lost();
}

fn own_kills_are_off() {
    addresses();
    let _api = Api::start(&at(pod(1, Some(ID), None), FIRST));
    let agent = agent(&[]);
    assert!(ask(&format!("{FIRST}:9470"), "/api/v1/self/kills").is_none(), "nothing listens");
    let (status, _) = ask(&format!("{FIRST}:9469"), "/api/v1/self/kills").unwrap();
    assert_eq!(status, 404, "nor at the other port");
    drop(agent);
    // Without Kubernetes no pod is known.
    let mut agent = Agent::start_with("rules: []", &["--kubernetes", "off", "--self-port", "9470"]);
    assert_refused(FIRST, 503, "pods-unknown");
    assert!(Agent::log().contains("Every request at --self-port is refused"), "{}", Agent::log());
    assert!(agent.stop().success());
}
