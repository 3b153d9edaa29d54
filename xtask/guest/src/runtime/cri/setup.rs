//! containerd as it is set up for the tests, and its images.

use super::{connection::Cri, network};
use crate::{
    harness::wait::eventually,
    runtime::engine::{Daemon, call},
};
use std::{fs, process::Command};

/// What xtask has packed: this program, as `/init` of an image.
const IMAGE_FILE: &str = "/images/guest.tar";

/// Its name; the sandboxes are made of it too.
pub(super) const IMAGE: &str = "localhost/herder-guest:tests";

/// The kernel of the tests has no module for overlayfs.
const CONFIG: &str = r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "IMAGE"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "NETWORKS"
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
            .replace("NETWORKS", network::DIRECTORY)
            .replace("RUNC", self.runc)
            .replace("SYSTEMD", &self.systemd.to_string());
        let config = if self.nri { config + WITH_NRI } else { config };
        fs::write("/run/containerd.toml", config).unwrap();
        for name in ["/etc/hosts", "/etc/resolv.conf"] {
            fs::OpenOptions::new().append(true).create(true).open(name).unwrap();
        }
        network::configure();
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
