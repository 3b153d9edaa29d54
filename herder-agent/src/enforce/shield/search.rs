//! Finds the processes of containers, and which of them is the init.
//!
//! An agent in a pod cannot ask the cgroups: `cgroup.procs` gives 0 for processes of other pid
//! namespaces. So all of the node's processes are looked at.

use super::{Protect, paths::Paths};
use crate::kernel::host_proc::{HostProc, HostProcess, Lineage};
use herder_model::cgroup::{CgroupId, CgroupPath};
use std::collections::HashMap;

/// Calls this for each process that is in one of these containers, or below it, with its cgroup.
pub(super) fn each(
    processes: &HostProc,
    paths: &Paths,
    containers: &HashMap<&CgroupPath, CgroupId>,
    mut take: impl FnMut(CgroupId, HostProcess, CgroupPath),
) {
    let pids = match processes.pids() {
        Ok(pids) => pids,
        Err(error) => return tracing::warn!(%error, "Cannot list the node's processes."),
    };
    for pid in pids {
        // What has ended meanwhile is of no interest.
        let Ok(process) = processes.process(pid) else { continue };
        let Some(path) = cgroup(&process, paths) else { continue };
        if let Some(container) = container_of(&path, containers) {
            take(container, process, path);
        }
    }
}

/// The cgroup of a process.
pub(super) fn cgroup(process: &HostProcess, paths: &Paths) -> Option<CgroupPath> {
    paths.resolve(&process.cgroup()?)
}

fn container_of(
    path: &CgroupPath,
    containers: &HashMap<&CgroupPath, CgroupId>,
) -> Option<CgroupId> {
    let of = |path: &CgroupPath| containers.get(path).copied();
    of(path).or_else(|| path.ancestors().find_map(|above| of(&above)))
}

/// The inits of these containers, those that are certain.
pub(super) fn inits(
    processes: &HostProc,
    paths: &Paths,
    wanted: &HashMap<CgroupId, &Protect>,
) -> HashMap<CgroupId, HostProcess> {
    let containers = wanted.iter().map(|(id, protect)| (&protect.path, *id)).collect();
    let mut found: HashMap<CgroupId, Candidates> = HashMap::new();
    each(processes, paths, &containers, |id, process, _| {
        let Some(protect) = wanted.get(&id) else { return };
        let candidates = found.entry(id).or_default();
        if protect.init == Some(process.pid()) {
            candidates.reported = Some(process);
        } else if is_init(&process, &protect.path, processes, paths) {
            candidates.count += 1;
            candidates.first = Some(process);
        }
    });
    found.into_iter().filter_map(|(id, candidates)| Some((id, candidates.certain()?))).collect()
}

/// What may be the init of one container.
#[derive(Default)]
struct Candidates {
    /// What the runtime has reported.
    reported: Option<HostProcess>,
    first: Option<HostProcess>,
    count: usize,
}

impl Candidates {
    /// The runtime knows it; else it is the only one that it can be.
    fn certain(self) -> Option<HostProcess> {
        let only = self.first.filter(|_| self.count == 1);
        self.reported.or(only)
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
