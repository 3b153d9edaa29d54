//! The end of a victim: `sched_process_exit`.
//!
//! Runs for every thread of the node that exits, so all it does for those that
//! are no victims is to look them up.

use crate::{
    kernel::{Address, Task},
    maps::{KILLS, PENDING, VICTIMS, count},
    object::{current_tgid, header, now},
    victim,
};
use aya_ebpf::{
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid,
        bpf_get_current_uid_gid,
    },
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use herder_agent_ebpf::{ExitRecord, Loss, RecordKind, VictimRecord, flag};

/// Whether victims may be waiting in `PENDING`; the agent sets it on kernels
/// where a mark cannot, or not always, be described at once.
#[unsafe(no_mangle)]
static DESCRIBE_AT_EXIT: u32 = 0;

/// match-proto: include/trace/events/sched.h:TP_PROTO(struct task_struct *p) [5.10, 6.1, 6.12]
/// match-proto: include/trace/events/sched.h:TP_PROTO(struct task_struct *p, bool group_dead) [7.2]
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn process_exit(ctx: RawTracePointContext) -> i32 {
    let task: u64 = ctx.arg(0);
    // SAFETY: the global lives for ever and is only written before loading.
    if unsafe { core::ptr::read_volatile(&raw const DESCRIBE_AT_EXIT) } != 0 {
        describe_pending(task);
    }
    let tgid = current_tgid();
    // SAFETY: the value is copied at once; an entry is removed by one exit only.
    let Some(marked) = (unsafe { VICTIMS.get(&tgid) }).copied() else {
        return 0;
    };
    // The process is dead when its last thread is (`signal->live`, which
    // do_exit() counts down before the tracepoint, kernel/exit.c).
    if Task(Address(task)).live_threads().is_some_and(|live| live > 0) {
        return 0;
    }
    // Two threads may both have seen 0; the one that removes the entry reports.
    if VICTIMS.remove(&tgid).is_err() {
        return 0;
    }
    let start = Task(Address(task)).leader().and_then(Task::start_boottime);
    if start.is_some_and(|start| start != marked.start_boottime) {
        return 0;
    }
    let record =
        ExitRecord { header: header(RecordKind::Exit, 0), marked: marked.time, tgid, reserved: 0 };
    if KILLS.output::<ExitRecord>(&record, 0).is_err() {
        count(Loss::ExitRingFull);
    }
    0
}

/// A victim that was marked this long ago has exited without being seen, and its
/// thread id or address is another task's now, nanoseconds.
const STALE: u64 = 300 * 1_000_000_000;

/// Reports a victim that could not be described when it was marked. It is
/// `current` now, and still in its cgroup: `cgroup_exit()` comes later in
/// `do_exit()` (5.10 to 7.2).
#[inline(always)]
fn describe_pending(task: u64) {
    let ids = bpf_get_current_pid_tgid();
    let tid = ids & 0xffff_ffff;
    // SAFETY: the value is copied at once; it is removed below, by this thread.
    let (key, found) = match unsafe { PENDING.get(&tid) } {
        Some(found) => (tid, found),
        // SAFETY: as above.
        None => match unsafe { PENDING.get(&task) } {
            Some(found) => (task, found),
            None => return,
        },
    };
    let mut record: VictimRecord = *found;
    // Nothing to do if this fails: the entry is in the map, as seen above.
    let _ = PENDING.remove(&key);
    if now().saturating_sub(record.header.time) > STALE {
        count(Loss::PendingStale);
        return;
    }
    record.header.flags |= flag::AT_EXIT;
    record.tid = tid as u32;
    record.tgid = (ids >> 32) as u32;
    record.uid = bpf_get_current_uid_gid() as u32;
    // SAFETY: the helper has no preconditions.
    record.cgroup = unsafe { bpf_get_current_cgroup_id() };
    // Without that, arguments of another process with its id might be taken for its own.
    let start = Task(Address(task)).leader().and_then(Task::start_boottime);
    record.start_boottime = start.unwrap_or(0);
    victim::charge(&mut record, Task(Address(task)));
    record.comm = bpf_get_current_comm().unwrap_or_default();
    victim::submit(&record);
}
