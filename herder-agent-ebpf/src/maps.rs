//! Every map, its size and the reason for it.

use crate::object::count_in;
use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use herder_agent_ebpf::{
    CgroupRecord, LevelsRecord, LineageRecord, Loss, VictimRecord,
    candidates::{CandidatesRecord, LARGEST},
    rings,
};

/// Victims, decisions and exits.
#[map]
pub(crate) static KILLS: RingBuf = RingBuf::with_byte_size(rings::KILLS, 0);

/// Cgroups made and removed.
#[map]
pub(crate) static CGROUPS: RingBuf = RingBuf::with_byte_size(rings::CGROUPS, 0);

/// What could not be handed over, by [`Loss`].
#[map]
pub(crate) static LOSSES: PerCpuArray<u64> =
    PerCpuArray::with_max_entries(Loss::ALL.len() as u32, 0);

/// Decisions that run, by the id of the thread they run in. `oom_lock` lets one run at a
/// time; the rest is room for entries that a missed exit would leave behind.
#[map]
pub(crate) static DECISIONS: HashMap<u32, Decision> = HashMap::with_max_entries(64, 0);

/// The task that a thread is about to mark. Either `mark_oom_victim()` was called for it, since
/// the tracepoint of older kernels gives a thread id only; or the signal was sent to it, where
/// functions cannot be traced. It is read at once, so older entries may go.
#[map]
pub(crate) static MARKING: LruHashMap<u32, u64> = LruHashMap::with_max_entries(256, 0);

/// Marked processes that have not exited, by process id.
#[map]
pub(crate) static VICTIMS: HashMap<u32, Marked> = HashMap::with_max_entries(8192, 0);

/// Victims that can only be described when they exit, by what the tracepoint
/// gave: thread id, or address of the task.
#[map]
pub(crate) static PENDING: HashMap<u64, VictimRecord> = HashMap::with_max_entries(1024, 0);

/// Room to put a cgroup record together, since the stack has only 512 bytes.
#[map]
pub(crate) static SCRATCH: PerCpuArray<CgroupScratch> = PerCpuArray::with_max_entries(1, 0);

/// Room to put together what lies above a victim's cgroup, and what its memory cgroups say.
#[map]
pub(crate) static LINEAGE: PerCpuArray<LineageRoom> = PerCpuArray::with_max_entries(1, 0);

/// The cgroup of which that was handed over last.
#[map]
pub(crate) static LAST_LINEAGE: Array<u64> = Array::with_max_entries(1, 0);

/// The candidates of the decision that is under way. `oom_lock` lets one run at a time.
#[map]
pub(crate) static WALK: Array<Walk> = Array::with_max_entries(1, 0);

/// A marked process. A process may be marked after its exit was seen (7.2: the
/// exit of the address space comes after the tracepoint), so its entry may stay;
/// the start time distinguishes it from a later process with the same id.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Marked {
    pub(crate) time: u64,
    pub(crate) start_boottime: u64,
}

/// A call of `oom_kill_process()` that has not returned.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Decision {
    pub(crate) began: u64,
    pub(crate) domain_cgroup: u64,
    pub(crate) group_cgroup: u64,
    pub(crate) kills: u32,
    pub(crate) marks: u32,
    pub(crate) flags: u32,
    pub(crate) reserved: u32,
}

/// A [`CgroupRecord`] with its path. Larger than the longest path needs, so
/// that a length masked with `PATH_MASK` is provably inside.
#[repr(C)]
pub(crate) struct CgroupScratch {
    pub(crate) record: CgroupRecord,
    pub(crate) path: [u8; 2048],
}

/// One record or the other: programs of one mark run one after the other. Larger than they
/// need, so that a masked length is provably inside.
#[repr(C)]
pub(crate) union LineageRoom {
    pub(crate) record: LineageRecord,
    pub(crate) levels: LevelsRecord,
    reserved: [u8; 1024],
}

/// A [`CandidatesRecord`] in the making. Larger than the record, so that a masked length is
/// provably inside.
#[repr(C)]
pub(crate) struct Walk {
    pub(crate) record: CandidatesRecord,
    /// Of each candidate in `record`, pages.
    pub(crate) sizes: [u64; LARGEST],
    /// The smallest of them, once there are [`LARGEST`].
    pub(crate) smallest: u64,
    /// Where the smallest is.
    pub(crate) smallest_at: u32,
    /// Where the candidate goes that is looked at.
    pub(crate) at: u32,
    reserved: [u32; 150],
}

const _: () = assert!(size_of::<Walk>() == 2088);

/// Counts something that could not be handed over.
pub(crate) fn count(loss: Loss) {
    count_in(&LOSSES, loss as u32);
}
