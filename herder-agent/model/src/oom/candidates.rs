//! The processes that the kernel chose between, and how full the cgroup was whose limit was hit.

use crate::cgroup::CgroupId;
use serde::Serialize;

/// What the kernel had before it when it decided. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates {
    pub decision: u64,
    /// Memory of the cgroup whose limit was hit; none of the node, or if it was not read.
    pub memory: Option<Usage>,
    pub swap: Option<Usage>,
    /// How many processes the kernel looked at; none if that was not traced.
    pub seen: Option<u32>,
    /// The largest of them, the largest first.
    pub largest: Vec<Candidate>,
}

/// What is charged to a cgroup, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    pub usage: u64,
    /// The limit; none if there is none.
    pub limit: Option<u64>,
}

/// A process that the kernel looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Process id, in the initial pid namespace.
    pub tgid: u32,
    /// Command name; chosen by the process itself, so never trusted.
    pub comm: String,
    pub oom_score_adj: Option<i32>,
    pub cgroup: Option<CgroupId>,
    /// None if its first thread had exited, with which the kernel's count of it goes.
    pub footprint: Option<Footprint>,
}

/// Memory of a process as the kernel weighs it, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Footprint {
    pub anon_rss: u64,
    pub file_rss: u64,
    pub shmem_rss: u64,
    pub swap: u64,
    pub page_tables: u64,
}

impl Footprint {
    /// All of it, swap included, as the kernel weighs it.
    pub fn total(self) -> u64 {
        [self.anon_rss, self.file_rss, self.shmem_rss, self.page_tables, self.swap]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// Memory that is the process's alone, without swap. Files and shared memory may be mapped by
    /// others too, so that each has them in its size, and they may be charged to another cgroup.
    pub fn own(self) -> u64 {
        self.anon_rss.saturating_add(self.page_tables)
    }
}

impl Candidate {
    /// [`Footprint::total`]; 0 if that is not known.
    pub fn size(&self) -> u64 {
        self.footprint.map_or(0, Footprint::total)
    }
}
