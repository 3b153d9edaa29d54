//! Whose the cgroups are that lead to a pod's.
//!
//! Where one of them belongs to another user than root, that user may put in it what he
//! likes, by the names of any pod. A container's own cgroup may be another user's: the
//! runtime gives it to the root of the container's user namespace.

use super::Core;
use herder_model::cgroup::{CgroupId, CgroupPath};
use std::{fs, iter, os::unix::fs::MetadataExt};

impl Core {
    /// Takes a cgroup that was found. What leads to a pod is looked at with the pod and
    /// again with each of its containers: a service manager gives a cgroup away right after
    /// it has made it.
    pub(super) fn take_owners(&mut self, id: CgroupId, path: &CgroupPath) {
        if let Some(pod) = self.naming.pod_path(path) {
            let upwards: Vec<_> = iter::once(pod.clone()).chain(pod.ancestors()).collect();
            // The mount's own root is whose the node is.
            let down = upwards.into_iter().rev().skip(1);
            let mut owners = down.filter_map(|path| Some((self.owner_uid(&path)?, path)));
            let other = owners.find(|(uid, _)| *uid != 0);
            if self.naming.belongs_to(&pod, other.as_ref().map(|(_, path)| path.clone()))
                && let Some((uid, path)) = other
            {
                tracing::warn!(cgroup = %path, uid, "What is below this cgroup is not taken for the kubelet's: it belongs to another user than root.");
            }
        }
        self.naming.made(id, path);
    }

    fn owner_uid(&self, path: &CgroupPath) -> Option<u32> {
        Some(fs::metadata(self.root.join(path.relative())).ok()?.uid())
    }
}
