//! Whether AppArmor confines what runs in a container, as it does on nodes of Debian, Ubuntu and
//! others: containerd puts each container under a profile of its own if the kernel has AppArmor
//! and the node has the program that loads profiles.

use super::cri::{Running, Setup};
use crate::harness::container::Cgroup;
use std::fs;

/// Under containerd's default profile, and not only watched.
pub const DEFAULT: &str = "cri-containerd.apparmor.d (enforce)";

/// Under none.
pub const NONE: &str = "unconfined";

/// What confines a container's first process. That begins when the runtime's own program has become
/// the container's.
pub fn of(container: &Running, setup: Setup) -> String {
    let inner = Cgroup::made(&format!("{}{}", container.cgroup().path(), setup.inner()));
    let init = inner.processes().into_iter().min().expect("a process");
    let label = fs::read_to_string(format!("/proc/{init}/attr/current")).expect("AppArmor is on");
    label.trim().to_owned()
}
