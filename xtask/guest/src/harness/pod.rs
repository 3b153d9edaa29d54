//! The pod of the tests with an API server: its object, the cgroups that the kubelet and
//! containerd make for it, and the agent that has a rule for it.

use super::{agent::Agent, container::Cgroup};
use serde_json::{Value, json};

pub const UID: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";

pub const ID: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

pub const RULES: &str = "\
rules:
- name: web
  pods: {namespaces: [shop], selector: {matchLabels: {app: web}}}
  oomGroup: single-process
";

pub fn cgroup() -> String {
    let uid = UID.replace('-', "_");
    format!(
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice/cri-containerd-{ID}.scope"
    )
}

/// The pod, with its container's ID or, before the kubelet has reported it, without.
pub fn pod(version: u32, id: Option<&str>, annotation: Option<&str>) -> Value {
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

/// The pod's sandbox, which is made before its containers.
pub fn sandbox() -> Cgroup {
    Cgroup::make(&cgroup().replace(ID, &ID.replace('e', "0")))
}

pub fn agent(more: &[&str]) -> Agent {
    let flags = ["--kubernetes", "on", "--node-name", "node-1"];
    Agent::start_with(RULES, &[&flags, more].concat())
}
