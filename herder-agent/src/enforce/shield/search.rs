//! Finds whose container a process is in, and which of its processes is the init.
//!
//! An agent in a pod cannot ask the cgroups: `cgroup.procs` gives 0 for processes of other pid
//! namespaces. So all of the node's processes are looked at.

use super::{Protect, paths::Paths};
use crate::kernel::host_proc::{HostProc, HostProcess, Lineage, ProcessError};
use herder_model::cgroup::{CgroupId, CgroupPath};
use std::collections::HashMap;

/// The cgroup of a process.
pub(super) fn cgroup(process: &HostProcess, paths: &Paths) -> Option<CgroupPath> {
    paths.resolve(&process.cgroup().ok()??)
}

/// The nearest of these containers that a cgroup is, or is in.
pub(super) fn container_of(
    path: &CgroupPath,
    containers: &HashMap<CgroupPath, CgroupId>,
) -> Option<CgroupId> {
    path.upwards().find_map(|path| containers.get(&path).copied())
}

/// What may be the init of one container. It holds one process, so that many containers that are
/// looked for at once take no more descriptors than their inits will.
#[derive(Default)]
pub(super) struct Candidates {
    /// What the runtime has reported, or else the first.
    process: Option<HostProcess>,
    is_reported: bool,
    count: usize,
    /// Of some process it could not be read whether it is one.
    is_doubtful: bool,
}

impl Candidates {
    /// Takes a process of the container.
    pub(super) fn consider(
        &mut self,
        process: HostProcess,
        protect: &Protect,
        processes: &HostProc,
        paths: &Paths,
    ) {
        if self.is_reported {
            return;
        }
        if protect.init == Some(process.pid()) {
            (self.process, self.is_reported) = (Some(process), true);
            return;
        }
        match is_init(&process, &protect.path, processes, paths) {
            Ok(false) => {}
            Ok(true) => {
                self.count += 1;
                self.process = Some(process);
            }
            Err(_) => self.is_doubtful = true,
        }
    }

    /// The runtime knows it; else it is the only one that it can be. That is certain only if all of
    /// the node's processes were read: the init may be the one that could not be.
    pub(super) fn certain(self, all_read: bool) -> Option<HostProcess> {
        let is_only = all_read && !self.is_doubtful && self.count == 1;
        self.process.filter(|_| self.is_reported || is_only)
    }
}

/// Process 1 of a pid namespace whose parent is outside of the container, as
/// `herder_model::oom::classify` has it. A process that has ended meanwhile is none. If its parent
/// alone has ended, it has another by now, of which nothing is known.
fn is_init(
    process: &HostProcess,
    container: &CgroupPath,
    processes: &HostProc,
    paths: &Paths,
) -> Result<bool, ProcessError> {
    let lineage = match process.lineage() {
        Ok(lineage) => lineage.filter(Lineage::is_first),
        Err(ProcessError::Gone) => None,
        Err(error) => return Err(error),
    };
    // The node's own first process has no parent.
    let Some(lineage) = lineage.filter(|lineage| lineage.parent != 0) else { return Ok(false) };
    let parent = processes.process(lineage.parent)?.cgroup()?;
    let parent = parent.and_then(|text| paths.resolve(&text)).ok_or(ProcessError::Gone)?;
    Ok(!parent.is_within(container))
}
