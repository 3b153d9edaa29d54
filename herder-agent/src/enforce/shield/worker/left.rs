//! What an earlier agent left exempt: taken over, so that it is kept, or restored.

use super::{
    super::{Protect, init::Init},
    Worker,
};
use crate::kernel::{
    host_proc::{HostProcess, ProcessError},
    probe::forks::ForkSource,
};
use herder_model::{
    cgroup::CgroupId,
    shield::{EXEMPT, SavedInit, SavedInits},
};

impl<F: ForkSource> Worker<F> {
    /// Takes what an earlier agent left. What is not exempt any more stays as it is. What cannot be
    /// read stays to be saved, and is tried again.
    pub(in super::super) fn inherit(&mut self, left: SavedInits) {
        self.found.inits.clone_from(&left);
        for (id, saved) in left {
            if let Err(error) = self.take_over(id, &saved) {
                let (cgroup, pid) = (saved.path.to_string(), saved.pid);
                tracing::error!(cgroup, pid, %error, "Cannot read oom_score_adj of an init that an earlier agent exempted from OOM kills.");
                self.left.insert(id, saved);
            }
        }
        self.start_walk(false);
    }

    /// Tries again what could not be read.
    pub(super) fn inherit_again(&mut self) {
        if self.left.is_empty() {
            return;
        }
        for (id, saved) in std::mem::take(&mut self.left) {
            if self.take_over(id, &saved).is_err() {
                self.left.insert(id, saved);
            }
        }
        // Some of them may not be wanted.
        self.release_unwanted();
        self.start_walk(false);
    }

    fn take_over(&mut self, id: CgroupId, saved: &SavedInit) -> Result<(), ProcessError> {
        let Some(process) = self.still_exempt(saved)? else { return Ok(()) };
        let unknown = || Protect { path: saved.path.clone(), rule: "unknown".into(), init: None };
        let protect = self.inits.remove(&id).map_or_else(unknown, |init| init.protect);
        let init = Init::inherited(protect, process, saved.score);
        self.tools.forks.watch(id);
        self.inits.insert(id, init);
        self.surround(id);
        // Whatever it started while no agent ran.
        self.to_sweep.insert(id);
        Ok(())
    }

    /// The process, if it is the one that was saved and is still exempt.
    fn still_exempt(&self, saved: &SavedInit) -> Result<Option<HostProcess>, ProcessError> {
        let read = || {
            let process = self.tools.processes.process(saved.pid)?;
            let is_exempt = process.start() == saved.start && process.score()? == EXEMPT;
            Ok(is_exempt.then_some(process))
        };
        match read() {
            Err(ProcessError::Gone) => Ok(None),
            read => read,
        }
    }
}
