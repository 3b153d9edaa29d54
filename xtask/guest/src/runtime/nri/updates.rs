//! What becomes of updates, and of labels that change.

use super::plugin::{answers, by_default, is_connected, ones, with_nri};
use crate::{
    harness::{agent::Agent, api::Api, say::say, wait::eventually},
    runtime::{
        bundle::{DB, WEB, object},
        cri::{Resources, Running, Sandbox},
        trace::Trace,
        web::RULES,
    },
};
use serde_json::json;
use std::fs;

/// A resize, as the kubelet sends it, with 1; and a change of the CPUs without it.
pub fn updates(systemd: bool) {
    let setup = with_nri(systemd);
    let _daemon = setup.start();
    let agent = crate::runtime::nri::plugin::agent("auto");
    eventually("it is connected", || is_connected(&agent));
    let (web, db) = (Sandbox::run(setup, WEB), Sandbox::run(setup, DB));
    let worker = web.start("worker", 0, 64, &["idle"]);
    let other = db.start("postgres", 0, 64, &["idle"]);
    let (cgroup, others) = (worker.cgroup(), other.cgroup());
    let read = |file: &str| fs::read_to_string(cgroup.file(file)).unwrap().trim().to_owned();
    let trace = Trace::start();
    for mebibytes in [96, 128] {
        // With MemoryQoS the kubelet asks for this too.
        let high = ((mebibytes - 16) << 20).to_string();
        let mut resources = Resources::limited(mebibytes);
        resources.unified.insert("memory.high".into(), high.clone());
        worker.update(resources).unwrap();
        assert_eq!(read("memory.high"), high, "nothing of the update is lost");
        other.update(Resources::limited(mebibytes)).unwrap();
        assert_eq!(read("memory.max"), (mebibytes << 20).to_string(), "the update was one");
        eventually("it is 0", || worker.cgroup().oom_group() == "0");
        assert_eq!(others.oom_group(), "1");
    }
    let (here, there) =
        (ones(&trace, |id| id == cgroup.id()), ones(&trace, |id| id == others.id()));
    say(&format!(
        "2 updates with 1: it was written {here} times, for an unmatched one {there} times"
    ));
    // containerd 1.7 does not send what an update asks for; so it is not answered, and
    // the cgroup corrects it.
    let (written, set, corrected) = if by_default() { (0, 3.0, 0.0) } else { (2, 1.0, 2.0) };
    assert_eq!((here, there), (written, 2));
    assert_eq!(answers(&agent, "set"), set);
    assert_eq!(agent.total("herder_oom_group_writes_total"), corrected);
    swap(&web, &worker);
    // What has no value gets the stored spec's, which is ours.
    trace.clear();
    let cpus = Resources { cpu_shares: 512, ..Resources::default() };
    worker.update(cpus).unwrap();
    say(&format!(
        "an update of the CPUs alone: 1 written {} times, {} in memory.oom.group",
        ones(&trace, |id| id == cgroup.id()),
        read("memory.oom.group")
    ));
    assert_eq!(read("memory.oom.group"), "0");
}

/// containerd has no room for swap in what it asks plugins, and forgets it where one
/// answers: so the agent does not, of a container that has swap.
fn swap(web: &Sandbox, worker: &Running) {
    let swapping = web.start_with("worker", 1, Resources::swapping(64, 32), &["idle"]);
    let read = |container: &Running| {
        fs::read_to_string(container.cgroup().file("memory.swap.max")).unwrap().trim().to_owned()
    };
    let before = [read(worker), read(&swapping)];
    for container in [worker, &swapping] {
        container.update(Resources::swapping(96, 48)).unwrap();
    }
    let after = [read(worker), read(&swapping)];
    say(&format!(
        "memory.swap.max at a resize to 48 MiB of swap: without swap before {} → {}, with it {} → {}",
        before[0], after[0], before[1], after[1]
    ));
    // Outside of a cgroup containerd finds no swap to limit.
    if before[1] != "max" {
        assert_eq!((before[1].as_str(), &*after[1]), ("33554432", "50331648"));
    }
    eventually("the value is corrected by the cgroup", || swapping.cgroup().oom_group() == "0");
    swapping.remove();
}

/// The agent's two halves decide by the same labels, those that the API server has now:
/// whatever the runtime was given when it made the pod.
pub fn labels_of_now(systemd: bool) {
    let setup = with_nri(systemd);
    let _daemon = setup.start();
    let mut pod = object(WEB, &[]);
    let api = Api::start(&pod);
    let flags = ["--nri", "on", "--kubernetes", "on", "--node-name", "node-1"];
    let agent = Agent::start_with(RULES, &flags);
    eventually("it is connected", || is_connected(&agent));
    let web = Sandbox::run(setup, WEB);
    let start = |number| web.start("worker", number, 64, &["idle"]);
    let values = |container: &Running| (container.value_in_spec(), container.cgroup().oom_group());
    let (zero, one) = (("0".to_owned(), "0".to_owned()), ("1".to_owned(), "1".to_owned()));
    let first = start(0);
    assert_eq!(values(&first), zero);

    let mut relabel = |app: &str, version: &str| {
        pod["metadata"]["labels"] = json!({"app": app});
        pod["metadata"]["resourceVersion"] = version.into();
        api.modified(&pod);
    };
    let steered = |container: &Running| agent.container(container.cgroup().path()).is_some();
    relabel("other", "2");
    eventually("it is let go", || !steered(&first));
    first.update(Resources::limited(96)).unwrap();
    assert_eq!(first.cgroup().oom_group(), "1", "as the kubelet asks");
    let second = start(1);
    assert_eq!(values(&second), one);

    relabel("web", "3");
    eventually("both are steered", || steered(&first) && steered(&second));
    eventually("by their cgroups", || second.cgroup().oom_group() == "0");
    assert_eq!(values(&start(2)), zero);
    say(&format!("{} answers set a value", answers(&agent, "set")));

    // The next agent meets the runtime before it has a list of the API server. The runtime knows
    // the labels of the pod's creation, and would write an answer by those with each later update.
    relabel("other", "4");
    eventually("it is let go again", || !steered(&first));
    first.update(Resources::limited(128)).unwrap();
    assert_eq!(first.cgroup().oom_group(), "1", "as the kubelet asks");
    api.go_away();
    drop(agent);
    let agent = Agent::start_with(RULES, &flags);
    eventually("the next is connected", || is_connected(&agent));
    let cpus = Resources { cpu_shares: 512, ..Resources::default() };
    first.update(cpus).unwrap();
    assert_eq!(first.cgroup().oom_group(), "1", "no rule matches the labels of now");
    assert_eq!(agent.total("herder_oom_group_writes_total"), 0.0);
}
