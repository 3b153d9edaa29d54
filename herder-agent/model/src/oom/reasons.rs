//! Why something is not reported, or only in part. Each reason is the value of a metric's label,
//! so each set is closed.

/// Why something the kernel did could not be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lost {
    /// A program could not hand over a record; the reason is the programs' own.
    Kernel(herder_agent_ebpf::Loss),
    /// A record was too short.
    ShortRecord,
    /// A record of a kind that this agent does not know.
    UnknownRecord,
    /// A decision ended, but not all of its victims' records arrived.
    VictimMissing,
    /// The kernel reported a cgroup by a path that names nothing.
    CgroupPath,
    /// inotify's queue of changed values overflowed.
    ValueQueueFull,
    /// The same of changed counts and new cgroups, without eBPF.
    CountQueueFull,
}

impl Lost {
    /// The value of the `reason` label. What the kernel side lost has the name of
    /// its [`herder_agent_ebpf::Loss`].
    pub fn as_str(self) -> &'static str {
        use herder_agent_ebpf::Loss;
        match self {
            Lost::Kernel(Loss::VictimRingFull) => "victim-ring-full",
            Lost::Kernel(Loss::DecisionRingFull) => "decision-ring-full",
            Lost::Kernel(Loss::ExitRingFull) => "exit-ring-full",
            Lost::Kernel(Loss::CgroupRingFull) => "cgroup-ring-full",
            Lost::Kernel(Loss::VictimMapFull) => "victim-map-full",
            Lost::Kernel(Loss::DecisionMapFull) => "decision-map-full",
            Lost::Kernel(Loss::PendingMapFull) => "pending-map-full",
            Lost::Kernel(Loss::PendingStale) => "pending-stale",
            Lost::Kernel(Loss::LineageRingFull) => "lineage-ring-full",
            Lost::Kernel(Loss::CandidatesRingFull) => "candidates-ring-full",
            Lost::ShortRecord => "short-record",
            Lost::UnknownRecord => "unknown-record",
            Lost::VictimMissing => "victim-missing",
            Lost::CgroupPath => "cgroup-path",
            Lost::ValueQueueFull => "value-queue-full",
            Lost::CountQueueFull => "count-queue-full",
        }
    }

    /// Whether a kill, or a victim of one, is lost with it; else something is
    /// missing in the report of a kill.
    pub fn loses_kill(self) -> bool {
        match self {
            Lost::Kernel(loss) => loss.loses_kill(),
            Lost::ShortRecord | Lost::UnknownRecord | Lost::VictimMissing => true,
            Lost::CgroupPath | Lost::ValueQueueFull | Lost::CountQueueFull => false,
        }
    }

    pub fn all() -> impl Iterator<Item = Lost> {
        let own = [
            Lost::ShortRecord,
            Lost::UnknownRecord,
            Lost::VictimMissing,
            Lost::CgroupPath,
            Lost::ValueQueueFull,
            Lost::CountQueueFull,
        ];
        herder_agent_ebpf::Loss::ALL.into_iter().map(Lost::Kernel).chain(own)
    }
}

labels! {
    /// Why it is not known whose a kill is, or only in part; what is least known comes last.
    pub enum Unattributed {
        /// The pod is known, but the container's name did not arrive in time.
        UnknownContainer = "unknown-container",
        /// The cgroup is a pod's, but its names did not arrive in time.
        UnknownPod = "unknown-pod",
        /// The victim's cgroup id was never seen.
        UnknownCgroup = "unknown-cgroup",
    }
}

labels! {
    /// Why a killed process was not seen, though the kernel counted it.
    pub enum Unseen {
        /// No agent was running.
        AgentDown = "agent-down",
        /// No agent reported it. Kills that are counted as lost are among them.
        Missed = "missed",
    }
}

labels! {
    /// Why a mark of the kernel is no kill of its own, or none of this node.
    pub enum NoKill {
        /// The task was already dying (`task_will_free_mem()`).
        AlreadyDying = "already-dying",
        /// Another thread of a process that is already reported.
        Duplicate = "duplicate",
        /// A kill in a cgroup that the agent's mount does not show: in another node, where
        /// nodes are containers, or outside of what `--cgroup-root` names.
        OutsideMount = "outside-mount",
    }
}
