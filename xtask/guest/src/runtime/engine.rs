//! The programs that make containers, driven as containerd's shim drives them.

use super::{
    bundle::{self, Name},
    machine::PATH,
};
use crate::harness::{container::Cgroup, wait::eventually};
use serde_json::Value;
use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// A program that makes containers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    Runc,
    Crun,
    /// containerd by its client `ctr`, with runc.
    Containerd,
}

/// A runtime with one of its two ways to make cgroups.
#[derive(Clone, Copy)]
pub struct Engine {
    tool: Tool,
    /// Whether systemd is asked to make the cgroup.
    systemd: bool,
}

impl Engine {
    pub const RUNC: Engine = Engine { tool: Tool::Runc, systemd: false };
    pub const CRUN: Engine = Engine { tool: Tool::Crun, systemd: false };
    pub const CONTAINERD: Engine = Engine { tool: Tool::Containerd, systemd: false };

    pub const fn with_systemd(self) -> Self {
        Engine { systemd: true, ..self }
    }

    /// The program's own words for its name and version, and the driver.
    pub fn version(&self) -> String {
        let program = match self.tool {
            Tool::Runc => "runc",
            Tool::Crun => "crun",
            Tool::Containerd => "containerd",
        };
        let mut command = Command::new(program);
        let output = command.env("PATH", PATH).arg("--version").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let driver = if self.systemd { "systemd" } else { "cgroupfs" };
        format!("{} ({driver})", text.lines().next().unwrap_or("?").replace(" version", ""))
    }

    /// Where the runtime puts the container's processes.
    fn cgroup(&self, name: &Name) -> Cgroup {
        let path = name.cgroup(self.systemd);
        Cgroup::made(&format!("{path}{}", self.inner().unwrap_or_default()))
    }

    /// crun leaves the scope to systemd and makes a cgroup below it.
    pub fn inner(&self) -> Option<&'static str> {
        (self.systemd && self.tool == Tool::Crun).then_some("/container")
    }

    pub fn is_systemd(&self) -> bool {
        self.systemd
    }

    /// The cgroup of the container's pod, which is the kubelet's or systemd's.
    pub fn pod(&self, name: &Name) -> Cgroup {
        let path = name.cgroup(self.systemd);
        Cgroup::made(path.rsplit_once('/').expect("a pod's cgroup above").0)
    }

    /// Starts what has to run beside the containers.
    pub fn begin(&self) -> Option<Daemon> {
        (self.tool == Tool::Containerd).then(Daemon::start)
    }

    /// Makes a container and starts its program at once.
    pub fn run(&self, name: Name, mebibytes: u64, program: &[&str]) -> Running {
        let bundle = bundle::write(&name, self.systemd, mebibytes, program);
        if !self.systemd {
            // The pod's cgroup is the kubelet's.
            let parent = name.cgroup(false);
            Cgroup::make(parent.rsplit_once('/').unwrap().0);
        }
        let id = name.id();
        let directory = bundle.display().to_string();
        let spec = format!("{directory}/config.json");
        let running = Running { engine: *self, name, cgroup: self.cgroup(&name), bundle };
        match self.tool {
            Tool::Containerd if self.systemd => {
                let path = name.cgroups_path(true);
                let systemd = ["--runc-systemd-cgroup", "--cgroup", &path];
                ctr(&[&["run", "--detach"], &systemd[..], &["--config", &spec, &id]].concat());
            }
            Tool::Containerd => ctr(&["run", "--detach", "--config", &spec, &id]),
            _ => self.oci(&["run", "--detach", "--bundle", &directory, &id]),
        }
        running
    }

    /// Changes the resources of a running container. A task's update comes to
    /// containerd's shim, which calls the runtime so; `ctr` has no command for it.
    pub fn update(&self, name: &Name, resources: &Value) {
        let file = format!("/run/bundles/{}/resources.json", name.id());
        fs::write(&file, resources.to_string()).unwrap();
        self.oci(&["update", "--resources", &file, &name.id()]);
    }

    fn remove(&self, name: &Name) {
        let id = name.id();
        if self.tool == Tool::Containerd {
            ctr(&["tasks", "rm", "--force", &id]);
            ctr(&["containers", "rm", &id]);
        } else {
            self.oci(&["delete", "--force", &id]);
        }
    }

    /// The OCI runtime.
    fn oci(&self, arguments: &[&str]) {
        let mut command = Command::new(if self.tool == Tool::Crun { "crun" } else { "runc" });
        if self.tool == Tool::Containerd {
            command.args(["--root", "/run/containerd/runc/k8s.io"]);
        }
        if self.systemd {
            command.arg("--systemd-cgroup");
        }
        call(command.args(arguments));
    }
}

fn ctr(arguments: &[&str]) {
    call(Command::new("ctr").args(["--namespace", "k8s.io"]).args(arguments));
}

/// Runs a program, and shows what it said if it fails.
pub fn call(command: &mut Command) {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    // A file and no pipe: the container inherits it and would keep it open.
    let log = format!("/run/engine-{}.log", CALLS.fetch_add(1, Ordering::Relaxed));
    let output = File::create(&log).unwrap();
    command.env("PATH", PATH).stdin(Stdio::null());
    command.stdout(output.try_clone().unwrap()).stderr(output);
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = fs::read_to_string(&log).unwrap();
    fs::remove_file(log).unwrap();
    assert!(status.success(), "{command:?}: {status}: {said}");
}

/// containerd as Debian configures it.
pub struct Daemon(Child);

impl Daemon {
    fn start() -> Self {
        Self::start_with(&[])
    }

    /// With these flags.
    pub fn start_with(flags: &[&str]) -> Self {
        let log = File::options().append(true).create(true).open("/run/containerd.log").unwrap();
        let mut command = Command::new("containerd");
        command.args(flags);
        command.env("PATH", PATH).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let daemon = Daemon(command.spawn().unwrap());
        eventually("containerd answers", || {
            let mut version = Command::new("ctr");
            version.env("PATH", PATH).arg("version").stdin(Stdio::null()).stdout(Stdio::null());
            version.stderr(Stdio::null()).status().unwrap().success()
        });
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A container that is removed when this is dropped.
pub struct Running {
    pub engine: Engine,
    pub name: Name,
    pub cgroup: Cgroup,
    pub bundle: PathBuf,
}

impl Running {
    /// Waits until this many processes are in it.
    pub fn wait_for_processes(&self, count: usize) {
        eventually("the container's processes are there", || {
            self.cgroup.processes().len() >= count
        });
    }

    /// Its first process.
    pub fn init(&self) -> u32 {
        self.cgroup.processes().into_iter().min().expect("a process")
    }

    /// Takes its limit away, and the one that systemd has set on its scope.
    pub fn unlimit(&self) {
        let scope = Cgroup::made(&self.name.cgroup(self.engine.systemd));
        for cgroup in [&scope, &self.cgroup] {
            cgroup.set("memory.max", "max");
        }
    }

    /// Whether nothing runs in it any more.
    pub fn ended(&self) -> bool {
        self.cgroup.processes().is_empty()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A second panic would hide the first.
        if !std::thread::panicking() {
            self.engine.remove(&self.name);
        }
        let _ = fs::remove_dir_all(&self.bundle);
    }
}
