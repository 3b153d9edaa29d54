//! Asks the scheduler to run threads soon that a runtime or a container's start waits for.
#![expect(unsafe_code, reason = "no safe crate wraps sched_setattr(2)")]

use std::io;

/// `struct sched_attr` up to what every kernel knows
/// (include/uapi/linux/sched/types.h, `SCHED_ATTR_SIZE_VER0`).
#[repr(C)]
#[derive(Clone, Copy, Default)]
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

const SIZE: u32 = 48;

const _: () = assert!(size_of::<SchedAttr>() == 48);

/// `SCHED_RR` (include/uapi/linux/sched.h).
const ROUND_ROBIN: u32 = 2;

/// `SCHED_OTHER` (include/uapi/linux/sched.h).
const ORDINARY: u32 = 0;

/// `SCHED_FLAG_RESET_ON_FORK`: no thread that is started by this one has it too.
const RESET_ON_FORK: u64 = 1;

/// The shortest slice that there is (`__setparam_fair()`, kernel/sched/fair.c).
const SHORTEST: u64 = 100_000;

/// Which of the agent's urgent threads runs first on a processor that several want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A container's start waits for it.
    First,
    /// What it finds out leads to a correction, and it may take long: it must not keep those of
    /// [`Urgency::First`] waiting for its slice.
    Second,
}

impl Urgency {
    /// Among real-time priorities the lowest: 1 is the least.
    fn priority(self) -> u32 {
        match self {
            Urgency::First => 2,
            Urgency::Second => 1,
        }
    }
}

/// Lets the calling thread run before all ordinary tasks, with one of the two lowest real-time
/// priorities, if that is allowed (CAP_SYS_NICE): whatever CPU weight the agent's cgroup has
/// and whatever else runs. The kernel leaves others a twentieth of each second
/// (`sched_rt_runtime_us`, and since 6.12 the fair server).
///
/// Else it gets the shortest slice. With it, a task that wakes on a busy CPU preempts one
/// with a longer slice instead of waiting for its turn, which takes milliseconds. Needs no
/// privilege, and is no more CPU time in whole. Kernels before 6.12 ignore it.
///
/// A policy or nice value that the operator has chosen for the agent stays.
pub fn raise_priority(urgency: Urgency) {
    let thread = std::thread::current().name().unwrap_or_default().to_owned();
    let found = match get() {
        Ok(found) if found.policy == ORDINARY => found,
        Ok(found) => {
            return tracing::info!(
                thread,
                policy = found.policy,
                "The thread keeps its scheduling policy."
            );
        }
        Err(error) => {
            return tracing::debug!(thread, %error, "The thread's scheduling policy cannot be read.");
        }
    };
    let first = SchedAttr {
        size: SIZE,
        policy: ROUND_ROBIN,
        flags: RESET_ON_FORK,
        priority: urgency.priority(),
        ..SchedAttr::default()
    };
    let shortest = SchedAttr {
        size: SIZE,
        policy: ORDINARY,
        flags: RESET_ON_FORK,
        nice: found.nice,
        runtime: SHORTEST,
        ..SchedAttr::default()
    };
    match set(&first) {
        Ok(()) => tracing::info!(thread, "The thread runs before ordinary tasks."),
        Err(why) => match set(&shortest) {
            Ok(()) => {
                tracing::debug!(thread, %why, "The thread has the shortest time slice.");
            }
            Err(error) => {
                tracing::debug!(thread, %error, "The thread keeps the default time slice.");
            }
        },
    }
}

fn get() -> io::Result<SchedAttr> {
    let mut found = SchedAttr::default();
    // SAFETY: the kernel writes at most `SIZE` bytes, which are the structure's own.
    match unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut found, SIZE, 0) } {
        0 => Ok(found),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set(attributes: &SchedAttr) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as the structure says it has, which are its own,
    // and writes to it only if it knows no structure of that size; this is the first one's.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, attributes, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `SCHED_BATCH` (include/uapi/linux/sched.h).
    const BATCH: u32 = 3;

    /// What a thread has after [`raise_priority`] that had this before.
    fn after(attributes: SchedAttr) -> SchedAttr {
        let thread = std::thread::spawn(move || {
            set(&SchedAttr { size: SIZE, ..attributes }).unwrap();
            raise_priority(Urgency::First);
            get().unwrap()
        });
        thread.join().unwrap()
    }

    #[test]
    fn what_others_have_chosen_stays() {
        let policy = after(SchedAttr { policy: BATCH, ..SchedAttr::default() }).policy;
        assert_eq!(policy, BATCH);
        let found = after(SchedAttr { nice: 5, ..SchedAttr::default() });
        // A thread with the permission runs before ordinary tasks, and has no nice value then.
        assert!(found.policy == ROUND_ROBIN || found.nice == 5, "{}", found.nice);
    }

    /// Where it is allowed; else both have the shortest slice.
    #[test]
    fn what_may_take_long_keeps_nothing_more_urgent_waiting() {
        let of = |urgency| {
            let thread = std::thread::spawn(move || {
                raise_priority(urgency);
                get().unwrap()
            });
            thread.join().unwrap()
        };
        let (first, second) = (of(Urgency::First), of(Urgency::Second));
        assert_eq!(first.policy, second.policy);
        let is_before = first.priority > second.priority && second.priority > 0;
        assert!(is_before || first.policy == ORDINARY);
    }
}
