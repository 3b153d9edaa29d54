//! What stands in for [`crate::decision`] where functions cannot be traced (arm64 before Linux
//! 6.4, kernels without function tracing): raw tracepoints attach everywhere.
//!
//! A signal right before the mark shows that the mark is a kill. What the memory cgroups say at
//! that moment shows whose limit was hit, by their counts, and whether a group is killed. All
//! of it is read under `oom_lock`, where neither the victim nor its cgroup can be gone.

use crate::{
    maps::{KILLS, LINEAGE, MARKING, count},
    object::{current_tid, header},
    victim::task_of,
};
use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use herder_agent_ebpf::{LEVELS, Level, LevelsRecord, Loss, RecordKind, flag};

const SIGKILL: i32 = 9;

/// What stands in the place of a signal's origin if the kernel itself sends it (`SEND_SIG_PRIV`,
/// include/linux/sched/signal.h, 5.10 to 7.2).
const FROM_KERNEL: u64 = 1;

/// `__oom_kill_process()` sends the signal and marks the task right after it, by the same
/// thread. Others that the kernel sends such a signal to are not marked next: threads of a
/// dying pid namespace, and other processes that have the victim's memory for their own.
///
/// Runs for every signal of the node, so all it does for others is to compare two numbers.
///
/// match-proto: include/trace/events/signal.h:TP_PROTO(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result) [5.10, 6.1, 6.12, 7.2]
#[raw_tracepoint(tracepoint = "signal_generate")]
fn kill_signal(ctx: RawTracePointContext) -> i32 {
    let (signal, origin, task): (i32, u64, u64) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    if signal == SIGKILL && origin == FROM_KERNEL {
        // The map drops its oldest entry rather than refuse one.
        let _ = MARKING.insert(&current_tid(), &task, 0);
    }
    0
}

/// A length masked with this is less than the room for a record.
const MASK: usize = 1023;

/// Before `mark_victim`, of the same arguments.
#[raw_tracepoint(tracepoint = "mark_victim")]
fn victim_levels(ctx: RawTracePointContext) -> i32 {
    let (Some(state), Some(room)) =
        (task_of(ctx.arg(0)).and_then(|task| task.memory_state()), LINEAGE.get_ptr_mut(0))
    else {
        return 0;
    };
    // SAFETY: this CPU's own element; a victim is described where nothing else is on the CPU.
    // Any bytes are such a record.
    let record = unsafe { &mut (*room).levels };
    record.header = header(RecordKind::Levels, 0);
    (record.trigger_tid, record.reserved) = (current_tid(), 0);
    let mut length = size_of::<LevelsRecord>() - LEVELS * size_of::<Level>();
    let mut at = state;
    for level in &mut record.levels {
        let Some(found) = at.level() else { break };
        *level = found;
        length += size_of::<Level>();
        match at.parent() {
            Some(Some(parent)) => at = parent,
            Some(None) => {
                record.header.flags = flag::WHOLE;
                break;
            }
            None => break,
        }
    }
    // SAFETY: the masked length is less than the size of the room.
    let bytes = unsafe { core::slice::from_raw_parts(room.cast::<u8>(), length & MASK) };
    if KILLS.output::<[u8]>(bytes, 0).is_err() {
        count(Loss::LineageRingFull);
    }
    0
}
