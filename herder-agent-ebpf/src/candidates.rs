//! What the kernel had before it when it decided: the record of a decision's candidates.

use crate::{COMM_LEN, Header};
use bytemuck::{Pod, Zeroable};

/// So many of a decision's candidates are handed over: the largest.
pub const LARGEST: usize = 16;

/// A process that the OOM killer looked at (`oom_evaluate_task()`, mm/oom_kill.c).
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Candidate {
    /// Its cgroup; 0 if that could not be read.
    pub cgroup: u64,
    /// Resident anonymous memory, pages.
    pub anon_rss: u64,
    /// Resident file memory, pages.
    pub file_rss: u64,
    /// Resident shared memory, pages.
    pub shmem_rss: u64,
    /// Pages that are swapped out.
    pub swap: u64,
    /// Its page tables, bytes.
    pub page_tables: u64,
    /// Process id, in the initial pid namespace.
    pub tgid: u32,
    /// `oom_score_adj`, −1000 to 1000.
    pub oom_score_adj: i32,
    /// Which of the fields are filled: [`crate::flag::SIZES`], [`crate::flag::SCORE`].
    pub flags: u32,
    /// Unused; zero.
    pub reserved: u32,
    /// Command name of the thread-group leader.
    pub comm: [u8; COMM_LEN],
}

/// The candidates of a decision, and the memory of the cgroup whose limit was hit; comes before
/// the decision's end. Only as many of `candidates` are written as there are.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct CandidatesRecord {
    /// Time of the record. Its flags are [`crate::flag::USAGE`], [`crate::flag::SWAP`] and
    /// [`crate::flag::WALK`].
    pub header: Header,
    /// The decision: see [`crate::VictimRecord::decision`].
    pub decision: u64,
    /// Memory that was charged to the cgroup whose limit was hit, pages.
    pub usage: u64,
    /// Its limit, pages.
    pub limit: u64,
    /// Its swap in use, pages.
    pub swap_usage: u64,
    /// Its limit of swap, pages.
    pub swap_limit: u64,
    /// How many processes the kernel looked at.
    pub seen: u32,
    /// How many of `candidates` there are.
    pub kept: u32,
    /// The largest of them, in no order.
    pub candidates: [Candidate; LARGEST],
}

const _: () = {
    assert!(size_of::<Candidate>() == 6 * 8 + 4 * 4 + COMM_LEN);
    assert!(size_of::<CandidatesRecord>() == 16 + 5 * 8 + 2 * 4 + LARGEST * 80);
    assert!(align_of::<CandidatesRecord>() == 8 && size_of::<Candidate>().is_multiple_of(8));
};
