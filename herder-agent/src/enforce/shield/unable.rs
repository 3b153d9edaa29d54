//! An agent that cannot protect any init: what it says of those that are wanted.

use super::{Listener, Wanted};
use crate::kernel::probe::forks::{ForkEvent, ForkSource};
use herder_model::{cgroup::CgroupId, shield::Unprotected};
use std::collections::BTreeMap;

/// Why nothing can be protected.
pub(super) struct Unable {
    reason: Unprotected,
    /// Until it is reported, which is when a rule first asks for what it forbids.
    unreported: Option<String>,
}

impl Unable {
    pub(super) fn dry_run() -> Self {
        Unable { reason: Unprotected::DryRun, unreported: None }
    }

    pub(super) fn missing(why: String) -> Self {
        Unable { reason: Unprotected::Unavailable, unreported: Some(why) }
    }

    /// Why each wanted container's init is not protected.
    pub(super) fn states(
        &mut self,
        wanted: &Wanted,
        listener: &dyn Listener,
    ) -> BTreeMap<CgroupId, Option<Unprotected>> {
        if !wanted.containers.is_empty()
            && let Some(why) = self.unreported.take()
        {
            listener.unavailable(&why);
        }
        wanted.containers.keys().map(|id| (*id, Some(self.reason))).collect()
    }

    /// How many those are.
    pub(super) fn counts(&self, wanted: &Wanted) -> BTreeMap<Unprotected, usize> {
        BTreeMap::from([(self.reason, wanted.containers.len())])
    }
}

/// In place of the programs, where they cannot be had.
pub(super) struct NoForks;

impl ForkSource for NoForks {
    fn watch(&mut self, _: CgroupId) -> bool {
        false
    }

    fn forget(&mut self, _: CgroupId) {}

    fn take(&mut self) -> Option<ForkEvent> {
        None
    }

    fn new_losses(&mut self) -> u64 {
        0
    }
}
