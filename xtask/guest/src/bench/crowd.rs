//! Many containers of pods at rest, for what only grows with their number.

use super::programs::Herder;
use crate::{
    harness::{container::Cgroup, wait::within},
    runtime::machine::PATH,
};
use serde_json::{Value, json};
use std::{
    fs,
    ops::Range,
    process::{Command, Stdio},
    time::Duration,
};

/// A list of pods as an API server gave it.
const PODS: &str =
    include_str!("../../../../herder-agent/tests/fixtures/k8s-wire/list-pods-node-1-mixed.body");

/// An agent that asks for all of them and steers each.
pub const HERDER: Herder = Herder {
    rules: "rules:\n- {name: all, pods: {}, oomGroup: single-process}\n",
    flags: &["--kubernetes", "on", "--node-name", "node-1"],
    more: &[],
};

fn uid(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

fn id(number: usize) -> String {
    format!("{number:064x}")
}

/// The recorded pods again and again, as big as they were, each with one container.
pub fn pods(numbers: Range<usize>) -> Vec<Value> {
    let list: Value = serde_json::from_str(PODS).unwrap();
    let recorded: Vec<_> = (list["items"].as_array().unwrap().iter())
        .filter(|pod| pod["status"]["containerStatuses"][0]["containerID"].is_string())
        .collect();
    let pod = |number: usize| {
        let mut pod = recorded[number % recorded.len()].clone();
        pod["metadata"]["uid"] = json!(uid(number));
        pod["metadata"]["name"] = json!(format!("pod-{number}"));
        // A static pod has its uid in its configuration's hash.
        pod["metadata"]["annotations"] = Value::Null;
        let first = &mut pod["status"]["containerStatuses"][0];
        first["containerID"] = json!(format!("containerd://{}", id(number)));
        pod["status"]["containerStatuses"].as_array_mut().unwrap().truncate(1);
        pod
    };
    numbers.map(pod).collect()
}

/// The container's cgroup.
pub fn path(number: usize) -> String {
    format!("/kubepods/burstable/pod{}/{}", uid(number), id(number))
}

/// Waits until so many of them are as the rule wants it.
pub fn wait_until_steered(count: usize) {
    let mut left: Vec<_> = (0..count).map(|number| Cgroup::made(&path(number))).collect();
    within(Duration::from_secs(120), "all containers are steered", || {
        left.retain(|cgroup| cgroup.oom_group() != "0");
        left.is_empty()
    });
}

/// Gives all of them the runtime's value again.
pub fn remove(count: usize) {
    (0..count).for_each(|number| Cgroup::made(&path(number)).set("memory.oom.group", "1"));
}

/// Makes these of the containers, each with one process that sleeps as long as the
/// guest runs.
#[expect(clippy::zombie_processes, reason = "none of them ends")]
pub fn start(numbers: Range<usize>) {
    for number in numbers {
        let cgroup = Cgroup::make(&path(number));
        cgroup.limit(64);
        cgroup.set("memory.oom.group", "1");
        let mut sleeper = Command::new("busybox");
        sleeper.args(["sleep", "100000"]).env("PATH", PATH);
        sleeper.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let sleeper = sleeper.spawn().unwrap();
        fs::write(cgroup.file("cgroup.procs"), sleeper.id().to_string()).unwrap();
    }
}
