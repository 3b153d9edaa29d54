//! Kills without eBPF: what the kernel counts, read for each cgroup where it may have
//! changed, and told when what became of the container is known.

use super::Core;
use crate::{
    cgroup::{CgroupId, CgroupPath},
    oom::deduce::Place,
    probe::{Event, monotonic_now},
    report::Unseen,
    source::{Source, tally::node_kills},
};
use std::iter;

impl Core {
    /// Takes what inotify told: cgroups, and counts.
    pub(super) fn take_changes(&mut self) -> Vec<Event> {
        let Source::MemoryEvents(tally) = &mut self.source else { return Vec::new() };
        let changes = tally.changes();
        if changes.overflow {
            self.losses.cgroups_unseen();
        }
        for id in changes.counts {
            if let Some(path) = self.tree.path(id).cloned() {
                self.read_counts(&path);
            }
        }
        // What a directory was found to contain is mostly known by then.
        let mut cgroups = changes.cgroups;
        cgroups.retain(|event| match event {
            Event::CgroupMade(made) => made.id.is_none_or(|id| self.tree.path(id).is_none()),
            _ => true,
        });
        cgroups
    }

    /// From now on a cgroup's count is watched. Of one that was there before the agent,
    /// what it counted until now is not told.
    pub(super) fn count_cgroup(&mut self, id: CgroupId, path: &CgroupPath) {
        let Source::MemoryEvents(tally) = &mut self.source else { return };
        tally.made(id, path);
        if self.walked {
            self.read_counts(path);
        } else if let Some(counts) = tally.counts(path) {
            tally.deducer.begin(id, counts);
        }
    }

    pub(super) fn uncount_cgroup(&mut self, id: CgroupId) {
        if let (Source::MemoryEvents(tally), Some(path)) = (&mut self.source, self.tree.path(id)) {
            tally.removed(id, path);
        }
    }

    /// Reads what is counted of a cgroup, and of those above it, which say whose limit was
    /// hit.
    fn read_counts(&mut self, path: &CgroupPath) {
        let now = monotonic_now();
        for path in iter::once(path.clone()).chain(path.ancestors()) {
            let container = self.container_of(&path);
            let Source::MemoryEvents(tally) = &mut self.source else { return };
            let (Some(id), Some(counts)) = (tally.id(&path), tally.counts(&path)) else { continue };
            let oom_group = tally.oom_group(&container);
            let place = Place { id, path: &path, container: &container, oom_group };
            tally.deducer.read(place, counts, now);
        }
    }

    /// Tells the kills that are known well enough.
    pub(super) fn settle_deduced(&mut self, now: u64) {
        let Source::MemoryEvents(tally) = &self.source else { return };
        for container in tally.deducer.open().cloned().collect::<Vec<_>>() {
            self.read_counts(&container);
        }
        let Source::MemoryEvents(tally) = &mut self.source else { return };
        for kill in tally.settle(now) {
            self.report_kill(kill);
        }
    }

    /// The safety net: watches what could not be watched before, reads all counts, and
    /// compares their sum with what the node as a whole counted.
    pub(super) fn recount(&mut self) {
        if !matches!(self.source, Source::MemoryEvents(_)) {
            return;
        }
        for (id, path) in
            self.tree.living().map(|(id, path)| (id, path.clone())).collect::<Vec<_>>()
        {
            self.count_cgroup(id, &path);
        }
        let Source::MemoryEvents(tally) = &mut self.source else { return };
        let missed = node_kills().map_or(0, |total| tally.deducer.node(total));
        if missed > 0 {
            self.reporter.unseen(Unseen::Missed, None, missed);
        }
    }
}
