//! Finds whose container a process is in, and which of its processes is the init.
//!
//! An agent in a pod cannot ask the cgroups: `cgroup.procs` gives 0 for processes of other pid
//! namespaces. So all of the node's processes are looked at.

use super::{Protect, paths::Paths};
use crate::kernel::host_proc::{HostProc, HostProcess, Lineage};
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
    let of = |path: &CgroupPath| containers.get(path).copied();
    of(path).or_else(|| path.ancestors().find_map(|above| of(&above)))
}

/// What may be the init of one container. It holds one process, so that many containers that are
/// looked for at once take no more descriptors than their inits will.
#[derive(Default)]
pub(super) struct Candidates {
    /// What the runtime has reported, or else the first.
    process: Option<HostProcess>,
    is_reported: bool,
    count: usize,
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
        } else if is_init(&process, &protect.path, processes, paths) {
            self.count += 1;
            self.process = Some(process);
        }
    }

    /// The runtime knows it; else it is the only one that it can be.
    pub(super) fn certain(self) -> Option<HostProcess> {
        self.process.filter(|_| self.is_reported || self.count == 1)
    }
}

/// Process 1 of a pid namespace whose parent is outside of the container, as
/// `herder_model::oom::classify` has it.
fn is_init(
    process: &HostProcess,
    container: &CgroupPath,
    processes: &HostProc,
    paths: &Paths,
) -> bool {
    let Some(lineage) = process.lineage().filter(Lineage::is_first) else {
        return false;
    };
    let parent = processes.process(lineage.parent).ok();
    let parent = parent.and_then(|parent| cgroup(&parent, paths));
    parent.is_some_and(|parent| !parent.is_within(container))
}
