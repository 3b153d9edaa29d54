//! How much of the hierarchy is kept.

use super::{CgroupId, CgroupPath, KEEP_REMOVED};
use crate::clock::Monotonic;
use std::collections::{HashMap, VecDeque};

/// Many times what a kubelet starts on a node, with the cgroups of pods and those above.
pub(super) const CONTAINERS: Bounds = Bounds { cgroups: 8192, bytes: 2 << 20 };

/// Many times what systemd makes on a node, and containers for themselves.
pub(super) const OTHERS: Bounds = Bounds { cgroups: 8192, bytes: 1 << 20 };

/// Most removed cgroups of one kind that are kept, so that pod churn cannot fill the memory.
pub(super) const MOST_REMOVED: usize = 4096;

/// Cgroups of which only those above them are kept, the last ones in which something was
/// killed.
const MOST_BELOW: usize = 4096;

#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) cgroups: usize,
    /// Of their paths.
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) struct Share {
    bounds: Bounds,
    cgroups: usize,
    bytes: usize,
    /// Removed ones and when that was, oldest first.
    pub(super) removed: VecDeque<(CgroupId, Monotonic)>,
    refused: u64,
    /// Those that the walk has found which goes on.
    found: Option<u64>,
}

impl Share {
    pub(super) fn new(bounds: Bounds) -> Self {
        let removed = VecDeque::new();
        Share { bounds, cgroups: 0, bytes: 0, removed, refused: 0, found: None }
    }

    pub(super) fn has_room(&self, path: &CgroupPath) -> bool {
        self.cgroups < self.bounds.cgroups && self.bytes + path.as_str().len() <= self.bounds.bytes
    }

    pub(super) fn take(&mut self, path: &CgroupPath) {
        self.cgroups += 1;
        self.bytes += path.as_str().len();
    }

    pub(super) fn give(&mut self, path: &CgroupPath) {
        self.cgroups -= 1;
        self.bytes -= path.as_str().len();
    }

    /// A removed one that is not to be kept any longer.
    pub(super) fn next_forgotten(&mut self, now: Monotonic) -> Option<(CgroupId, Monotonic)> {
        let too_many = self.removed.len() > MOST_REMOVED;
        let is_old = |(_, at): &mut (_, Monotonic)| now >= *at + KEEP_REMOVED;
        self.removed.pop_front_if(|removed| too_many || is_old(removed))
    }

    pub(super) fn refuse(&mut self, cgroups: u64) {
        self.refused += cgroups;
        self.found = self.found.map(|found| found + cgroups);
    }

    /// One that is not kept was removed.
    pub(super) fn refused_one_less(&mut self) {
        self.refused = self.refused.saturating_sub(1);
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    pub(super) fn begin_walk(&mut self) {
        self.found = Some(0);
    }

    pub(super) fn end_walk(&mut self) {
        self.refused = self.found.take().unwrap_or(0);
    }
}

/// Cgroups that are not kept, by the nearest one above them that is.
#[derive(Debug, Default)]
pub(super) struct Below {
    nearest: HashMap<CgroupId, CgroupId>,
    order: VecDeque<CgroupId>,
}

impl Below {
    pub(super) fn nearest(&self, id: CgroupId) -> Option<CgroupId> {
        self.nearest.get(&id).copied()
    }

    pub(super) fn insert(&mut self, id: CgroupId, nearest: CgroupId) {
        if self.nearest.insert(id, nearest).is_none() {
            self.order.push_back(id);
        }
        if let Some(oldest) = self.order.pop_front_if(|_| self.nearest.len() > MOST_BELOW) {
            self.nearest.remove(&oldest);
        }
    }
}
