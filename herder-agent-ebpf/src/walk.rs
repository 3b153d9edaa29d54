//! The candidates: the processes that the OOM killer looks at before it decides.
//!
//! `out_of_memory()` calls `oom_evaluate_task()` once for each process of the cgroup whose limit
//! was hit, or of the node. Both run under `oom_lock`, so there is one walk at a time. A process
//! costs the reads of its sizes; one that is among the largest so far costs its description too.
//! Optional, like the decision's frame: without it a kill has no candidates.

use crate::{
    kernel::{Address, Footprint, Task, memory_of_domain},
    maps::{KILLS, WALK, Walk, count},
    object::now,
};
use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_RING_SIZE},
    macros::fentry,
    programs::FEntryContext,
};
use herder_agent_ebpf::{
    Header, Loss, RecordKind,
    candidates::{Candidate, CandidatesRecord, LARGEST},
    flag,
};

/// A length masked with this is less than the room for a record.
const MASK: usize = 2047;

/// Candidates are handed over only while less than this part of the ring buffer is unread, so
/// that an agent that is kept from reading loses hardly a kill more for them.
const SHARE: u64 = 8;

/// An index masked with this is one of a candidate.
const INDEX: usize = LARGEST - 1;

/// A walk that ended without a kill leaves its candidates behind.
///
/// match-proto: mm/oom_kill.c:bool out_of_memory(struct oom_control *oc) [5.10, 6.1, 6.12, 7.2]
#[fentry(function = "out_of_memory")]
fn walk_begin(_ctx: FEntryContext) -> i32 {
    if let Some(walk) = walk() {
        begin(walk, flag::WALK);
    }
    0
}

/// match-proto: mm/oom_kill.c:static int oom_evaluate_task(struct task_struct *task, void *arg) [5.10, 6.1, 6.12, 7.2]
#[fentry(function = "oom_evaluate_task")]
fn walk_candidate(ctx: FEntryContext) -> i32 {
    let Some(walk) = walk().filter(|walk| walk.record.header.flags & flag::WALK != 0) else {
        return 0;
    };
    let task = Task(Address(ctx.arg(0)));
    let footprint = task.footprint();
    if footprint.is_none() && task.is_kernel_thread() {
        return 0;
    }
    walk.record.seen += 1;
    let size = footprint.as_ref().map_or(0, |it| it.size);
    let kept = walk.record.kept as usize;
    if kept < LARGEST {
        walk.at = walk.record.kept;
        walk.record.kept += 1;
    } else if size > walk.smallest {
        walk.at = walk.smallest_at;
    } else {
        return 0;
    }
    let candidate = describe(task, footprint);
    // Read and masked where it is used: the verifier of 5.10 forgets the bounds of a number that
    // the compiler has kept on the stack during a helper's call.
    // SAFETY: the field lives as long as the map, and was just written.
    let at = unsafe { core::ptr::read_volatile(&raw const walk.at) } as usize & INDEX;
    walk.record.candidates[at] = candidate;
    walk.sizes[at] = size;
    if kept + 1 >= LARGEST {
        let (mut smallest, mut smallest_at) = (u64::MAX, 0);
        for (index, size) in walk.sizes.iter().enumerate() {
            if *size < smallest {
                (smallest, smallest_at) = (*size, index as u32);
            }
        }
        (walk.smallest, walk.smallest_at) = (smallest, smallest_at);
    }
    0
}

/// All that is handed over of a candidate.
#[inline(always)]
fn describe(task: Task, footprint: Option<Footprint>) -> Candidate {
    let mut candidate = Candidate {
        tgid: task.tgid().unwrap_or(0),
        comm: task.comm().unwrap_or_default(),
        cgroup: task.cgroup().and_then(|cgroup| cgroup.id()).unwrap_or(0),
        ..Candidate::default()
    };
    if let Some(adj) = task.oom_score_adj() {
        candidate.oom_score_adj = adj;
        candidate.flags |= flag::SCORE;
    }
    if let Some(footprint) = footprint {
        candidate.anon_rss = footprint.anon;
        candidate.file_rss = footprint.file;
        candidate.shmem_rss = footprint.shmem;
        candidate.swap = footprint.swap;
        candidate.page_tables = footprint.page_tables;
        candidate.flags |= flag::SIZES;
    }
    candidate
}

/// A decision begins: how much the cgroup whose limit was hit has, of its `struct oom_control`.
#[inline(always)]
pub(crate) fn measure(control: Address) {
    let Some(walk) = walk() else { return };
    let record = &mut walk.record;
    record.header.flags &= flag::WALK;
    let (memory, swap) = memory_of_domain(control);
    if let Some((usage, limit)) = memory {
        (record.usage, record.limit) = (usage, limit);
        record.header.flags |= flag::USAGE;
    }
    if let Some((usage, limit)) = swap {
        (record.swap_usage, record.swap_limit) = (usage, limit);
        record.header.flags |= flag::SWAP;
    }
}

/// A decision has ended: hands its candidates over, unless that would take the room of kills.
#[inline(always)]
pub(crate) fn submit(decision: u64) {
    let Some(walk) = walk() else { return };
    walk.record.header.kind = RecordKind::Candidates as u32;
    walk.record.header.time = now();
    walk.record.decision = decision;
    let kept = walk.record.kept as usize;
    let listed = if kept > LARGEST { LARGEST } else { kept };
    let length = size_of::<CandidatesRecord>() - (LARGEST - listed) * size_of::<Candidate>();
    let used = KILLS.query(u64::from(BPF_RB_AVAIL_DATA));
    let has_room = used < KILLS.query(u64::from(BPF_RB_RING_SIZE)) / SHARE;
    // SAFETY: the masked length is less than the size of the room.
    let bytes =
        unsafe { core::slice::from_raw_parts((&raw const *walk).cast::<u8>(), length & MASK) };
    if !has_room || KILLS.output::<[u8]>(bytes, 0).is_err() {
        count(Loss::CandidatesRingFull);
    }
    begin(walk, 0);
}

/// Forgets the candidates of before.
#[inline(always)]
fn begin(walk: &mut Walk, flags: u32) {
    walk.record.header = Header { kind: 0, flags, time: 0 };
    walk.record.seen = 0;
    walk.record.kept = 0;
    walk.smallest = 0;
    walk.smallest_at = 0;
}

#[inline(always)]
fn walk() -> Option<&'static mut Walk> {
    let walk = WALK.get_ptr_mut(0)?;
    // SAFETY: the element lives as long as the map; all that runs here holds `oom_lock`.
    Some(unsafe { &mut *walk })
}
