//! Whose limit mattered, in pods as the kubelet lays them out: the pod's slice has the
//! sum of its containers' limits, or one of its own, and a pause container below it that
//! has none.

use crate::harness::{
    agent::Agent,
    api::Api,
    container::{Cgroup, Container, run_in},
    kill::assert_kill,
    pod::{self, ID, cgroup},
    test::{Test, tests},
    wait::eventually,
};
use serde_json::{Value, json};
use std::{fs, process::Child};

pub const TESTS: &[Test] = tests![
    limit_of_the_only_container,
    limits_of_two_containers,
    limit_of_the_pod_as_a_whole,
    limits_that_only_cgroups_have
];

const KINDS: [&str; 3] = ["subprocess", "init", "group"];

/// The pod's slice with a limit, and its pause container, which uses some memory too.
struct Sandbox {
    slice: Cgroup,
    pause: Child,
}

impl Sandbox {
    fn start(mebibytes: u32, pause: &[&str]) -> Self {
        let scope = Cgroup::make(&beside('0'));
        let slice = Cgroup::made(scope.path().rsplit_once('/').unwrap().0);
        slice.limit(mebibytes);
        Sandbox { slice, pause: run_in(&scope, pause) }
    }

    /// Times that the kernel found this very cgroup over its limit.
    fn over_limit(cgroup: &Cgroup) -> u64 {
        let text = fs::read_to_string(cgroup.file("memory.events.local")).unwrap();
        let found = text.lines().find_map(|line| line.strip_prefix("oom "));
        found.unwrap().parse().unwrap()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.pause.kill();
        let _ = self.pause.wait();
    }
}

/// Another container's cgroup in the same pod.
fn beside(letter: char) -> String {
    cgroup().replace(ID, &ID.replace('e', &letter.to_string()))
}

fn current(cgroup: &Cgroup) -> u64 {
    fs::read_to_string(cgroup.file("memory.current")).unwrap().trim().parse().unwrap()
}

/// The numbers of both limits, MiB.
fn assert_limits(kill: &Value, hit: &Cgroup, hit_bytes: u64, own: u64) {
    let reported = ["limit_cgroup", "limit_bytes", "container_limit_bytes"].map(|key| &kill[key]);
    assert_eq!(
        reported,
        [&json!(hit.path()), &json!(hit_bytes << 20), &json!(own << 20)],
        "{kill:#}"
    );
}

fn series(kind: &str, limit: &str) -> String {
    format!(
        r#"herder_oom_kills_total{{container="worker",kind="{kind}",limit="{limit}",namespace="shop",pod="web-0"}}"#
    )
}

/// A first kill is seen by `increase()` only where its series was there before.
fn assert_zeros(agent: &Agent) {
    eventually("the container is matched", || agent.container(&cgroup()).is_some());
    let metrics = agent.get("/metrics");
    for kind in KINDS {
        for limit in ["container", "pod", "node"] {
            assert!(metrics.contains(&format!("{} 0\n", series(kind, limit))), "{metrics}");
        }
    }
}

/// One container with a limit: the slice has the same, and the pause container makes it
/// the one that is hit. The owner is to raise the container's.
fn limit_of_the_only_container() {
    let mut pod = pod::pod(1, Some(ID), None);
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "100Mi"}});
    let api = Api::start(&pod);
    let agent = pod::agent(&[]);
    let sandbox = Sandbox::start(100, &["idle"]);
    let container = Container::start(&cgroup(), 100, &["idle", "later:200"]);
    assert_zeros(&agent);
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "subprocess", "container", &cgroup());
    assert_limits(&kills[0], &sandbox.slice, 100, 100);
    let over = [&sandbox.slice, &container.cgroup].map(Sandbox::over_limit);
    assert!(over[0] > 0 && over[1] == 0, "the kernel hit the slice's limit: {over:?}");
    assert_eq!(agent.metric(&series("subprocess", "container")), 1.0);
    let event = api.event("SubprocessOOMKilled");
    let message = event["message"].as_str().unwrap();
    assert!(message.contains("the container's limit is 100 MiB."), "{message}");
    let log = Agent::log();
    let line = log.lines().find(|line| line.contains("OOM kill.")).expect("the kill is logged");
    assert!(line.contains("container_limit_bytes=104857600"), "{line}");
    agent.assert_nothing_lost();
}

/// Both containers are at their limits when the slice is at their sum, whichever loses a
/// process.
fn limits_of_two_containers() {
    let mut pod = pod::pod(1, Some(ID), None);
    let limits = json!({"limits": {"memory": "60Mi"}});
    pod["spec"]["containers"] =
        json!(["worker", "side"].map(|name| json!({"name": name, "resources": limits})));
    let side_id = ID.replace('e', "1");
    let status = |name: &str, id: &str| json!({"name": name, "containerID": format!("containerd://{id}"), "restartCount": 0});
    pod["status"]["containerStatuses"] = json!([status("worker", ID), status("side", &side_id)]);
    let _api = Api::start(&pod);
    let agent = pod::agent(&[]);
    let sandbox = Sandbox::start(120, &["hog", "6"]);
    let side = Container::start(&beside('1'), 60, &["hog:54"]);
    eventually("the other one has grown", || current(&side.cgroup) > 54 << 20);
    let container = Container::start(&cgroup(), 60, &["idle", "hog:100"]);
    eventually("a kill", || !agent.kills().is_empty());
    let kill = agent.kills().remove(0);
    let victim = kill["cgroup"].as_str().unwrap().to_owned();
    assert!([cgroup(), beside('1')].contains(&victim), "{kill:#}");
    assert_kill(&kill, "subprocess", "container", &victim);
    assert_limits(&kill, &sandbox.slice, 120, 60);
    let over = [&sandbox.slice, &container.cgroup].map(Sandbox::over_limit);
    assert!(over[0] > 0, "the kernel hit the slice's limit: {over:?}");
    agent.assert_nothing_lost();
}

/// Pod-level resources: the slice has a limit of its own, and so has each container that
/// asks for none. One takes the memory of the other.
fn limit_of_the_pod_as_a_whole() {
    let mut pod = pod::pod(1, Some(ID), None);
    pod["spec"]["resources"] = json!({"limits": {"memory": "120Mi"}});
    let api = Api::start(&pod);
    let agent = pod::agent(&[]);
    let sandbox = Sandbox::start(120, &["idle"]);
    let side = Container::start(&beside('1'), 120, &["hog:40"]);
    eventually("the other one has grown", || current(&side.cgroup) > 40 << 20);
    let _container = Container::start(&cgroup(), 120, &["idle", "later:200"]);
    assert_zeros(&agent);
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "subprocess", "pod", &cgroup());
    assert_limits(&kills[0], &sandbox.slice, 120, 120);
    assert_eq!(agent.metric(&series("subprocess", "pod")), 1.0);
    let event = api.event("SubprocessOOMKilled");
    let message = event["message"].as_str().unwrap();
    assert!(message.contains("the pod's limit of 120 MiB was hit."), "{message}");
    agent.assert_nothing_lost();
}

/// Without an API server, and without eBPF: what the cgroups say is enough.
fn limits_that_only_cgroups_have() {
    let rules = format!(
        "rules:\n- {{name: m, cgroups: ['{}/*'], oomGroup: single-process}}\n",
        cgroup().rsplit_once('/').unwrap().0
    );
    for (source, sum) in
        [("ebpf", true), ("ebpf", false), ("memory-events", true), ("memory-events", false)]
    {
        let agent = Agent::start_with(&rules, &["--source", source]);
        let sandbox = Sandbox::start(100, &["idle"]);
        // With pod-level resources a container without a limit gets the pod's, and then
        // both have more than that together.
        let side = (!sum).then(|| Container::start(&beside('1'), 100, &["hog:10"]));
        let container = Container::start(&cgroup(), 100, &["idle", "hog:150"]);
        eventually("a kill", || !agent.kills().is_empty());
        let kill = agent.kills().remove(0);
        let limit = if sum { "container" } else { "pod" };
        assert_kill(&kill, "subprocess", limit, &cgroup());
        assert_limits(&kill, &sandbox.slice, 100, 100);
        agent.assert_nothing_lost();
        drop((agent, container, side, sandbox));
        let made = ['e', '0'].into_iter().chain((!sum).then_some('1'));
        made.for_each(|letter| Cgroup::made(&beside(letter)).remove());
    }
}
