//! What enforcement reports: each write of `memory.oom.group`, and each obstacle to
//! one. Each obstacle is the value of a metric's label, so the set is closed.

use crate::cgroup::CgroupPath;
use std::{sync::Arc, time::Duration};

/// Why the value of a cgroup was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A rule matched, or the runtime wrote its own value after creation.
    Enforce,
    /// Something else changed an enforced value.
    Revert,
    /// The rule went away, or the agent stops: the original value is restored.
    Restore,
}

/// One attempt to write `memory.oom.group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomGroupWrite {
    pub cgroup: CgroupPath,
    pub rule: Arc<str>,
    pub old: bool,
    pub new: bool,
    pub cause: Cause,
    pub result: WriteResult,
    /// From seeing the change to having written.
    pub took: Duration,
    /// Nothing was written, only reported.
    pub dry_run: bool,
}

/// How a write went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteResult {
    Ok,
    /// The cgroup was removed meanwhile.
    Gone,
    /// The kernel refused; the text says why.
    Error(String),
}

labels! {
    /// Why the rule's value is not enforceable for a container.
    pub enum Obstacle {
        /// A cgroup above has `memory.oom.group=1`.
        Ancestor = "ancestor",
        /// Its systemd scope has `OOMPolicy=kill`: systemd stops the whole scope.
        SystemdOomPolicy = "systemd-oom-policy",
        /// The file cannot be written (read-only mount, permissions).
        ReadOnly = "read-only",
        /// Something else went wrong, for which see the log: no free descriptor, say.
        Error = "error",
        /// There is no `memory.oom.group`: no memory controller, or cgroup v1.
        NoMemoryController = "no-memory-controller",
        /// No inotify watch could be had; the slow resync still covers it.
        NoWatch = "no-watch",
        /// So many cgroups are matched that this one is not looked at.
        TooMany = "too-many",
    }
}
