//! What containerd hands to an OCI runtime for a container of a pod, and where
//! the kubelet wants its cgroup.

use crate::harness::role::SELF;
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

/// A pod of the tests.
#[derive(Clone, Copy)]
pub struct Pod {
    pub name: &'static str,
    pub app: &'static str,
    pub uid: &'static str,
}

/// The rule's pod.
pub const WEB: Pod = Pod { name: "web-0", app: "web", uid: "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9" };

/// A pod that no rule matches.
pub const DB: Pod = Pod { name: "db-0", app: "db", uid: "1b2c3d4e-5f60-7182-93a4-b5c6d7e8f90a" };

/// A container of a pod; the number makes its ID.
#[derive(Clone, Copy)]
pub struct Name {
    pub pod: Pod,
    pub container: &'static str,
    pub number: u64,
}

impl Name {
    /// 64 digits, as containerd makes them.
    pub fn id(&self) -> String {
        format!("{}{:032x}", self.pod.uid.replace('-', ""), self.number)
    }

    /// As the kubelet passes it for the cgroupfs driver, or for systemd's.
    pub fn cgroups_path(&self, systemd: bool) -> String {
        let (uid, id) = (self.pod.uid, self.id());
        if systemd {
            format!("{}:cri-containerd:{id}", slice(uid))
        } else {
            format!("/kubepods/burstable/pod{uid}/{id}")
        }
    }

    /// Where the container then is.
    pub fn cgroup(&self, systemd: bool) -> String {
        if systemd {
            let (slice, id) = (slice(self.pod.uid), self.id());
            format!("/kubepods.slice/kubepods-burstable.slice/{slice}/cri-containerd-{id}.scope")
        } else {
            self.cgroups_path(false)
        }
    }
}

pub fn slice(uid: &str) -> String {
    format!("kubepods-burstable-pod{}.slice", uid.replace('-', "_"))
}

/// A pod as the API server sends it, with its containers.
pub fn object(pod: Pod, containers: &[Name]) -> Value {
    let statuses = containers.iter().map(|name| {
        json!({
            "name": name.container, "containerID": format!("containerd://{}", name.id()),
            "image": "x", "imageID": "", "ready": true, "restartCount": 0
        })
    });
    let specs = containers.iter().map(|name| json!({"name": name.container}));
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": pod.name, "namespace": "shop", "uid": pod.uid, "resourceVersion": "1",
            "labels": {"app": pod.app}
        },
        "spec": {"containers": specs.collect::<Vec<_>>()},
        "status": {"containerStatuses": statuses.collect::<Vec<_>>()}
    })
}

/// The resources that the kubelet sends for a container with a memory limit, at
/// its start and again when it is resized (calculateLinuxResources() in
/// pkg/kubelet/kuberuntime).
pub fn resources(mebibytes: u64) -> Value {
    let limit = mebibytes << 20;
    json!({
        "memory": {"limit": limit, "swap": limit},
        "cpu": {"shares": 1024},
        "unified": {"memory.oom.group": "1"}
    })
}

/// Writes a bundle whose program is `program` of this binary's roles.
pub fn write(name: &Name, systemd: bool, mebibytes: u64, program: &[&str]) -> PathBuf {
    let bundle = PathBuf::from(format!("/run/bundles/{}", name.id()));
    let root = bundle.join("rootfs");
    for directory in ["proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    // What the container starts with, and what that starts others by; both are
    // this program, which is mounted into the container.
    fs::create_dir_all("/program").unwrap();
    let _ = fs::hard_link(SELF, "/program/init");
    for link in [program[0].trim_start_matches('/'), "init"] {
        // The same twice, if the program is named so.
        let _ = std::os::unix::fs::symlink("/mnt/init", root.join(link));
    }
    let mut resources = resources(mebibytes);
    resources["devices"] = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}
    ]);
    let mount = |place: &str, kind: &str, options: &[&str]| json!({"destination": place, "type": kind, "source": kind, "options": options});
    let capabilities = ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"];
    let spec = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": program,
            "env": ["PATH=/usr/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities
            },
            "oomScoreAdj": 998
        },
        "root": {"path": root},
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
            {"destination": "/mnt", "type": "bind", "source": "/program", "options": ["rbind", "ro"]}
        ],
        "annotations": {
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.container-name": name.container
        },
        "linux": {
            "cgroupsPath": name.cgroups_path(systemd),
            "resources": resources,
            "namespaces": (["pid", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({"type": kind}))),
            "maskedPaths": ["/proc/kcore", "/proc/keys"],
            "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"]
        }
    });
    fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
    bundle
}
