//! What an OOM kill is, in the kernel's own terms (mm/oom_kill.c).
//!
//! One [`OomKill`] is one decision of the kernel: one call of
//! `oom_kill_process()`, however many processes it kills and however many
//! marks, threads or log lines it leaves behind.

pub mod assemble;
pub mod candidates;
pub mod classify;
pub mod deduce;
pub mod event;
pub mod exiting;
pub mod levels;
pub mod limit;
pub mod over_limit;
pub mod reasons;

use crate::{cgroup::CgroupId, clock::Monotonic};
use candidates::Candidates;
use serde::Serialize;

labels! {
    /// What a kill means for the container it hit.
    pub enum Kind {
        /// A process other than the container's init died; the container lives on.
        Subprocess = "subprocess",
        /// The container's init was the victim; the container ends.
        Init = "init",
        /// The kernel killed a cgroup as a group (`memory.oom.group`): the container's, or one
        /// inside that the workload has made, and then the container may live on.
        Group = "group",
    }
}

labels! {
    /// Whose memory limit mattered ([`limit`]).
    pub enum Limit {
        /// The victim's container, or a cgroup inside of it. Also where the kernel hit the
        /// pod's limit first, which was only the sum of its containers'.
        Container = "container",
        /// A cgroup above the container: its pod, or a slice.
        Pod = "pod",
        /// No limit: the node ran out of memory.
        Node = "node",
        /// The kernel did not say.
        Unknown = "unknown",
    }
}

/// A process that died in an OOM kill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Victim {
    /// Time of the mark.
    pub time: Monotonic,
    /// The thread that was marked, which need not be the leader.
    pub tid: u32,
    /// Process id in the initial pid namespace; 0 if the victim is unknown.
    pub tgid: u32,
    /// Process id in its own pid namespace and the depth of that, if known.
    pub ns_pid: Option<NsPid>,
    /// When the process began, `CLOCK_BOOTTIME` nanoseconds; 0 if not known.
    pub start_boottime: u64,
    pub cgroup: CgroupId,
    /// The cgroup its parent was in, if known.
    pub parent_cgroup: Option<CgroupId>,
    /// The cgroup whose kill the kernel counts it as: its own, or the nearest above that
    /// has the memory controller; none if that is unknown.
    pub memory_cgroup: Option<CgroupId>,
    /// The agent's mount does not show its cgroup: it is another node's, or is not to be
    /// looked at.
    pub is_outside: bool,
    /// Command name; chosen by the process itself, so never trusted.
    pub comm: String,
    pub uid: u32,
    pub oom_score_adj: Option<i32>,
    /// Memory sizes at the time of the mark, if known.
    pub sizes: Option<Sizes>,
}

impl Victim {
    /// A process of which only the cgroup is known.
    pub fn nameless(cgroup: CgroupId, time: Monotonic) -> Self {
        Victim { cgroup, time, ..Victim::default() }
    }

    /// Whether it is known who died.
    pub fn is_named(&self) -> bool {
        self.tgid != 0
    }
}

/// A process id inside of a pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NsPid {
    pub pid: u32,
    /// Depth of the namespace; 0 is the initial one.
    pub level: u32,
}

/// Memory of a victim, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sizes {
    pub total_vm: u64,
    pub anon_rss: u64,
    pub file_rss: u64,
    pub shmem_rss: u64,
}

impl Sizes {
    /// What the process held, as `ps` shows it in RSS.
    pub fn resident(self) -> u64 {
        self.anon_rss.saturating_add(self.file_rss).saturating_add(self.shmem_rss)
    }
}

/// The task whose allocation could not be satisfied. It is not to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    pub tid: u32,
    pub tgid: u32,
    /// Its cgroup, which need not be the victim's.
    pub cgroup: CgroupId,
    pub comm: String,
}

/// The memory cgroup that was over its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Domain {
    Node,
    Cgroup(CgroupId),
    /// One that the agent's mount does not show, and so one above it.
    Outside,
    #[default]
    Unknown,
}

/// One decision of the kernel to kill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OomKill {
    /// Those who died; the first is the one the kernel chose. Never empty.
    pub victims: Vec<Victim>,
    /// Who asked for memory, if that is known.
    pub trigger: Option<Trigger>,
    pub domain: Domain,
    /// Whether the kernel killed a group, if it said so.
    pub group: Option<bool>,
    /// The cgroup that it killed as a group, if it said which: the container's, one above
    /// that, or one inside that the workload has made.
    pub group_cgroup: Option<CgroupId>,
    /// Whether the container ended with it, where it is unknown if its init was among the
    /// victims.
    pub ended: Option<bool>,
    /// What the kernel chose between, if that is known.
    pub candidates: Option<Box<Candidates>>,
}
