//! Where forks are reported: the programs, or what a test has in their place.

use crate::kernel::probe::forks::{ForkEvent, Forks};
use herder_model::cgroup::CgroupId;

/// Reports what is forked exempt in containers that are watched.
pub(super) trait ForkSource {
    fn watch(&mut self, container: CgroupId) -> bool;
    fn forget(&mut self, container: CgroupId);
    fn take(&mut self) -> Option<ForkEvent>;
    fn new_losses(&mut self) -> u64;
}

impl ForkSource for Forks {
    fn watch(&mut self, container: CgroupId) -> bool {
        Forks::watch(self, container)
    }

    fn forget(&mut self, container: CgroupId) {
        Forks::forget(self, container);
    }

    fn take(&mut self) -> Option<ForkEvent> {
        Forks::take(self)
    }

    fn new_losses(&mut self) -> u64 {
        Forks::new_losses(self)
    }
}

/// Where the programs cannot be had, and nothing is exempted.
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
