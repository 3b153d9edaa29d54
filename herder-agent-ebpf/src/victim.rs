//! Who dies: `oom:mark_victim`.
//!
//! The tracepoint fires in the trigger's context, so nothing about the victim
//! may be taken from `current`. It has two forms, which the agent distinguishes by the
//! argument and not by the version: older kernels pass a thread id, newer
//! ones (mainline 6.9 and stable kernels of early 2025) the task itself.

use crate::{
    kernel::{Address, Cgroup, Task},
    maps::{DECISIONS, KILLS, MARKING, Marked, PENDING, VICTIMS, count},
    object::{current_tid, header},
};
use aya_ebpf::{
    helpers::{bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid},
    macros::{fentry, raw_tracepoint},
    programs::{FEntryContext, RawTracePointContext},
};
use herder_agent_ebpf::{Loss, RecordKind, VictimRecord, flag};

/// Attached only where the tracepoint gives a thread id and functions can be traced; else
/// [`crate::untraced`] keeps the task. It also runs for marks
/// that `mark_oom_victim()` then finds to be repeated, which is harmless: the
/// tracepoint decides, this only keeps the task's address for it.
///
/// match-proto: mm/oom_kill.c:static void mark_oom_victim(struct task_struct *tsk) [5.10]
#[fentry(function = "mark_oom_victim")]
fn marking(ctx: FEntryContext) -> i32 {
    let task: u64 = ctx.arg(0);
    // If this fails, the exit route takes over and nothing is lost.
    let _ = MARKING.insert(&current_tid(), &task, 0);
    0
}

/// match-proto: include/trace/events/oom.h:TP_PROTO(int pid) [5.10.0-5.10.234]
/// match-proto: include/trace/events/oom.h:TP_PROTO(struct task_struct *task, uid_t uid) [5.10.235, 6.1.130, 6.12, 7.2]
#[raw_tracepoint(tracepoint = "mark_victim")]
fn mark_victim(ctx: RawTracePointContext) -> i32 {
    let argument: u64 = ctx.arg(0);
    let task = task_of(argument);
    let mut record = begin(argument);
    match task.and_then(|task| describe(&mut record, task)) {
        Some(()) => submit(&record),
        None => defer(argument, &record),
    }
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(&ctx, "marked thread {} of process {}", record.tid, record.tgid);
    0
}

/// The marked task, if it can be had now. A task's address has bits above the
/// lower 32, a thread id never has.
#[inline(always)]
pub(crate) fn task_of(argument: u64) -> Option<Task> {
    if argument >> 32 != 0 {
        return Some(Task(Address(argument)));
    }
    // SAFETY: only this thread writes the entry of its own id.
    let task = Task(Address(*unsafe { MARKING.get(&current_tid()) }?));
    (u64::from(task.tid()?) == argument).then_some(task)
}

/// Whether this thread has just sent the kernel's signal to the task that it marks.
#[inline(always)]
fn take_signal(argument: u64) -> bool {
    let thread = current_tid();
    // SAFETY: the value is copied at once; only this thread writes the entry of its own id.
    let Some(task) = (unsafe { MARKING.get(&thread) }).copied() else {
        return false;
    };
    // It was the signal for this mark, and is none for a later one.
    let _ = MARKING.remove(&thread);
    task == argument
        || argument >> 32 == 0
            && Task(Address(task)).tid().is_none_or(|tid| u64::from(tid) == argument)
}

/// What is known without the victim: time, trigger, decision, signal.
#[inline(always)]
fn begin(argument: u64) -> VictimRecord {
    let trigger = bpf_get_current_pid_tgid();
    let mut record = VictimRecord {
        header: header(RecordKind::Victim, 0),
        trigger_tid: trigger as u32,
        trigger_tgid: (trigger >> 32) as u32,
        // SAFETY: the helper has no preconditions.
        trigger_cgroup: unsafe { bpf_get_current_cgroup_id() },
        trigger_comm: bpf_get_current_comm().unwrap_or_default(),
        ..VictimRecord::default()
    };
    let has_signal = take_signal(argument);
    if let Some(decision) = DECISIONS.get_ptr_mut(&record.trigger_tid) {
        // SAFETY: only this thread touches the entry of its own id.
        let decision = unsafe { &mut *decision };
        decision.marks += 1;
        record.decision = decision.began;
        record.header.flags |= flag::DECISION;
        if decision.kills != 0 {
            record.header.flags |= flag::KILLED;
        }
    } else if has_signal {
        record.header.flags |= flag::KILLED;
    }
    record
}

/// Fills in the victim. `None` if not even its process and cgroup can be read.
#[inline(always)]
fn describe(record: &mut VictimRecord, task: Task) -> Option<()> {
    record.tid = task.tid()?;
    record.tgid = task.tgid()?;
    record.cgroup = task.cgroup()?.id()?;
    charge(record, task);
    // The leader speaks for the process even after it has exited: its pid in
    // the namespace, its start and its name are the process's own.
    let leader = task.leader()?;
    record.start_boottime = leader.start_boottime().unwrap_or(0);
    record.comm = leader.comm().unwrap_or_default();
    record.uid = task.uid().unwrap_or(0);
    if let Some(adj) = task.oom_score_adj() {
        record.oom_score_adj = adj;
        record.header.flags |= flag::SCORE;
    }
    if let Some((pid, level)) = leader.ns_pid() {
        record.ns_pid = pid;
        record.ns_level = level;
        record.header.flags |= flag::PID_NS;
    }
    if let Some(cgroup) = leader.parent().and_then(Task::cgroup).and_then(Cgroup::id) {
        record.parent_cgroup = cgroup;
        record.header.flags |= flag::PARENT;
    }
    if let Some(pages) = task.memory() {
        record.total_vm = pages.total_vm;
        record.anon_rss = pages.anon;
        record.file_rss = pages.file;
        record.shmem_rss = pages.shmem;
        record.header.flags |= flag::SIZES;
    }
    Some(())
}

/// Fills in which cgroup has its memory, and whether the agent's mount shows its own.
#[inline(always)]
pub(crate) fn charge(record: &mut VictimRecord, task: Task) {
    record.memory_cgroup = task.memory_cgroup().unwrap_or(0);
    if let Some(cgroup) = task.cgroup() {
        record.header.flags |= cgroup.place().0;
    }
}

/// Hands a victim over and remembers it until it has exited.
pub(crate) fn submit(record: &VictimRecord) {
    if KILLS.output::<VictimRecord>(record, 0).is_err() {
        count(Loss::VictimRingFull);
    }
    if record.header.flags & flag::AT_EXIT != 0 {
        return;
    }
    let marked = Marked { time: record.header.time, start_boottime: record.start_boottime };
    // SAFETY: the value is copied at once; an entry is removed by one exit only.
    let before = unsafe { VICTIMS.get(&record.tgid) }.copied();
    // The first mark of a process counts, so an entry of the same process stays.
    if before.is_some_and(|before| before.start_boottime == marked.start_boottime) {
        return;
    }
    if VICTIMS.insert(&record.tgid, &marked, 0).is_err() {
        count(Loss::VictimMapFull);
    }
}

/// Keeps a victim that cannot be described until it exits, when it is `current`.
#[inline(always)]
fn defer(argument: u64, record: &VictimRecord) {
    if PENDING.insert(&argument, record, 0).is_err() {
        count(Loss::PendingMapFull);
    }
}
