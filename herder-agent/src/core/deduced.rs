//! Kills without eBPF: what the kernel counts, read for each cgroup where it may have
//! changed, and told when what became of the container is known.

use super::Core;
use crate::kernel::{clock::monotonic_now, source::Source};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    clock::Monotonic,
    oom::{deduce::Place, event::Event},
};
use std::iter;

/// Cgroups that are counted again before anything else gets a turn; each takes some tens
/// of microseconds.
const RECOUNTED_AT_ONCE: usize = 8;

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
            self.read_count(path);
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
        for path in iter::once(path.clone()).chain(path.ancestors()) {
            self.read_count(&path);
        }
    }

    fn read_count(&mut self, path: &CgroupPath) {
        let container = self.container_of(path);
        let Source::MemoryEvents(tally) = &mut self.source else { return };
        let (Some(id), Some(counts)) = (tally.id(path), tally.counts(path)) else { return };
        let inside = |path: &CgroupPath| path.is_within(&container);
        let upwards = iter::once(path.clone()).chain(path.ancestors()).take_while(inside);
        let group = upwards.filter(|path| tally.oom_group(path)).last();
        let oom_group = group.as_ref().and_then(|path| Some((tally.id(path)?, path)));
        let place = Place { id, path, container: &container, oom_group };
        tally.deducer.read(place, counts, monotonic_now());
    }

    /// Tells the kills that are known well enough.
    pub(super) fn settle_deduced(&mut self, now: Monotonic) {
        let Source::MemoryEvents(tally) = &self.source else { return };
        for container in tally.deducer.open().cloned().collect::<Vec<_>>() {
            self.read_counts(&container);
        }
        let Source::MemoryEvents(tally) = &mut self.source else { return };
        for kill in tally.settle(now) {
            self.report_kill(kill);
        }
    }

    /// The safety net: what could not be watched before is watched, and all counts are
    /// read, some at a time ([`Self::recount_some`]).
    pub(super) fn recount(&mut self) {
        if matches!(self.source, Source::MemoryEvents(_)) {
            self.uncounted = self.tree.living().map(|(id, _)| id).collect();
        }
    }

    /// Counts some cgroups again: thousands at once would keep corrections waiting.
    pub(super) fn recount_some(&mut self) {
        for _ in 0..RECOUNTED_AT_ONCE {
            let Some(id) = self.uncounted.pop_front() else { return };
            if let Some(path) = self.tree.path(id).filter(|_| !self.tree.is_gone(id)).cloned() {
                self.count_cgroup(id, &path);
            }
        }
    }
}
