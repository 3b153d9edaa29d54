//! Does the agent tell every kill? Compares what it told with what the kernel
//! counts for each cgroup, which needs no eBPF, and goes on while no agent runs.
//!
//! The kernel's count is `oom_kill` of `memory.events.local`
//! (`__oom_kill_process()`, mm/oom_kill.c): one for each process, and one more for
//! the chosen victim of a group, if that is still there when the group is scanned.
//! So what was told is an upper bound, and only what goes beyond it was not seen.

use crate::cgroup::CgroupId;
use std::collections::{HashMap, hash_map::Entry};

/// Processes that were killed and told, for each cgroup whose count is read. Pure;
/// takes the time from its caller, nanoseconds of any clock.
#[derive(Debug)]
pub struct Reconciler {
    wait: u64,
    cgroups: HashMap<CgroupId, Count>,
}

#[derive(Debug, Default)]
struct Count {
    /// All up to here is told, or counted as unseen.
    settled: u64,
    read: u64,
    told: u64,
    last_told: u64,
    /// Up to where it is compared next, and when.
    due: Option<(u64, u64)>,
    gone: bool,
}

impl Reconciler {
    /// One that waits so long for a kill to be told after it was counted.
    pub fn new(wait: u64) -> Self {
        Reconciler { wait, cgroups: HashMap::new() }
    }

    /// Takes a count. Of a cgroup that was not known, what was before is settled, or
    /// only what an earlier agent had read; then the difference was killed while
    /// none ran, and is given.
    pub fn read(&mut self, id: CgroupId, count: u64, earlier: Option<u64>, now: u64) -> u64 {
        let Some(known) = self.cgroups.get_mut(&id) else {
            let begin = Count { settled: count, read: count, ..Count::default() };
            self.cgroups.insert(id, begin);
            return count.saturating_sub(earlier.unwrap_or(count));
        };
        known.gone = false;
        if count > known.read {
            known.read = count;
            known.due.get_or_insert((count, now.saturating_add(self.wait)));
        }
        0
    }

    /// So many processes of a cgroup were told, and the kernel may have counted one
    /// of them twice.
    pub fn told(&mut self, id: CgroupId, processes: u64, twice: bool, now: u64) {
        if let Some(count) = self.cgroups.get_mut(&id) {
            count.told += processes + u64::from(twice);
            count.last_told = now;
        }
    }

    /// The cgroup was removed, or is matched no more; its last kills may still be told.
    pub fn removed(&mut self, id: CgroupId) {
        if let Entry::Occupied(mut count) = self.cgroups.entry(id) {
            if count.get().due.is_none() {
                count.remove();
            } else {
                count.get_mut().gone = true;
            }
        }
    }

    /// Compares what is due, and gives how many processes of which cgroups were
    /// killed and not told.
    pub fn settle(&mut self, now: u64) -> Vec<(CgroupId, u64)> {
        let mut unseen = Vec::new();
        for (id, count) in &mut self.cgroups {
            let Some((upto, _)) = count.due.filter(|(_, due)| *due <= now) else { continue };
            let killed = upto.saturating_sub(count.settled);
            let explained = killed.min(count.told);
            if killed > explained {
                unseen.push((*id, killed - explained));
            }
            count.told -= explained;
            count.settled = upto;
            count.due = (count.read > upto).then(|| (count.read, now.saturating_add(self.wait)));
        }
        // What was told long ago and not counted is the allowance for a group.
        for count in self.cgroups.values_mut() {
            if count.due.is_none() && count.last_told.saturating_add(self.wait) <= now {
                count.told = 0;
            }
        }
        self.cgroups.retain(|_, count| !count.gone || count.due.is_some());
        unseen
    }

    /// When [`Self::settle`] has something to do next.
    pub fn deadline(&self) -> Option<u64> {
        self.cgroups.values().filter_map(|count| count.due).map(|(_, due)| due).min()
    }

    /// What was read last of a cgroup.
    pub fn count(&self, id: CgroupId) -> Option<u64> {
        self.cgroups.get(&id).map(|count| count.read)
    }
}

/// `oom_kill` of a `memory.events` or `memory.events.local` file.
pub fn parse_oom_kill(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: CgroupId = CgroupId(1);

    fn begun() -> Reconciler {
        let mut reconciler = Reconciler::new(10);
        assert_eq!(reconciler.read(ONE, 5, None, 0), 0, "what was before is nobody's");
        reconciler
    }

    #[test]
    fn what_is_told_is_seen_in_whatever_order() {
        let mut reconciler = begun();
        reconciler.told(ONE, 1, false, 1);
        reconciler.read(ONE, 6, None, 2);
        reconciler.read(ONE, 7, None, 3);
        assert_eq!(reconciler.deadline(), Some(12));
        reconciler.told(ONE, 1, false, 11);
        assert_eq!(reconciler.settle(12), []);
        assert_eq!(reconciler.deadline(), Some(22), "the second is compared later");
        assert_eq!(reconciler.settle(22), []);
        assert_eq!(reconciler.deadline(), None);
    }

    #[test]
    fn what_is_not_told_is_unseen_once() {
        let mut reconciler = begun();
        reconciler.read(ONE, 8, None, 0);
        reconciler.told(ONE, 1, false, 1);
        assert_eq!(reconciler.settle(9), [], "not yet");
        assert_eq!(reconciler.settle(10), [(ONE, 2)]);
        assert_eq!(reconciler.settle(30), []);
        reconciler.read(ONE, 9, None, 30);
        assert_eq!(reconciler.settle(40), [(ONE, 1)], "what was told before explains nothing");
    }

    #[test]
    fn a_group_may_count_its_chosen_victim_twice() {
        for counted in [8, 9] {
            let mut reconciler = begun();
            reconciler.told(ONE, 3, true, 0);
            reconciler.read(ONE, counted, None, 0);
            assert_eq!(reconciler.settle(10), [], "{counted}");
            reconciler.settle(100);
            reconciler.read(ONE, counted + 1, None, 100);
            assert_eq!(reconciler.settle(110), [(ONE, 1)], "{counted}: the allowance is gone");
        }
    }

    #[test]
    fn a_removed_cgroup_is_compared_and_forgotten() {
        let mut reconciler = begun();
        reconciler.read(ONE, 6, None, 0);
        reconciler.removed(ONE);
        assert_eq!(reconciler.settle(5), []);
        assert_eq!(reconciler.settle(10), [(ONE, 1)]);
        assert_eq!(reconciler.count(ONE), None);
    }

    #[test]
    fn nothing_is_kept_of_a_cgroup_without_kills_and_it_may_begin_anew() {
        let mut reconciler = begun();
        reconciler.removed(ONE);
        assert_eq!(reconciler.count(ONE), None);
        assert_eq!(reconciler.read(ONE, 9, None, 50), 0, "what died unmatched is nobody's");
        assert_eq!(reconciler.settle(100), []);
    }

    #[test]
    fn an_earlier_agent_had_read_less() {
        for (earlier, meanwhile) in [(Some(3), 2), (Some(5), 0), (Some(9), 0), (None, 0)] {
            let mut reconciler = Reconciler::new(10);
            assert_eq!(reconciler.read(ONE, 5, earlier, 0), meanwhile, "{earlier:?}");
            assert_eq!(reconciler.settle(100), []);
        }
    }

    #[test]
    fn the_files_of_all_kernels() {
        let text = "low 0\nhigh 0\nmax 7\noom 2\noom_kill 12\noom_group_kill 1\n";
        assert_eq!(parse_oom_kill(text), Some(12));
        assert_eq!(parse_oom_kill("oom 1\noom_kill 3\n"), Some(3));
        for bad in ["", "oom_group_kill 1\n", "oom_kill x\n"] {
            assert_eq!(parse_oom_kill(bad), None, "{bad:?}");
        }
    }
}
