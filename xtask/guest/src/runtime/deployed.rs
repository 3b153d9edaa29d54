//! The agent as the container that `deploy/` asks for, made by a real runtime as the kubelet has
//! it made: with its mounts, capabilities, seccomp and AppArmor profiles and read-only root, and
//! with pid namespace and network of its own.
//!
//! Two things are not the cluster's: the rules, and the API server, which is the tests', at the
//! node's address, and named by a kubeconfig.

use super::{
    apparmor,
    bundle::Pod,
    cri::{Running, Sandbox, Setup, import, kubelet},
};
use crate::harness::{
    agent::{Agent, LOG},
    system::interface_up,
    wait::eventually,
};
use serde_json::{Value, json};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::symlink,
};

/// What xtask has packed. The DaemonSets are beside it, each with a component.
const IMAGE_FILE: &str = "/images/agent.tar";

/// The node's own address.
pub const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

const POD: Pod =
    Pod { name: "herder-agent-x7k2p", app: "herder", uid: "2c3d4e5f-6071-8293-a4b5-c6d7e8f90a1b" };

/// The volumes that the kubelet makes for the pod; the others are the node's.
const CONFIG: &str = "/run/volumes/config";
const STATE: &str = "/run/volumes/state";

/// The agent's pod on this node.
pub struct Deployed {
    setup: Setup,
    spec: Value,
    sandbox: Sandbox,
    /// Of both families.
    addresses: Vec<IpAddr>,
    number: u32,
    container: Option<Running>,
}

impl Deployed {
    /// The pod's sandbox, as this component has it, with these rules as its ConfigMap. An API
    /// server has to be there.
    pub fn new(setup: Setup, component: &str, rules: &str) -> Self {
        // What another test has left.
        let _ = fs::remove_file(LOG);
        for volume in [CONFIG, STATE, "/var/lib/herder"] {
            let _ = fs::remove_dir_all(volume);
        }
        for volume in [CONFIG, STATE] {
            fs::create_dir_all(volume).unwrap();
        }
        let kubeconfig = fs::read_to_string("/tmp/kubeconfig").unwrap();
        let kubeconfig = kubeconfig.replace("/tmp/", "/etc/herder/");
        assert!(interface_up("lo:node", NODE.octets()));
        let kubeconfig = kubeconfig.replace("127.0.0.1", &NODE.to_string());
        fs::write(format!("{CONFIG}/kubeconfig"), kubeconfig).unwrap();
        fs::copy("/tmp/ca.pem", format!("{CONFIG}/ca.pem")).unwrap();
        configure(rules);
        let manifest = fs::read(format!("/images/daemon-set-{component}.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let mut spec = manifest["spec"]["template"]["spec"].clone();
        import(IMAGE_FILE, spec["containers"][0]["image"].as_str().expect("an image"));
        let variables = spec["containers"][0]["env"].as_array_mut().expect("variables");
        variables.push(json!({"name": "KUBECONFIG", "value": "/etc/herder/kubeconfig"}));
        let sandbox = Sandbox::run_with(setup, POD, kubelet::namespaces(&spec));
        let addresses = sandbox.addresses();
        assert_eq!(addresses.len(), 2, "a network of its own, of both families: {addresses:?}");
        Deployed { setup, spec, sandbox, addresses, number: 0, container: None }
    }

    /// The pod's addresses, IPv4 first.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// What the agent's container is made of.
    pub fn image(&self) -> &Value {
        &self.spec["containers"][0]["image"]
    }

    /// Makes its container, and waits until it is ready.
    pub fn start(&mut self) -> Agent {
        let log = LOG.strip_prefix("/tmp/").expect("a file of /tmp");
        let config = kubelet::container(&self.spec, &[("config", CONFIG), ("state", STATE)], log);
        let container = self.sandbox.create_config("agent", self.number, config);
        self.number += 1;
        container.start();
        let container = self.container.insert(container);
        let agent = Agent::at(self.addresses[0]);
        let is_ready = || agent.try_get("/readyz").is_some_and(|(status, _)| status == 200);
        eventually("the agent is ready", is_ready);
        let label = apparmor::of(container, self.setup);
        assert_eq!(label, apparmor::DEFAULT, "has the tree of packages apparmor_parser?");
        let ready = agent.get("/readyz");
        assert!(ready.contains("source: ebpf"), "{ready}{}", Agent::log());
        agent
    }

    /// Runs the agent's program beside the agent, as `kubectl exec` does.
    pub fn exec(&self, arguments: &[&str]) -> (i32, String) {
        let program = [&["/herder-agent"], arguments].concat();
        self.container.as_ref().expect("a container").exec(&program)
    }

    /// Ends the container as the kubelet does.
    pub fn stop(&mut self) {
        self.end(self.spec["terminationGracePeriodSeconds"].as_i64().expect("seconds"));
    }

    /// Ends it as the OOM killer would.
    pub fn kill(&mut self) {
        self.end(0);
    }

    fn end(&mut self, seconds: i64) {
        let container = self.container.take().expect("a container");
        container.stop(seconds).unwrap();
        container.remove();
    }
}

impl Drop for Deployed {
    fn drop(&mut self) {
        // Of a test that failed. The next one must not be answered by it.
        if let Some(container) = self.container.take() {
            let _ = container.stop(0);
        }
    }
}

/// Other rules, as the kubelet brings a changed ConfigMap into a volume: by a link that is
/// replaced.
pub fn configure(rules: &str) {
    let (file, link) = (format!("{CONFIG}/herder.yaml"), format!("{CONFIG}/..data"));
    let number = fs::read_dir(CONFIG).unwrap().count();
    let (version, next) = (format!("..version-{number}"), format!("{CONFIG}/..next"));
    fs::create_dir(format!("{CONFIG}/{version}")).unwrap();
    fs::write(format!("{CONFIG}/{version}/herder.yaml"), rules).unwrap();
    symlink(version, &next).unwrap();
    fs::rename(next, link).unwrap();
    // Only the first time.
    let _ = symlink("..data/herder.yaml", file);
}
