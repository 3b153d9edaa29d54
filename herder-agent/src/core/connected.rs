//! Which pod a client of the port for pods is, by the address that it connects from.

use super::Core;
use herder_model::{
    cgroup::CgroupId, naming::connected::Claim, owner::id::PodUid, pods::addresses::SelfRefused,
};
use std::net::IpAddr;

impl Core {
    /// The uid that the cgroups of the pod at an address carry, if it is certain that the address
    /// is that pod's at this moment: a container of the status that has the address still runs.
    pub(super) fn pod_at(&self, address: IpAddr) -> Result<PodUid, SelfRefused> {
        let claim = self.subjects.naming.claim(address)?;
        let runs = |id: &CgroupId| self.is_running(&claim, *id);
        if claim.containers.iter().any(runs) {
            Ok(claim.uid())
        } else {
            Err(SelfRefused::NotRunning)
        }
    }

    /// What the files say counts, since the kernel's events may not be read yet.
    fn is_running(&self, claim: &Claim<'_>, id: CgroupId) -> bool {
        let Some(path) = self.cgroups.tree.path(id) else { return false };
        self.subjects.naming.is_claimants(claim, path)
            && self.files.id(path) == Some(id)
            && self.files.is_populated(path) == Some(true)
    }
}
