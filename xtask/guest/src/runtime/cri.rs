//! The kubelet's way to a container: CRI, with the few messages that it takes
//! (k8s.io/cri-api, runtime/v1/api.proto).
//!
//! NRI is part of containerd's CRI: what `ctr` makes, no plugin is asked about.
//! Debian has no `crictl`. Pods use the node's network, so that no CNI is needed.

pub mod kubelet;
mod messages;
pub use messages::{ContainerConfig, Resources};

use super::{
    bundle::{Pod, slice},
    engine::{Daemon, call},
};
use crate::harness::{container::Cgroup, role::SELF, wait::eventually};
use messages::{
    ContainerMetadata, ContainerSecurity, CreateContainer, Exec, Executed, Image, ImageStatus,
    LinuxContainer, LinuxPod, Mount, Name, Namespaces, Nothing, PodMetadata, PodSandboxConfig,
    PodSecurity, RunPodSandbox, UpdateResources,
};
use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};
use tonic::{Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

/// What xtask has packed: this program, as `/init` of an image.
const IMAGE_FILE: &str = "/images/guest.tar";

/// Its name; the sandboxes are made of it too.
const IMAGE: &str = "localhost/herder-guest:tests";

/// Where containers find this directory of the machine.
const NOTES: &str = "/run/cri-notes";

/// Where containers' output goes, if their configuration names a file.
const LOGS: &str = "/tmp";

const SOCKET: &str = "unix:///run/containerd/containerd.sock";

/// The kernel of the tests has no module for overlayfs.
const CONFIG: &str = r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "IMAGE"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "RUNC"
        SystemdCgroup = SYSTEMD
"#;

const WITH_NRI: &str = "[plugins.\"io.containerd.nri.v1.nri\"]\n  disable = false\n";

/// How containerd is set up.
#[derive(Clone, Copy)]
pub struct Setup {
    pub systemd: bool,
    /// Whether NRI is switched on, and not left as it is by default.
    pub nri: bool,
    /// The OCI runtime.
    pub runc: &'static str,
}

impl Setup {
    pub const fn new(systemd: bool) -> Self {
        Setup { systemd, nri: false, runc: "runc" }
    }

    /// crun leaves the scope to systemd and makes a cgroup below it.
    pub fn inner(&self) -> &'static str {
        if self.systemd && self.runc == "crun" { "/container" } else { "" }
    }

    /// Starts containerd, with the image.
    pub fn start(&self) -> Daemon {
        let config = CONFIG
            .replace("IMAGE", IMAGE)
            .replace("RUNC", self.runc)
            .replace("SYSTEMD", &self.systemd.to_string());
        let config = if self.nri { config + WITH_NRI } else { config };
        fs::write("/run/containerd.toml", config).unwrap();
        for name in ["/etc/hosts", "/etc/resolv.conf"] {
            fs::OpenOptions::new().append(true).create(true).open(name).unwrap();
        }
        fs::create_dir_all(NOTES).unwrap();
        let daemon = Daemon::start_with(&["--config", "/run/containerd.toml"]);
        import(IMAGE_FILE, IMAGE);
        daemon
    }
}

/// Takes the archive of an image, as an operator does on a node.
pub fn import(file: &str, image: &str) {
    let import =
        ["--namespace", "k8s.io", "images", "import", "--local", "--snapshotter", "native"];
    call(Command::new("ctr").args(import).arg(file));
    let cri = Cri::connect();
    eventually("CRI has the image", || cri.has_image(image));
}

/// A connection to containerd.
pub struct Cri {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
}

impl Cri {
    pub fn connect() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = tonic::transport::Endpoint::from_static(SOCKET);
        let channel = runtime.block_on(async { endpoint.connect_lazy() });
        Cri { runtime, channel }
    }

    fn ask<Q, A>(&self, method: &'static str, question: Q) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        self.runtime.block_on(async {
            let mut client = Grpc::new(self.channel.clone());
            client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
            let mut request = Request::new(question);
            request.set_timeout(Duration::from_secs(120));
            let path = PathAndQuery::from_static(method);
            let codec: ProstCodec<Q, A> = ProstCodec::default();
            Ok(client.unary(request, path, codec).await?.into_inner())
        })
    }

    fn has_image(&self, image: &str) -> bool {
        let question = ImageStatus { image: Some(Image { image: image.into() }) };
        let answer = self.ask("/runtime.v1.ImageService/ImageStatus", question);
        answer.is_ok_and(|answer: ImageStatus| answer.image.is_some())
    }

    fn forget(&self, method: &'static str, id: &str) {
        let question = Name { id: id.into(), timeout: 0 };
        let _: Nothing = self.ask(method, question).unwrap();
    }
}

/// A pod's sandbox, which is removed with all that is in it when this is dropped.
pub struct Sandbox {
    id: String,
    pod: Pod,
    setup: Setup,
    config: PodSandboxConfig,
    node_pids: bool,
}

impl Sandbox {
    pub fn run(setup: Setup, pod: Pod) -> Self {
        Self::run_with(setup, pod, false)
    }

    /// The same, with the pid namespace of the node if that is wanted.
    pub fn run_with(setup: Setup, pod: Pod, node_pids: bool) -> Self {
        let cgroup_parent = if setup.systemd {
            slice(pod.uid)
        } else {
            format!("/kubepods/burstable/pod{}", pod.uid)
        };
        let namespaces = Namespaces { network: 2, pid: if node_pids { 2 } else { 1 } };
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
                security_context: Some(PodSecurity { namespaces: Some(namespaces) }),
            }),
        };
        let question = RunPodSandbox { config: Some(config.clone()) };
        let answer: Name =
            Cri::connect().ask("/runtime.v1.RuntimeService/RunPodSandbox", question).unwrap();
        Sandbox { id: answer.id, pod, setup, config, node_pids }
    }

    /// Makes and starts a container of these roles, which the number tells from others of
    /// its name.
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
        let namespaces = Namespaces { network: 2, pid: if self.node_pids { 2 } else { 1 } };
        let security = ContainerSecurity { namespaces: Some(namespaces), ..Default::default() };
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
