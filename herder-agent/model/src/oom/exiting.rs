//! Whether the kernel took a container's init only because it found no other process. Pure.
//!
//! Some kernels hide processes that exit from the OOM killer (`KernelFacts::hides_exiting`): a
//! victim is out of its sight from the beginning of its exit, but its memory is only free at
//! the end of `exit_mm()`. An older kernel finds the victim, and waits for it, but for the last
//! moment. These take the next process, and the init if no other is left, however small it is.

use super::{OomKill, Victim};
use crate::{cgroup::CgroupPath, clock::Monotonic};
use std::{collections::VecDeque, time::Duration};

/// How long after its mark a victim may still hold memory. A process of many GiB takes a
/// second or two.
const HOLDS_MEMORY: Duration = Duration::from_secs(2);

/// Victims that are remembered. The oldest go first; with more in two seconds the number that
/// is reported is too small.
const KEPT: usize = 64;

/// The latest victims.
#[derive(Debug, Default)]
pub struct Exiting(VecDeque<Exit>);

#[derive(Debug)]
struct Exit {
    container: CgroupPath,
    marked: Monotonic,
    resident: u64,
}

impl Exiting {
    /// Remembers the victims of a kill in a container.
    pub fn add(&mut self, kill: &OomKill, container: &CgroupPath) {
        for victim in &kill.victims {
            self.0.truncate(KEPT - 1);
            let (marked, resident) = (victim.time, resident(victim));
            self.0.push_front(Exit { container: container.clone(), marked, resident });
        }
    }

    /// How many larger processes of a container were on their way out when the kernel chose its
    /// init. 0 if the init may have been the largest anyway: it has more than half of what they
    /// had.
    pub fn beside(&self, init: &Victim, container: &CgroupPath) -> usize {
        let own = resident(init);
        let others = self.0.iter().filter(|exit| {
            exit.container == *container
                && exit.marked <= init.time
                && init.time.saturating_duration_since(exit.marked) < HOLDS_MEMORY
                && exit.resident > own
        });
        let (count, held) = others
            .fold((0, 0u64), |(count, held), exit| (count + 1, held.saturating_add(exit.resident)));
        if own < held / 2 { count } else { 0 }
    }
}

fn resident(victim: &Victim) -> u64 {
    victim.sizes.map_or(0, |sizes| sizes.resident())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cgroup::CgroupId, oom::Sizes};

    const MIB: u64 = 1 << 20;

    fn path(text: &str) -> CgroupPath {
        CgroupPath::parse(text.as_bytes()).unwrap()
    }

    fn victim(milliseconds: u64, mebibytes: Option<u64>) -> Victim {
        let sizes = mebibytes.map(|size| Sizes {
            total_vm: size * MIB,
            anon_rss: size * MIB,
            file_rss: 0,
            shmem_rss: 0,
        });
        let time = Monotonic::ZERO + Duration::from_millis(milliseconds);
        Victim { sizes, ..Victim::nameless(CgroupId(2), time) }
    }

    fn kill(victim: Victim) -> OomKill {
        OomKill { victims: vec![victim], ..OomKill::default() }
    }

    /// As it happens: two children in 13 ms, and the init 41 ms later.
    fn two_children() -> Exiting {
        let mut exiting = Exiting::default();
        exiting.add(&kill(victim(1000, Some(60))), &path("/pod/c1"));
        exiting.add(&kill(victim(1013, Some(23))), &path("/pod/c1"));
        exiting
    }

    #[test]
    fn an_init_beside_dying_children() {
        let container = path("/pod/c1");
        for (case, init, container, expected) in [
            ("the init is tiny", victim(1054, Some(0)), &container, 2),
            ("only those that are larger count", victim(1054, Some(25)), &container, 1),
            ("the init is large itself", victim(1054, Some(35)), &container, 0),
            ("of another container", victim(1054, Some(0)), &path("/pod/c2"), 0),
            ("their memory is free by now", victim(3500, Some(0)), &container, 0),
            ("one of them began too long ago", victim(3010, Some(0)), &container, 1),
            ("the second was marked later", victim(1000, Some(0)), &container, 1),
        ] {
            assert_eq!(two_children().beside(&init, container), expected, "{case}");
        }
    }

    #[test]
    fn sizes_that_are_not_known_say_nothing() {
        let mut exiting = Exiting::default();
        let container = path("/pod/c1");
        exiting.add(&kill(victim(1000, None)), &container);
        assert_eq!(exiting.beside(&victim(1010, None), &container), 0);
        assert_eq!(exiting.beside(&victim(1010, Some(1)), &container), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut exiting = Exiting::default();
        for _ in 0..10 * KEPT {
            exiting.add(&kill(victim(1000, Some(1))), &path("/pod/c1"));
        }
        assert_eq!(exiting.0.len(), KEPT);
        assert_eq!(exiting.beside(&victim(1001, Some(0)), &path("/pod/c1")), KEPT);
    }
}
