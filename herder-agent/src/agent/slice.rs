//! Asks the scheduler to run the core soon after it wakes.
#![expect(unsafe_code, reason = "no safe crate wraps sched_setattr(2) with a slice")]

/// `struct sched_attr` up to what every kernel knows
/// (include/uapi/linux/sched/types.h, `SCHED_ATTR_SIZE_VER0`).
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    /// For an ordinary task since Linux 6.12 the length of its slice, nanoseconds.
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// The shortest slice that there is (`__setparam_fair()`, kernel/sched/fair.c).
const SHORTEST: u64 = 100_000;

/// Gives the calling thread the shortest slice. With it, a task that wakes on a
/// busy CPU preempts one with a longer slice instead of waiting for its turn,
/// which takes milliseconds. Needs no privilege, and is no more CPU time in
/// whole. Kernels before 6.12 ignore it.
pub(super) fn shortest() {
    let attributes = SchedAttr {
        size: u32::try_from(size_of::<SchedAttr>()).unwrap_or(48),
        runtime: SHORTEST,
        ..SchedAttr::default()
    };
    // SAFETY: the kernel reads as many bytes as the structure says it has.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "The scheduler's default slice stays.");
    }
}
