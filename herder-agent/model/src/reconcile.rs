//! Does the agent report every kill? Compares what it reported with what the kernel
//! counts for each cgroup and for the node, which needs no eBPF, and goes on while no
//! agent runs.
//!
//! The kernel's counts are `oom_kill` of `memory.events.local` and of `/proc/vmstat`, raised
//! together (`__oom_kill_process()`, mm/oom_kill.c): one for each process, and one more for
//! the chosen victim of a group, if that is still there when the group is scanned.
//! So what was reported is an upper bound, and only what goes beyond it was not seen.
//!
//! A cgroup's count disappears with the cgroup. The node's count stays, so kills
//! that no cgroup's count has are compared there.

use crate::{cgroup::CgroupId, clock::Monotonic};
use std::{
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

/// Processes that were killed and reported, for each cgroup whose count is read, and for the
/// node. Pure; takes the time from its caller.
#[derive(Debug)]
pub struct Reconciler {
    wait: Duration,
    cgroups: HashMap<CgroupId, Count>,
    node: Option<Count>,
    starting: Option<Starting>,
}

/// What the node counted while the agent was starting: what is reported of it was heard.
#[derive(Debug)]
struct Starting {
    unheard: u64,
    until: Monotonic,
    due: Monotonic,
}

#[derive(Debug, Default)]
struct Count {
    /// All up to here is reported, or counted as unseen.
    reconciled: u64,
    read: u64,
    last_read: Monotonic,
    reported: u64,
    last_reported: Monotonic,
    /// Up to where it is compared next, and when.
    due: Option<(u64, Monotonic)>,
    gone: bool,
}

impl Count {
    /// What was before is reconciled.
    fn begin(count: u64, now: Monotonic) -> Self {
        Count { reconciled: count, read: count, last_read: now, ..Count::default() }
    }

    fn read(&mut self, count: u64, now: Monotonic, wait: Duration) {
        self.gone = false;
        self.last_read = now;
        if count > self.read {
            self.read = count;
            self.due.get_or_insert((count, now + wait));
        }
        self.end_allowance();
    }

    fn reported(&mut self, processes: u64, now: Monotonic) {
        self.reported += processes;
        self.last_reported = now;
    }

    /// How many of what is due were not reported.
    fn settle(&mut self, now: Monotonic, wait: Duration) -> u64 {
        let Some((upto, _)) = self.due.filter(|(_, due)| *due <= now) else { return 0 };
        let killed = upto.saturating_sub(self.reconciled);
        let accounted = killed.min(self.reported);
        self.reported -= accounted;
        self.reconciled = upto;
        self.due = (self.read > upto).then(|| (self.read, now + wait));
        self.end_allowance();
        killed - accounted
    }

    /// The kernel counts a kill before the agent can report it. So what was reported before the
    /// last reading, and is not in it, is the allowance for a group.
    fn end_allowance(&mut self) {
        if self.due.is_none() && self.last_reported <= self.last_read {
            self.reported = 0;
        }
    }

    /// Up to where all is reported, as far as that was read.
    fn accounted(&self) -> u64 {
        self.read.min(self.reconciled.saturating_add(self.reported))
    }
}

impl Reconciler {
    /// One that waits so long for a kill to be reported after it was counted.
    pub fn new(wait: Duration) -> Self {
        Reconciler { wait, cgroups: HashMap::new(), node: None, starting: None }
    }

    /// Takes a count. Of a cgroup that was not known, what was before is reconciled.
    pub fn read(&mut self, id: CgroupId, count: u64, now: Monotonic) {
        match self.cgroups.entry(id) {
            Entry::Occupied(mut known) => known.get_mut().read(count, now, self.wait),
            Entry::Vacant(new) => _ = new.insert(Count::begin(count, now)),
        }
    }

    /// Takes the node's count as it was before the agent began to listen, and now that it
    /// listens to all.
    pub fn begin_node(&mut self, before: u64, count: u64, now: Monotonic) {
        self.node = Some(Count::begin(count, now));
        let due = now + self.node_wait();
        let unheard = count.saturating_sub(before);
        self.starting = (unheard > 0).then_some(Starting { unheard, until: now, due });
    }

    /// Takes the node's count, if it has been begun with.
    pub fn read_node(&mut self, count: u64, now: Monotonic) {
        let wait = self.node_wait();
        if let Some(node) = &mut self.node {
            node.read(count, now, wait);
        }
    }

    /// What a cgroup's count shows must be known before, and explains the node's.
    fn node_wait(&self) -> Duration {
        self.wait.saturating_mul(2)
    }

    /// A process of a cgroup was reported, killed at some time, and the kernel may have counted
    /// it twice.
    pub fn reported(&mut self, id: CgroupId, twice: bool, killed: Monotonic, now: Monotonic) {
        let processes = 1 + u64::from(twice);
        if let Some(count) = self.cgroups.get_mut(&id) {
            count.reported(processes, now);
        }
        match (&mut self.starting, &mut self.node) {
            (Some(starting), _) if killed < starting.until => {
                starting.unheard = starting.unheard.saturating_sub(processes);
            }
            (_, Some(node)) => node.reported(processes, now),
            (_, None) => {}
        }
    }

    /// The cgroup was removed, or is matched no more; its last kills may still be reported.
    pub fn removed(&mut self, id: CgroupId) {
        if let Entry::Occupied(mut count) = self.cgroups.entry(id) {
            if count.get().due.is_none() {
                count.remove();
            } else {
                count.get_mut().gone = true;
            }
        }
    }

    /// Compares what is due. Returns how many processes of which cgroups were killed and not
    /// reported. Without a cgroup, they died in one whose name is not known.
    pub fn settle(&mut self, now: Monotonic) -> Vec<(Option<CgroupId>, u64)> {
        let mut unseen = Vec::new();
        for (id, count) in &mut self.cgroups {
            let missed = count.settle(now, self.wait);
            if missed > 0 {
                unseen.push((Some(*id), missed));
            }
        }
        self.cgroups.retain(|_, count| !count.gone || count.due.is_some());
        let wait = self.node_wait();
        if let Some(node) = &mut self.node {
            node.reported += unseen.iter().map(|(_, missed)| missed).sum::<u64>();
            let missed = node.settle(now, wait);
            if missed > 0 {
                unseen.push((None, missed));
            }
        }
        unseen
    }

    /// How many processes were killed while the agent was starting, and not reported.
    pub fn settle_starting(&mut self, now: Monotonic) -> u64 {
        let reconciled = self.starting.take_if(|starting| starting.due <= now);
        reconciled.map_or(0, |starting| starting.unheard)
    }

    /// When [`Self::settle`] or [`Self::settle_starting`] has something to do next.
    pub fn deadline(&self) -> Option<Monotonic> {
        let counts = self.cgroups.values().chain(&self.node);
        let due = counts.filter_map(|count| count.due).map(|(_, due)| due);
        due.chain(self.starting.as_ref().map(|starting| starting.due)).min()
    }

    /// What was read last of a cgroup.
    pub fn count(&self, id: CgroupId) -> Option<u64> {
        self.cgroups.get(&id).map(|count| count.read)
    }

    /// Up to which count of a cgroup all is reported. The next agent begins there, so that a kill
    /// that this agent was about to report is not lost.
    pub fn accounted(&self, id: CgroupId) -> Option<u64> {
        self.cgroups.get(&id).map(Count::accounted)
    }

    /// The same of the node, without what may have been killed unheard at the start.
    pub fn node_accounted(&self) -> Option<u64> {
        let unheard = self.starting.as_ref().map_or(0, |starting| starting.unheard);
        self.node.as_ref().map(|node| node.accounted().saturating_sub(unheard))
    }
}

#[cfg(test)]
mod tests;
