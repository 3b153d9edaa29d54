//! What the kernel did, as the agent received it. Both sources, the eBPF programs and the
//! kernel's counts, produce these events, and nothing above knows which one it was.

use crate::{
    cgroup::{CgroupId, CgroupPath},
    clock::Monotonic,
    oom::{Domain, Trigger, Victim, candidates::Candidates, levels::Levels},
};
use std::time::Duration;

/// Something the kernel did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process was marked as an OOM victim.
    Marked(Mark),
    /// A call of `oom_kill_process()` returned.
    Decided(Decision),
    /// A marked process has no living thread any more.
    Exited {
        tgid: u32,
        /// From its mark.
        after: Duration,
    },
    /// A cgroup was made on the v2 hierarchy.
    CgroupMade(CgroupEvent),
    CgroupRemoved(CgroupEvent),
    /// Which cgroups lie above a victim's.
    Lineage(Lineage),
    /// What the memory cgroups of the next victim say.
    Levels(Levels),
    /// What the kernel chose between in a decision.
    Candidates(Box<Candidates>),
    /// A cgroup was made or removed that the agent's mount does not show.
    CgroupOutside,
}

/// A call of `trace_mark_victim()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub victim: Victim,
    pub trigger: Trigger,
    /// The decision it belongs to, if one was seen.
    pub decision: Option<u64>,
    /// A signal was sent in that decision, or right before the mark if no decision was seen.
    pub killed: bool,
}

/// The end of a call of `oom_kill_process()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub decision: u64,
    pub domain: Domain,
    /// Whether a cgroup was killed as a group.
    pub group: bool,
    /// Which one, if that could be read.
    pub group_cgroup: Option<CgroupId>,
    pub kills: u32,
    pub marks: u32,
}

/// A cgroup that was made or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupEvent {
    /// Its id, if the kernel could be asked for it.
    pub id: Option<CgroupId>,
    pub path: CgroupPath,
    pub base: Base,
}

/// Where a path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// At the cgroup that the agent's mount begins at.
    Mount,
    /// At the hierarchy's root, where the mount may begin too.
    Hierarchy,
}

/// What lies above the cgroup of a victim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    pub cgroup: CgroupId,
    /// Those above it, from the root's child on, as many as the programs look at.
    pub above: Vec<CgroupId>,
}

/// Which optional programs are attached, and so what their silence means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traced {
    /// Decisions are framed since then.
    pub decisions_since: Option<Monotonic>,
    /// It is known whether a decision sent a signal.
    pub kills: bool,
    /// It is known whether a decision killed a group.
    pub groups: bool,
    /// Where decisions are not framed: since then it is seen whether a signal came right before
    /// a mark.
    pub signals_since: Option<Monotonic>,
    /// Where decisions are not framed: what the memory cgroups say comes with each mark.
    pub levels: bool,
    /// Victims may be described when they exit, so after their decision's end.
    pub at_exit: bool,
    pub exits: bool,
    pub candidates: bool,
    pub cgroups: bool,
}

labels! {
    /// How it is known which marks are one kill, whether it is one, and whose limit was hit.
    pub enum Means {
        /// By the kernel's functions, which are traced.
        Functions = "functions",
        /// By tracepoints and by the kernel's memory at the mark.
        Tracepoints = "tracepoints",
        /// By tracepoints and by files of the cgroups, read after the mark.
        Files = "files",
        /// By the kernel's counts alone: no program is attached.
        Counts = "counts",
    }
}

impl Traced {
    /// The best that is attached.
    pub fn means(&self) -> Means {
        match (self.decisions_since, self.levels) {
            (Some(_), _) => Means::Functions,
            (None, true) => Means::Tracepoints,
            (None, false) => Means::Files,
        }
    }
}

/// The name of a cgroup whose path was cut.
pub const CUT: &str = "…";

/// Whether the kernel has cut a path, so that it is not the cgroup's own.
pub fn is_cut(path: &CgroupPath) -> bool {
    path.name() == CUT
}
