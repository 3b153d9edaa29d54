//! Which cgroups lie above that of a victim.
//!
//! The agent does not keep every cgroup: the owner of a delegated subtree may make them by the
//! hundred thousand, and faster than the agent can read them. The ids of the cgroups above it
//! still attribute the kill to its container.
//!
//! Programs of their own, attached before those that describe the victim: the verifier keeps a
//! copy of the stack for each step that it looks at, and from Linux 6.16 on charges the agent
//! for it. With a victim's record on the stack the loop over the levels takes 8 MiB there.

use crate::{
    kernel::{Address, Cgroup, Task},
    maps::{KILLS, LAST_LINEAGE, LINEAGE, PENDING, count},
    object::header,
    victim::task_of,
};
use aya_ebpf::{
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_pid_tgid,
        generated::bpf_get_current_ancestor_cgroup_id,
    },
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use herder_agent_ebpf::{LEVELS, LineageRecord, Loss, RecordKind};

/// Before `mark_victim`, of the same arguments.
#[raw_tracepoint(tracepoint = "mark_victim")]
fn victim_lineage(ctx: RawTracePointContext) -> i32 {
    let Some(task) = task_of(ctx.arg(0)) else {
        return 0;
    };
    if let Some(cgroup) = task.cgroup() {
        of_cgroup(cgroup.0.0);
    }
    // Whether a first process is a container's depends on where its parent is.
    if let Some(leader) = task.leader()
        && leader.ns_pid().is_some_and(|(pid, level)| pid == 1 && level > 0)
        && let Some(parent) = leader.parent().and_then(Task::cgroup)
    {
        of_cgroup(parent.0.0);
    }
    0
}

/// Before `process_exit`, where a victim may be described only now: it is `current`.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn exit_lineage(ctx: RawTracePointContext) -> i32 {
    let (tid, task): (u64, u64) = (bpf_get_current_pid_tgid() & 0xffff_ffff, ctx.arg(0));
    // SAFETY: only whether it is there is asked.
    if unsafe { PENDING.get(&tid).is_none() && PENDING.get(&task).is_none() } {
        return 0;
    }
    // SAFETY: the helper has no preconditions.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    submit(cgroup, u32::MAX, |level| {
        // SAFETY: the helper has no preconditions; it gives 0 for what is not there.
        let above = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) };
        (above != 0 && above != cgroup).then_some(above)
    });
    0
}

/// Hands over what lies above a cgroup, given by its address.
#[inline(never)]
fn of_cgroup(cgroup: u64) {
    let cgroup = Cgroup(Address(cgroup));
    if let (Some(id), Some(level)) = (cgroup.id(), cgroup.level()) {
        submit(id, level, |level| cgroup.above(level));
    }
}

/// A length masked with this is less than the room for a record.
const MASK: usize = 511;

/// Hands over what is above a cgroup of this level, unless that was the last one too:
/// the processes of a group die one after the other.
#[inline(always)]
fn submit(cgroup: u64, level: u32, above: impl Fn(u32) -> Option<u64>) {
    let (Some(last), Some(room)) = (LAST_LINEAGE.get_ptr_mut(0), LINEAGE.get_ptr_mut(0)) else {
        return;
    };
    // SAFETY: the element lives as long as the map. Of two that write at once, one is handed
    // over again.
    if unsafe { *last } == cgroup {
        return;
    }
    // SAFETY: this CPU's own element; a victim is described where nothing else is on the CPU.
    // Any bytes are such a record.
    let record = unsafe { &mut (*room).record };
    let mut length = size_of::<LineageRecord>() - LEVELS * size_of::<u64>();
    record.header = header(RecordKind::Lineage, 0);
    record.cgroup = cgroup;
    for (at, id) in record.above.iter_mut().enumerate() {
        let this = at as u32 + 1;
        let Some(found) = (if this < level { above(this) } else { None }) else {
            break;
        };
        *id = found;
        length += size_of::<u64>();
    }
    // SAFETY: the masked length is less than the size of the room.
    let bytes = unsafe { core::slice::from_raw_parts(room.cast::<u8>(), length & MASK) };
    if KILLS.output::<[u8]>(bytes, 0).is_err() {
        count(Loss::LineageRingFull);
        return;
    }
    // SAFETY: as above.
    unsafe { *last = cgroup };
}
