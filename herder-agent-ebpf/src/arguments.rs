//! The command line of a victim as it is when the victim dies (`victimArguments: true`).
//!
//! An object of its own. Its programs run for every signal of the node, and what they read may be
//! confidential, so it is loaded only where a rule asks for it.
//!
//! The kernel sends a victim its own SIGKILL and marks it after that (`__oom_kill_process()`,
//! mm/oom_kill.c), so the signal may be delivered before the mark. That is why the signal is
//! waited for here, and not the mark. When it is delivered, the victim is `current` and still has
//! its memory; at its exit it has none (`exit_mm()` comes before `sched_process_exit` in most
//! kernels). Whether the process is a victim, and of which container, the agent knows.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "eBPF programs read memory through helpers")]

#[expect(dead_code, reason = "the other objects have what is not used here")]
#[macro_use]
mod kernel;
#[expect(dead_code, reason = "the other objects have what is not used here")]
mod object;

use aya_ebpf::{
    helpers::{bpf_get_current_task, bpf_probe_read_user, generated},
    macros::{map, raw_tracepoint},
    maps::{LruHashMap, PerCpuArray, RingBuf},
    programs::RawTracePointContext,
};
use herder_agent_ebpf::{ARGUMENTS_LEN, ArgumentsRecord, RecordKind, flag, rings};
use kernel::{Address, LAYOUT, Task};
use object::{count_in, current_tgid, header};

/// What was read.
#[map]
static ARGUMENTS: RingBuf = RingBuf::with_byte_size(rings::ARGUMENTS, 0);

/// Processes that the kernel has sent SIGKILL, and that have not been delivered it. One that never
/// is makes room for others.
#[map]
static SENT: LruHashMap<u32, u8> = LruHashMap::with_max_entries(1024, 0);

/// Processes that were delivered it, as long as there is room.
#[map]
static DELIVERED: LruHashMap<u32, u8> = LruHashMap::with_max_entries(256, 0);

/// Records that did not fit into the ring buffer.
#[map]
static ARGUMENTS_LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Room for a record. A signal is delivered with interrupts off, so it has one user at a time.
#[map]
static ROOM: PerCpuArray<Room> = PerCpuArray::with_max_entries(1, 0);

/// A record with its text. Larger than both need, so that a masked length is provably inside.
#[repr(C)]
struct Room {
    record: ArgumentsRecord,
    text: [u8; 1024],
}

/// A length masked with this leaves room for the record before it.
const MASK: usize = 511;

const SIGKILL: i32 = 9;

/// See `untraced` of the other object: `SEND_SIG_PRIV`, include/linux/sched/signal.h.
const FROM_KERNEL: u64 = 1;

/// `PF_EXITING`, include/linux/sched.h (5.10 to 7.2).
const EXITING: u32 = 4;

/// Under the lock that the delivery takes too (`sighand->siglock`), so it comes before that.
///
/// match-proto: include/trace/events/signal.h:TP_PROTO(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result) [5.10, 6.1, 6.12, 7.2]
#[raw_tracepoint(tracepoint = "signal_generate")]
fn kill_sent(ctx: RawTracePointContext) -> i32 {
    let (signal, origin, task): (i32, u64, u64) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    if signal != SIGKILL || origin != FROM_KERNEL {
        return 0;
    }
    if let Some(tgid) = Task(Address(task)).tgid()
        && !ends_namespace(current())
    {
        // The map drops its oldest entry rather than refuse one.
        let _ = SENT.insert(&tgid, &0, 0);
    }
    0
}

/// match-proto: include/trace/events/signal.h:TP_PROTO(int sig, struct kernel_siginfo *info, struct k_sigaction *ka) [5.10, 6.1, 6.12, 7.2]
#[raw_tracepoint(tracepoint = "signal_deliver")]
fn kill_delivered(ctx: RawTracePointContext) -> i32 {
    let signal: i32 = ctx.arg(0);
    // Every signal of the node comes here.
    if signal != SIGKILL {
        return 0;
    }
    let tgid = current_tgid();
    // Each thread is delivered it. The one that removes the entry reads.
    if SENT.remove(&tgid).is_ok() {
        // As above.
        let _ = DELIVERED.insert(&tgid, &0, 0);
        hand_over(tgid);
    }
    0
}

#[inline(always)]
fn current() -> Task {
    // SAFETY: the helper has no preconditions.
    Task(Address(unsafe { bpf_get_current_task() }))
}

/// Whether it is the init of a pid namespace that ends. The kernel kills all that is left in there
/// by the same signal (`zap_pid_ns_processes()`, kernel/pid_namespace.c). Not of one that was killed
/// by the kernel itself: of a group, that may be quicker than the OOM killer.
#[inline(always)]
fn ends_namespace(task: Task) -> bool {
    let tgid = current_tgid();
    // SAFETY: only whether it is there is asked.
    if unsafe { DELIVERED.get(&tgid) }.is_some() {
        return false;
    }
    let flags: Option<u32> = task.0.read(offset!(task_flags));
    flags.is_some_and(|flags| flags & EXITING != 0)
        && task.leader().and_then(Task::ns_pid).is_some_and(|(pid, level)| pid == 1 && level > 0)
}

#[inline(always)]
fn hand_over(tgid: u32) {
    let Some(start_boottime) = current().leader().and_then(Task::start_boottime) else { return };
    let Some(room) = ROOM.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's own element, with one user at a time (see above).
    let room = unsafe { &mut *room };
    room.record = ArgumentsRecord {
        header: header(RecordKind::Arguments, 0),
        start_boottime,
        tgid,
        length: 0,
    };
    if let Some(flags) = read(room) {
        room.record.header.flags = flags;
    } else {
        room.record.length = 0;
    }
    let total = size_of::<ArgumentsRecord>() + length_of(room);
    // SAFETY: `total` is at most the size of the room.
    let bytes = unsafe { core::slice::from_raw_parts((&raw const *room).cast::<u8>(), total) };
    if ARGUMENTS.output::<[u8]>(bytes, 0).is_err() {
        count_in(&ARGUMENTS_LOST, 0);
    }
}

/// How much of the text is to be read, or was. Volatile, because the compiler would leave out a
/// mask that it knows to change nothing, and the verifier then knows no bound.
#[inline(always)]
fn length_of(room: &Room) -> usize {
    // SAFETY: it is read from a reference.
    let length = unsafe { core::ptr::read_volatile(&raw const room.record.length) };
    length as usize & MASK
}

/// Reads the text as `/proc/PID/cmdline` has it (`get_mm_cmdline()`, fs/proc/base.c), as far as it
/// is in memory: nothing waits for a page here. Gives the record's flags.
#[inline(always)]
fn read(room: &mut Room) -> Option<u32> {
    let memory = current().memory_address()?;
    let start: u64 = memory.read(offset!(mm_arg_start))?;
    let end: u64 = memory.read(offset!(mm_arg_end))?;
    if start == 0 || end <= start {
        return Some(flag::READ);
    }
    // A program that has written a title over its last byte goes on in its environment, up to the
    // first NUL. Where that byte cannot be read, the kernel takes it for none, too.
    // SAFETY: the helper checks the address and copies, or fails.
    let is_title = unsafe { bpf_probe_read_user((end - 1) as *const u8) }.unwrap_or(0) != 0;
    let all = if is_title { u64::MAX } else { end - start };
    let wanted = if all > ARGUMENTS_LEN as u64 { ARGUMENTS_LEN as u64 } else { all };
    let mut is_cut = !is_title && all > wanted;
    match copy(room, start, wanted, is_title) {
        Some(ends) => is_cut |= !ends,
        None => {
            // What lies on the page after the first may not be in memory.
            let near = SMALLEST_PAGE - start % SMALLEST_PAGE;
            if near >= wanted {
                return None;
            }
            copy(room, start, near, is_title)?;
            is_cut = true;
        }
    }
    Some(flag::READ | if is_cut { flag::CUT } else { 0 })
}

/// Pages may be larger.
const SMALLEST_PAGE: u64 = 4096;

/// Copies so many bytes, or those of a title, up to its NUL. Returns whether that was all
/// of it.
#[inline(always)]
fn copy(room: &mut Room, start: u64, wanted: u64, is_title: bool) -> Option<bool> {
    room.record.length = wanted as u32;
    let length = length_of(room) as u32;
    let (text, from) = (room.text.as_mut_ptr().cast(), start as *const _);
    if is_title {
        // SAFETY: the masked length is less than the room; the helper checks the address and
        // copies, or fails. It puts a NUL after what it copies.
        let copied = unsafe { generated::bpf_probe_read_user_str(text, length, from) };
        if copied < 1 {
            return None;
        }
        room.record.length = copied as u32 - 1;
        return Some((copied as u64) < wanted);
    }
    // SAFETY: as above, without a NUL.
    let failed = unsafe { generated::bpf_probe_read_user(text, length, from) };
    (failed == 0).then_some(true)
}
