//! What each of the objects has.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    maps::PerCpuArray,
};
use herder_agent_ebpf::{Header, RecordKind};

/// The helpers that read memory are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program that could get here.
    loop {}
}

/// `CLOCK_MONOTONIC`, nanoseconds.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// The beginning of a record that is made now.
#[inline(always)]
pub(crate) fn header(kind: RecordKind, flags: u32) -> Header {
    Header { kind: kind as u32, flags, time: now() }
}

/// Thread id of the current task.
#[inline(always)]
pub(crate) fn current_tid() -> u32 {
    bpf_get_current_pid_tgid() as u32
}

/// Process id of the current task.
#[inline(always)]
pub(crate) fn current_tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// Counts one more in a map of counters.
#[inline(always)]
pub(crate) fn count_in(counters: &PerCpuArray<u64>, at: u32) {
    if let Some(counter) = counters.get_ptr_mut(at) {
        // SAFETY: the pointer is to this CPU's own element, which lives as long as the map;
        // programs that count are not nested on one CPU.
        unsafe { *counter += 1 };
    }
}
