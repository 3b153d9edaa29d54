//! The kubelet's way to a container: CRI, with the few messages that it takes
//! (k8s.io/cri-api, runtime/v1/api.proto).
//!
//! NRI is part of containerd's CRI: what `ctr` makes, no plugin is asked about.
//! Debian has no `crictl`.

mod connection;
pub mod kubelet;
mod messages;
mod network;
mod setup;
pub use messages::{ContainerConfig, Namespaces, Resources};
pub use setup::{Setup, import};

use super::bundle::{Pod, slice};
use crate::harness::{container::Cgroup, role::SELF, wait::eventually};
use connection::Cri;
use messages::{
    ContainerMetadata, ContainerSecurity, CreateContainer, Exec, Executed, Image, LinuxContainer,
    LinuxPod, Mount, Name, Nothing, PodMetadata, PodSandbox, PodSandboxConfig, PodSecurity,
    RunPodSandbox, UpdateResources,
};
use setup::IMAGE;
use std::{
    fs,
    net::IpAddr,
    path::PathBuf,
    time::{Duration, Instant},
};
use tonic::Status;

/// Where containers find this directory of the machine.
const NOTES: &str = "/run/cri-notes";

/// Where containers' output goes, if their configuration names a file.
const LOGS: &str = "/tmp";

/// A pod's sandbox, which is removed with all that is in it when this is dropped.
pub struct Sandbox {
    id: String,
    pod: Pod,
    setup: Setup,
    config: PodSandboxConfig,
    namespaces: Namespaces,
}

impl Sandbox {
    /// On the node's network.
    pub fn run(setup: Setup, pod: Pod) -> Self {
        Self::run_with(setup, pod, Namespaces::NODES_NETWORK)
    }

    pub fn run_with(setup: Setup, pod: Pod, namespaces: Namespaces) -> Self {
        let cgroup_parent = if setup.systemd {
            slice(pod.uid)
        } else {
            format!("/kubepods/burstable/pod{}", pod.uid)
        };
        let config = PodSandboxConfig {
            metadata: Some(PodMetadata {
                name: pod.name.into(),
                uid: pod.uid.into(),
                namespace: "shop".into(),
                // A test that failed has left its own.
                attempt: std::process::id(),
            }),
            log_directory: LOGS.into(),
            labels: [("app".to_owned(), pod.app.to_owned())].into(),
            linux: Some(LinuxPod {
                cgroup_parent,
                security_context: Some(PodSecurity { namespaces: Some(namespaces.clone()) }),
            }),
        };
        let question = RunPodSandbox { config: Some(config.clone()) };
        let answer: Name =
            Cri::connect().ask("/runtime.v1.RuntimeService/RunPodSandbox", question).unwrap();
        Sandbox { id: answer.id, pod, setup, config, namespaces }
    }

    /// The addresses that its network gave it, as the kubelet publishes them; none on the node's.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let question = Name { id: self.id.clone(), timeout: 0 };
        let answer: PodSandbox =
            Cri::connect().ask("/runtime.v1.RuntimeService/PodSandboxStatus", question).unwrap();
        let network = answer.status.and_then(|status| status.network).unwrap_or_default();
        let more = network.additional_ips.into_iter().map(|more| more.ip);
        let all = std::iter::once(network.ip).chain(more).filter(|address| !address.is_empty());
        all.map(|address| address.parse().expect("an address")).collect()
    }

    /// Makes and starts a container of these roles, which the number distinguishes from
    /// others of its name.
    pub fn start(&self, name: &str, number: u32, mebibytes: i64, role: &[&str]) -> Running {
        let running = self.create(name, number, mebibytes, role);
        running.start();
        running
    }

    /// Only makes it.
    pub fn create(&self, name: &str, number: u32, mebibytes: i64, role: &[&str]) -> Running {
        self.create_with(name, number, Resources::limited(mebibytes), role)
    }

    /// The same with other resources, and starts it.
    pub fn start_with(
        &self,
        name: &str,
        number: u32,
        resources: Resources,
        role: &[&str],
    ) -> Running {
        let running = self.create_with(name, number, resources, role);
        running.start();
        running
    }

    fn create_with(&self, name: &str, number: u32, resources: Resources, role: &[&str]) -> Running {
        self.create_program(name, number, resources, &[&[SELF, "role"], role].concat())
    }

    /// Only makes one of any program.
    pub fn create_program(
        &self,
        name: &str,
        number: u32,
        resources: Resources,
        command: &[&str],
    ) -> Running {
        let notes = PathBuf::from(format!("{NOTES}/{}-{name}-{}", self.pod.name, attempt(number)));
        fs::create_dir_all(&notes).unwrap();
        let namespaces = Some(self.namespaces.clone());
        let security = ContainerSecurity { namespaces, ..Default::default() };
        let config = ContainerConfig {
            image: Some(Image { image: IMAGE.into() }),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            mounts: vec![Mount {
                container_path: "/notes".into(),
                host_path: notes.display().to_string(),
                readonly: false,
            }],
            linux: Some(LinuxContainer {
                resources: Some(resources),
                security_context: Some(security),
            }),
            ..Default::default()
        };
        let running = self.create_config(name, number, config);
        Running { notes, ..running }
    }

    /// Only makes what such a configuration says.
    pub fn create_config(&self, name: &str, number: u32, config: ContainerConfig) -> Running {
        let metadata = ContainerMetadata { name: name.into(), attempt: attempt(number) };
        let question = CreateContainer {
            sandbox: self.id.clone(),
            config: Some(ContainerConfig { metadata: Some(metadata), ..config }),
            sandbox_config: Some(self.config.clone()),
        };
        let cri = Cri::connect();
        let began = Instant::now();
        let answer: Name = cri.ask("/runtime.v1.RuntimeService/CreateContainer", question).unwrap();
        Running {
            took: began.elapsed(),
            id: answer.id,
            notes: PathBuf::new(),
            cri,
            pod: self.pod,
            setup: self.setup,
        }
    }
}

/// Other tests, and one that failed, have left their own.
fn attempt(number: u32) -> u32 {
    std::process::id() * 1000 + number
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let cri = Cri::connect();
            cri.forget("/runtime.v1.RuntimeService/StopPodSandbox", &self.id);
            cri.forget("/runtime.v1.RuntimeService/RemovePodSandbox", &self.id);
        }
    }
}

/// A container.
pub struct Running {
    pub id: String,
    /// How long its creation took.
    pub took: Duration,
    /// What it finds at `/notes`.
    pub notes: PathBuf,
    cri: Cri,
    pod: Pod,
    setup: Setup,
}

impl Running {
    pub fn start(&self) {
        self.try_start().unwrap();
    }

    pub fn try_start(&self) -> Result<(), Status> {
        let question = Name { id: self.id.clone(), timeout: 0 };
        let method = "/runtime.v1.RuntimeService/StartContainer";
        self.cri.ask(method, question).map(|_: Nothing| ())
    }

    pub fn cgroup(&self) -> Cgroup {
        let (uid, id) = (self.pod.uid, &self.id);
        let path = if self.setup.systemd {
            format!("/kubepods.slice/kubepods-burstable.slice/{}/{}", slice(uid), self.scope())
        } else {
            format!("/kubepods/burstable/pod{uid}/{id}")
        };
        Cgroup::made(&path)
    }

    /// Its unit, if systemd made its cgroup.
    pub fn scope(&self) -> String {
        format!("cri-containerd-{}.scope", self.id)
    }

    /// The value in the spec that the OCI runtime was given.
    pub fn value_in_spec(&self) -> String {
        let bundles = "/run/containerd/io.containerd.runtime.v2.task/k8s.io";
        let text = fs::read_to_string(format!("{bundles}/{}/config.json", self.id)).unwrap();
        let spec: serde_json::Value = serde_json::from_str(&text).unwrap();
        let value = &spec["linux"]["resources"]["unified"]["memory.oom.group"];
        value.as_str().unwrap_or("-").to_owned()
    }

    /// Waits until the container's program has left a note, and gives it.
    pub fn note(&self, name: &str) -> String {
        let file = self.notes.join(name);
        eventually(&format!("the note {name} is there"), || file.exists());
        fs::read_to_string(file).unwrap()
    }

    /// Runs a program in it, as `kubectl exec` and probes do: its exit code, and what it printed.
    pub fn exec(&self, command: &[&str]) -> (i32, String) {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        let question = Exec { container: self.id.clone(), command, timeout: 60 };
        let method = "/runtime.v1.RuntimeService/ExecSync";
        let Executed { stdout, stderr, code } = self.cri.ask(method, question).unwrap();
        (code, String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
    }

    /// Ends it, and waits so long before it is killed.
    pub fn stop(&self, seconds: i64) -> Result<(), Status> {
        let question = Name { id: self.id.clone(), timeout: seconds };
        let method = "/runtime.v1.RuntimeService/StopContainer";
        self.cri.ask(method, question).map(|_: Nothing| ())
    }

    pub fn update(&self, resources: Resources) -> Result<(), Status> {
        let question = UpdateResources { container: self.id.clone(), linux: Some(resources) };
        let method = "/runtime.v1.RuntimeService/UpdateContainerResources";
        self.cri.ask(method, question).map(|_: Nothing| ())
    }

    pub fn remove(&self) {
        self.cri.forget("/runtime.v1.RuntimeService/StopContainer", &self.id);
        self.cri.forget("/runtime.v1.RuntimeService/RemoveContainer", &self.id);
    }
}
