//! What the agent tells: for each occurrence one call here, which writes the
//! log line, counts, and keeps the record, so that the three cannot drift apart.

use crate::{
    attribution::Owner,
    cgroup::CgroupPath,
    oom::{Kind, Limit, OomKill},
};
use std::{collections::BTreeMap, time::Duration};

/// A kill that is fully known.
#[derive(Clone, Debug)]
pub struct KillReport {
    /// The kernel's decision.
    pub kill: OomKill,
    /// What it means.
    pub kind: Kind,
    /// Whose limit was hit.
    pub limit: Limit,
    /// Who the chosen victim belongs to.
    pub owner: Owner,
    /// The chosen victim's cgroup; none when it was never seen.
    pub cgroup: Option<CgroupPath>,
    /// Owners of all victims, in their order (the first is `owner`).
    pub victim_owners: Vec<Owner>,
    /// The rule that the container is under, if any.
    pub rule: Option<String>,
}

/// Why something the kernel did could not be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lost {
    /// A program could not hand over a record; the reason is the programs' own.
    Kernel(herder_agent_ebpf::Loss),
    /// A record was too short.
    ShortRecord,
    /// A record of a kind that this agent does not know.
    UnknownRecord,
    /// A decision ended, but none of its victims' records arrived.
    VictimMissing,
}

/// Why a kill has no owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unattributed {
    /// The victim's cgroup id was never seen.
    UnknownCgroup,
    /// The cgroup is a pod's, but its names did not arrive in time.
    UnknownPod,
}

/// Why a mark of the kernel is no kill of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoKill {
    /// The task was already dying (`task_will_free_mem()`).
    AlreadyDying,
    /// Another thread of a process that is already reported.
    Duplicate,
}

/// Why the value of a cgroup was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A rule matched, or the runtime wrote its own value after creation.
    Enforce,
    /// Somebody changed an enforced value.
    Revert,
    /// The rule went away, or the agent stops: the first value comes back.
    Restore,
}

/// One attempt to write `memory.oom.group`.
#[derive(Debug)]
pub struct OomGroupWrite<'a> {
    /// The cgroup.
    pub cgroup: &'a CgroupPath,
    /// The rule.
    pub rule: &'a str,
    /// Value before.
    pub old: bool,
    /// Value wanted.
    pub new: bool,
    /// Why.
    pub cause: Cause,
    /// How it went.
    pub result: &'a WriteResult,
    /// From seeing the change to having written.
    pub took: Duration,
    /// Nothing was written, only reported.
    pub dry_run: bool,
}

/// How a write went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteResult {
    /// Written.
    Ok,
    /// The cgroup was removed meanwhile.
    Gone,
    /// The kernel refused; the text says why.
    Error(String),
}

/// Why a container's behaviour cannot be steered by its `memory.oom.group`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// A cgroup above has `memory.oom.group=1`.
    Ancestor,
    /// Its systemd scope has `OOMPolicy=kill`: systemd stops the whole scope.
    SystemdOomPolicy,
    /// The file cannot be written (read-only mount, permissions).
    ReadOnly,
    /// There is no `memory.oom.group`: no memory controller, or cgroup v1.
    NoMemoryController,
    /// No inotify watch could be had; the slow resync still covers it.
    NoWatch,
}

/// Where all occurrences are told.
#[derive(Debug, Default)]
pub struct Reporter {}

impl Reporter {
    /// A kill.
    pub fn kill(&self, _report: KillReport) {}
    /// The last thread of a victim is gone, so long after its mark.
    pub fn victim_exited(&self, _tgid: u32, _after: Duration) {}
    /// Something could not be reported, so many times.
    pub fn lost(&self, _reason: Lost, _times: u64) {}
    /// A reported kill has no owner.
    pub fn unattributed(&self, _reason: Unattributed) {}
    /// A mark that is no kill.
    pub fn no_kill(&self, _reason: NoKill) {}
    /// A write of `memory.oom.group`, or in a dry run the wish for one.
    pub fn oom_group_write(&self, _write: &OomGroupWrite<'_>) {}
    /// The effective value of a matched container; `None` when it is gone.
    pub fn oom_group_effective(&self, _owner: &Owner, _value: Option<bool>) {}
    /// A matched container cannot be steered, or (with `None`) now can.
    pub fn obstacle(
        &self,
        _cgroup: &CgroupPath,
        _rule: &str,
        _obstacle: Option<(Obstacle, String)>,
    ) {
    }
    /// How many matched containers there are behind each obstacle.
    pub fn obstacles(&self, _containers: &BTreeMap<Obstacle, usize>) {}
    /// The configuration was read again.
    pub fn config_reload(&self, _error: Option<&dyn std::error::Error>) {}
}
