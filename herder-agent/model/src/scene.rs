//! The scene of a kill: who used how much of what when the kernel killed, and what follows from
//! that.
//!
//! What the kernel decided by comes from its own record of the decision
//! ([`crate::oom::candidates`]); what the cgroups' files say is read right after it. What could
//! not be had is named with the reason, and nothing is put in its place.

pub mod figures;
pub mod finding;

use crate::{
    cgroup::{CgroupId, CgroupPath},
    oom::candidates::{Candidate, Candidates, Footprint, Usage},
};
use figures::Figures;
use finding::Finding;
use serde::Serialize;

/// So many of the last kills keep their scene, 2 to 24 KiB each.
pub const KEPT: usize = 100;

/// So many containers of a full node are listed.
pub const LISTED: usize = 10;

/// Bytes of paths and of names that the processes of one scene may have together, each. Those
/// beyond have their ids alone.
const LONGEST: usize = 4096;

/// Who used how much when the kernel killed. Sizes are bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Scene {
    /// What follows from it; none if too little is known.
    pub finding: Option<Finding>,
    /// The cgroup whose limit was hit, at the decision; none of the node.
    pub memory: Option<Usage>,
    pub swap: Option<Usage>,
    /// How many processes the kernel looked at.
    pub looked_at: Option<u32>,
    /// The largest of them, the largest first.
    pub candidates: Vec<Process>,
    /// Seconds from the mark until the files were read.
    pub read_seconds: Option<f64>,
    pub container: Option<Figures>,
    /// The cgroup whose limit was hit, where that is another.
    pub domain: Option<Figures>,
    /// If the node was full: the containers that use the most memory.
    pub containers: Vec<NodeContainer>,
    /// What is not known, and why.
    pub missing: Vec<Missing>,
}

/// A process that the kernel looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Process id on the node.
    pub pid: u32,
    pub comm: String,
    pub killed: bool,
    pub oom_score_adj: Option<i32>,
    /// All of its memory with what is swapped out; none if it had none of its own: its first
    /// thread had exited.
    pub size: Option<u64>,
    #[serde(flatten)]
    pub footprint: Option<Footprint>,
    pub cgroup_id: Option<u64>,
    /// Path of its cgroup, or of the nearest above it that is known.
    pub cgroup: Option<CgroupPath>,
    /// Whose it is: `NAMESPACE/POD/CONTAINER`, or a cgroup outside of pods.
    pub owner: Option<String>,
}

/// A container of a node that was full; its memory in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeContainer {
    /// `NAMESPACE/POD/CONTAINER`, or a cgroup outside of pods.
    pub owner: String,
    pub memory: u64,
    /// What its pod's spec requests for it.
    pub request: Option<u64>,
    pub limit: Option<u64>,
}

/// Something that is not known of a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    pub what: Part,
    pub why: Why,
}

labels! {
    pub enum Part {
        Candidates = "candidates",
        /// [`Scene::memory`] and [`Scene::swap`].
        Memory = "memory",
        Container = "container",
        Domain = "domain",
        Containers = "containers",
    }
}

labels! {
    /// Why a part of a scene is missing.
    pub enum Why {
        /// The source of kills has only counts.
        OnlyCounts = "kills are counted by memory.events, without eBPF",
        /// No BTF, or a function that the kernel lacks.
        NotTraced = "this kernel's OOM killer cannot be traced",
        /// The decision began before the programs were attached.
        NotWhole = "the programs did not see the decision from its beginning",
        /// It was lost on the way from the kernel.
        Lost = "the kernel's record did not fit into the ring buffer",
        /// The kernel chose without looking at others.
        NotLookedAt = "the kernel looked at no process: see the sysctl vm.oom_kill_allocating_task",
        /// The kernel did not say whose limit it was.
        UnknownDomain = "it is not known whose limit was hit",
        /// The victim's cgroup is not known.
        UnknownCgroup = "the victim's cgroup is not known",
        /// A cgroup is not there any more.
        Gone = "the cgroup was removed before its files were read",
        /// Files are read for so many kills a second only.
        TooFast = "kills came faster than files are read for them",
        /// Not all containers were read.
        TooMany = "the node has more containers than are read at once",
    }
}

impl Scene {
    /// What the kernel had before it. `victims` are the ids of those that it killed.
    pub fn decided(&mut self, candidates: Candidates, victims: &[u32]) {
        let Candidates { decision: _, memory, swap, seen, largest } = candidates;
        (self.memory, self.swap, self.looked_at) = (memory, swap, seen);
        self.candidates =
            largest.into_iter().map(|candidate| Process::new(candidate, victims)).collect();
    }

    pub fn lacks(&mut self, what: Part, why: Why) {
        self.missing.push(Missing { what, why });
    }

    /// Names the processes, by the cgroup of each: its path, and whose that is.
    pub fn name(&mut self, of: impl Fn(CgroupId) -> Option<(CgroupPath, String)>) {
        let (mut paths, mut names): (usize, usize) = (0, 0);
        for process in &mut self.candidates {
            let found = process.cgroup_id.and_then(|id| of(CgroupId(id)));
            let Some((path, owner)) = found else { continue };
            paths += path.as_str().len();
            names += owner.len();
            process.cgroup = Some(path).filter(|_| paths <= LONGEST);
            process.owner = Some(owner).filter(|_| names <= LONGEST);
        }
    }
}

impl Process {
    fn new(candidate: Candidate, victims: &[u32]) -> Self {
        let Candidate { tgid, comm, oom_score_adj, cgroup, footprint } = candidate;
        Process {
            pid: tgid,
            comm,
            killed: victims.contains(&tgid),
            oom_score_adj,
            size: footprint.map(Footprint::total),
            footprint,
            cgroup_id: cgroup.map(|id| id.0),
            cgroup: None,
            owner: None,
        }
    }

    /// What is its own alone, without swap; 0 if that is not known.
    pub fn own(&self) -> u64 {
        self.footprint.map_or(0, Footprint::own)
    }
}

#[cfg(test)]
mod tests;
