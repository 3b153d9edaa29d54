//! A pod asks for its own kills as it does in a cluster: the agent in its pod, and pods whose
//! networks a real runtime has made by CNI's plugins, with an address of each family.
//!
//! There is no kube-proxy. Pods ask the agent's pod, to which its Service would lead them.

use super::{
    bundle::{DB, Name, Pod, WEB, object},
    cri::{Namespaces, Running, Sandbox, Setup, kubelet},
    deployed::{Deployed, NODE},
};
use crate::harness::{
    agent::Agent,
    api::Api,
    http::{ask, ask_by},
    role::{SELF, role},
    say::say,
    wait::{PATIENCE, eventually},
};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use serde_json::{Value, json};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    os::unix::process::ExitStatusExt,
    process::ExitCode,
    thread::{self, sleep},
    time::{Duration, Instant},
};

const RULES: &str = "\
rules:
- name: shop
  pods: {namespaces: [shop]}
  oomGroup: single-process
";

const KILLS: &str = "/api/v1/self/kills";

/// A pod that comes when another has gone.
const NEXT: Pod = Pod { name: "web-1", app: "web", uid: "3d4e5f60-7182-93a4-b5c6-d7e8f90a1b2c" };

/// One on the node's network.
const PROXY: Pod =
    Pod { name: "proxy-0", app: "proxy", uid: "4e5f6071-8293-a4b5-c6d7-e8f90a1b2c3d" };

/// What a child takes that is too much for its container, MiB.
const HOG: &str = "150";

pub fn own_kills(setup: Setup) {
    let api = Api::serve(&[]);
    let _daemon = setup.start();
    let mut deployed = Deployed::new(setup, "self", RULES);
    let agent = deployed.start();
    let [four, six] = deployed.addresses()[..] else { panic!("both families") };
    assert!(four.is_ipv4() && six.is_ipv6());
    let image = deployed.image();
    let start = |pod, mebibytes, agent| Tenant::start(setup, pod, mebibytes, image, agent);
    let ((web, db), proxy) = at_once(
        || at_once(|| start(WEB, 80, [four, six]), || start(DB, 90, [six, four])),
        || Proxy::start(setup),
    );
    web.assert_refused("unknown-address");
    become_known(&api, 2, &web.object, &web.worker);
    become_known(&api, 3, &db.object, &db.worker);
    become_known(&api, 4, &proxy.object, &proxy.container);
    web.sees_its_own_kill_alone();
    db.sees_its_own_kill_alone();
    web.is_answered_nothing_else();
    proxy.is_refused(&agent, web.agent);

    let (addresses, mut gone) = (web.sandbox.addresses(), web.object.clone());
    at_once(|| drop(web), || drop(proxy));
    let next = start(NEXT, 100, [four, six]);
    assert_eq!(next.sandbox.addresses(), addresses, "the plugin has no others");
    next.assert_refused("not-running");
    become_known(&api, 5, &next.object, &next.worker);
    next.assert_refused("ambiguous");
    gone["metadata"]["resourceVersion"] = "6".into();
    api.push("DELETED", &gone);
    next.sees_its_own_kill_alone();
    assert_eq!((db.followed().len(), agent.kills().len()), (1, 3));
    agent.assert_nothing_lost();
    deployed.stop();
    at_once(|| drop(db), || drop(next));
}

/// A runtime takes seconds for a pod, most of which it waits.
fn at_once<A: Send, B: Send>(
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B + Send,
) -> (A, B) {
    thread::scope(|scope| {
        let first = scope.spawn(first);
        let second = second();
        (first.join().expect("the first of two"), second)
    })
}

/// Its status is published, and the agent acts on it.
fn become_known(api: &Api, version: u32, object: &Value, container: &Running) {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = version.to_string().into();
    api.push("ADDED", &object);
    let cgroup = container.cgroup();
    eventually("its container is enforced", || cgroup.oom_group() == "0");
}

/// A pod with a network of its own, and two containers: a program, and the client of the agent's
/// image, which follows from the pod's first moment.
struct Tenant {
    sandbox: Sandbox,
    worker: Running,
    client: Running,
    mebibytes: u32,
    object: Value,
    /// Where it asks: the program and the client that follows by one family, a client that is
    /// started for one question by the other.
    agent: [SocketAddr; 2],
    log: String,
}

impl Tenant {
    fn start(setup: Setup, pod: Pod, mebibytes: u32, image: &Value, agent: [IpAddr; 2]) -> Self {
        let agent = agent.map(|address| SocketAddr::new(address, 9470));
        let sandbox = Sandbox::run_with(setup, pod, Namespaces::OWN);
        let worker = sandbox.start("worker", 0, mebibytes.into(), &["idle"]);
        let spec = json!({
            "containers": [{
                "name": "client",
                "image": image,
                "args": ["self", "--follow", "--output", "json"],
                "env": [{"name": "HERDER_URL", "value": url(agent[0])}],
                "resources": {"limits": {"memory": "64Mi"}},
                "securityContext": {"runAsUser": 65532, "allowPrivilegeEscalation": false}
            }]
        });
        let log = format!("{}.log", pod.name);
        let client = kubelet::container(&spec, &[], &log);
        let log = format!("/tmp/{log}");
        // Of the first try.
        let _ = fs::remove_file(&log);
        let client = sandbox.create_config("client", 0, client);
        client.start();
        let names = ["worker", "client"].map(|container| Name { pod, container, number: 1 });
        let mut object = object(pod, &names);
        let statuses = object["status"]["containerStatuses"].as_array_mut().expect("statuses");
        for (status, container) in statuses.iter_mut().zip([&worker, &client]) {
            status["containerID"] = format!("containerd://{}", container.id).into();
        }
        publish(&mut object, &sandbox.addresses());
        Tenant { sandbox, worker, client, mebibytes, object, agent, log }
    }

    fn assert_refused(&self, reason: &str) {
        let own = self.sandbox.addresses();
        let asks = self.agent.map(|agent| Question { from: None, agent, path: KILLS });
        for (ask, (status, text)) in asks.iter().zip(answers(&self.worker, &asks)) {
            let own = own.iter().find(|own| own.is_ipv4() == ask.agent.is_ipv4());
            let own = own.expect("both families").to_string();
            let is_so = text.starts_with(&format!("{reason}: ")) && text.contains(&own);
            assert!(status >= 400 && is_so, "{own}: {status} {text}");
        }
    }

    /// A child of its program is killed, and all that asks in it sees that kill and no other.
    fn sees_its_own_kill_alone(&self) {
        let [first, second] = self.agent.map(|agent| agent.to_string());
        let (code, said) = self.worker.exec(&[SELF, "role", "loses-child", HOG, &first, &second]);
        assert_eq!(code, 0, "{said}");
        let said: Value = serde_json::from_str(&said).expect(&said);
        assert_eq!(said["before"], json!([[], []]), "others' kills");
        let [kills, by_the_other] = &said["after"].as_array().expect("lists")[..] else {
            panic!("{said:#}")
        };
        assert_eq!(names(kills), names(by_the_other), "the family makes no difference");
        let [kill] = &kills.as_array().expect("a list")[..] else { panic!("{kills:#}") };
        say(kill["finding"].as_str().expect("a finding"));
        assert_eq!(
            [&kill["container"], &kill["kind"], &kill["limit"], &kill["victim"]["ns_pid"]],
            [&json!("worker"), &json!("subprocess"), &json!("container"), &said["child"]],
        );
        assert_eq!(kill["container_limit_bytes"], self.mebibytes << 20);

        let name = [kill["id"].clone()];
        let url = url(self.agent[1]);
        let client = ["/herder-agent", "self", "--output", "json", "--url", &url];
        let (code, printed) = self.client.exec(&client);
        assert_eq!(code, 0, "{printed}");
        let printed = printed.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
        assert_eq!(names(&Value::from_iter(printed)), name);
        eventually("the client that follows prints it", || !self.followed().is_empty());
        assert_eq!(names(&self.followed().into()), name);
    }

    /// At this port, after another pod's kill too; and at the other port it is shown none at all.
    fn is_answered_nothing_else(&self) {
        let agent = self.agent[0];
        let nothing = ["/metrics", "/api/v1/kills", "/api/v1/containers", "/readyz", "/"];
        let mut asks = vec![Question { from: None, agent, path: KILLS }];
        asks.extend(nothing.map(|path| Question { from: None, agent, path }));
        let agent = SocketAddr::new(agent.ip(), 9469);
        asks.push(Question { from: None, agent, path: KILLS });
        let answers = answers(&self.worker, &asks);
        let shown: Value = serde_json::from_str(&answers[0].1).unwrap();
        assert_eq!(names(&shown), names(&self.followed().into()));
        for (ask, (status, _)) in asks.iter().zip(answers).skip(1) {
            assert_eq!(status, 404, "{} {}", ask.agent, ask.path);
        }
    }

    /// The kills that the client that follows has printed. One comes again when it is known what
    /// became of the container.
    fn followed(&self) -> Vec<Value> {
        let log = fs::read_to_string(&self.log).unwrap();
        let lines = log.lines().filter_map(|line| Some(line.split_once(" stdout F ")?.1));
        let mut kills: Vec<Value> =
            lines.map(|line| serde_json::from_str(line).expect(line)).collect();
        kills.dedup_by(|one, other| one["id"] == other["id"]);
        kills
    }
}

fn url(agent: SocketAddr) -> String {
    format!("http://{agent}")
}

fn names(kills: &Value) -> Vec<Value> {
    kills.as_array().expect("a list").iter().map(|kill| kill["id"].clone()).collect()
}

/// Puts what a kubelet says of a running pod into its object.
fn publish(object: &mut Value, addresses: &[IpAddr]) {
    let all: Vec<_> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
    let status = &mut object["status"];
    status["phase"] = "Running".into();
    status["hostIP"] = json!(NODE);
    status["podIP"] = json!(addresses[0]);
    status["podIPs"] = all.into();
}

/// A pod on the node's network, which has no address of its own.
struct Proxy {
    _sandbox: Sandbox,
    container: Running,
    object: Value,
}

impl Proxy {
    fn start(setup: Setup) -> Self {
        let sandbox = Sandbox::run(setup, PROXY);
        assert_eq!(sandbox.addresses(), [] as [IpAddr; 0]);
        let container = sandbox.start("proxy", 0, 64, &["idle"]);
        let mut object = object(PROXY, &[Name { pod: PROXY, container: "proxy", number: 1 }]);
        object["spec"]["hostNetwork"] = true.into();
        let id = format!("containerd://{}", container.id);
        object["status"]["containerStatuses"][0]["containerID"] = id.into();
        publish(&mut object, &[NODE.into()]);
        Proxy { _sandbox: sandbox, container, object }
    }

    /// Which address the agent sees is the plugins' doing: with these it is the node's end of the
    /// agent's pair of devices, unless the client takes another.
    fn is_refused(&self, agent: &Agent, [four, six]: [SocketAddr; 2]) {
        let asks = [
            (Question { from: None, agent: four, path: KILLS }, "unknown-address"),
            (Question { from: None, agent: six, path: KILLS }, "unknown-address"),
            (Question { from: Some(NODE), agent: four, path: KILLS }, "host-network"),
        ];
        let refused = |reason| format!("herder_self_refused_total{{reason=\"{reason}\"}}");
        let before = asks.each_ref().map(|(_, reason)| agent.metric(&refused(reason)));
        let answers = answers(&self.container, &asks.each_ref().map(|(ask, _)| *ask));
        for (((ask, reason), (status, text)), before) in asks.iter().zip(answers).zip(before) {
            say(&format!("on the node's network, from {:?}: {}", ask.from, text.trim()));
            assert!(status == 403 && text.starts_with(&format!("{reason}: ")), "{status} {text}");
            let why = ["on the host's network", "is the node's address"];
            assert!(why.iter().any(|why| text.contains(why)), "{text}");
            assert!(agent.metric(&refused(reason)) > before);
        }
    }
}

/// What a program of a container asks.
#[derive(Clone, Copy)]
struct Question {
    /// Its own address; whichever the kernel takes without.
    from: Option<Ipv4Addr>,
    agent: SocketAddr,
    path: &'static str,
}

/// Asks in a container: a status and a text for each question.
fn answers(it: &Running, asks: &[Question]) -> Vec<(u16, String)> {
    let asks = asks.iter().map(|ask| json!([ask.from, ask.agent, ask.path]));
    let asks = Value::from_iter(asks).to_string();
    let (code, said) = it.exec(&[SELF, "role", "asks", &asks]);
    assert_eq!(code, 0, "{said}");
    serde_json::from_str(&said).expect(&said)
}

/// A program of a container, which prints the answers.
pub fn asks(rest: &[&str]) -> ExitCode {
    let asks: Vec<(Option<Ipv4Addr>, SocketAddr, String)> = serde_json::from_str(rest[0]).unwrap();
    let answers = asks.into_iter().map(|(from, agent, path)| {
        let stream = from.map_or_else(|| TcpStream::connect(agent).unwrap(), |it| by(it, agent));
        ask_by(stream, &agent.to_string(), &path).expect("an answer")
    });
    println!("{}", json!(answers.collect::<Vec<_>>()));
    ExitCode::SUCCESS
}

/// A connection from this address.
fn by(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from((from, 0))).unwrap();
    connect(&socket, &to).unwrap();
    socket.into()
}

/// A supervisor: it asks each of these, loses a child, and asks until they know why.
pub fn loses_child(rest: &[&str]) -> ExitCode {
    let [mebibytes, agents @ ..] = rest else { panic!("what the child takes, and whom to ask") };
    let all = || agents.iter().map(|agent| answered(agent)).collect::<Vec<_>>();
    let before = all();
    let mut child = role("hog", &[mebibytes]).spawn().expect("start a child");
    let status = child.wait().expect("the child");
    assert_eq!(status.signal(), Some(libc::SIGKILL), "{status}");
    let mut after = Vec::new();
    eventually("they know why", || {
        after = all();
        after.iter().all(|kills| !kills.is_empty())
    });
    println!("{}", json!({ "child": child.id(), "before": before, "after": after }));
    ExitCode::SUCCESS
}

/// One that is refused asks again, as the answer says.
fn answered(agent: &str) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, text) = ask(agent, KILLS).expect("an answer");
        if status == 200 {
            return serde_json::from_str(&text).expect("kills");
        }
        assert!(Instant::now() < deadline, "{agent}: {status} {text}");
        sleep(Duration::from_millis(100));
    }
}
