//! Which pod a connection comes from.
//!
//! What the API server says of addresses is old when it is read: a pod may have ended, and its address
//! may be another pod's, whose status is not published yet. So a claim comes with the cgroups of the
//! containers that the same status names. As long as one of those runs, so does the sandbox that
//! it shares the network with, and no other pod can have the address: the kubelet stops all containers before it
//! tears the network down.

use super::{Naming, siblings::Siblings};
use crate::{
    cgroup::{CgroupId, CgroupPath},
    owner::{id::PodUid, path::PodCgroup},
    pods::{Pod, addresses::SelfRefused},
};
use core::net::IpAddr;

/// A pod that claims an address, and what shows that it still has it.
#[derive(Debug)]
pub struct Claim<'a> {
    pod: &'a Pod,
    /// The cgroups of the containers that its status names. One of them has to have a process.
    pub containers: Vec<CgroupId>,
}

impl Claim<'_> {
    /// The uid that the pod's cgroups carry, and so its kills.
    pub fn uid(&self) -> PodUid {
        self.pod.cgroup_uid()
    }
}

impl Naming {
    /// The one pod that claims an address, which is not the node's own.
    pub fn claim(&self, address: IpAddr) -> Result<Claim<'_>, SelfRefused> {
        let pods = self.pods.as_ref().filter(|pods| pods.synced());
        let pods = pods.ok_or(SelfRefused::PodsUnknown)?;
        if pods.at(address).any(|pod| pod.addresses.are_nodes) {
            return Err(SelfRefused::HostNetwork);
        }
        let mut claimants = pods.at(address);
        let pod = match (claimants.next(), claimants.next()) {
            (None, _) => return Err(SelfRefused::UnknownAddress),
            (Some(_), Some(_)) => return Err(SelfRefused::Ambiguous),
            (Some(pod), None) => pod,
        };
        // The newest incarnations only: those before have ended, whatever else is known of them.
        let is_newest = |id| pod.containers.iter().any(|container| container.id == Some(id));
        let siblings = self.cgroups.get(&pod.cgroup_uid());
        let outermost = siblings.into_iter().flat_map(Siblings::outermost_living);
        let containers =
            outermost.filter(|(_, id)| is_newest(*id)).map(|(cgroup, _)| cgroup).collect();
        Ok(Claim { pod, containers })
    }

    /// Whether a cgroup is of the pod that claims an address, by all that is known of the cgroup now.
    pub fn is_claimants(&self, claim: &Claim<'_>, path: &CgroupPath) -> bool {
        let cgroup: Option<PodCgroup> = self.parse(path);
        let resolved = cgroup.and_then(|cgroup| self.pods.as_ref()?.resolve(&cgroup));
        resolved.is_some_and(|resolved| resolved.pod.uid == claim.pod.uid)
    }
}

#[cfg(test)]
mod tests;
