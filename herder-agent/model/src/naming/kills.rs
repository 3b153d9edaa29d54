//! Attributes a kill to a container. For kills in cgroups of a pod that are not a container's,
//! the pod is the answer.

use super::{Named, Naming, elimination::Patience};
use crate::{
    cgroup::CgroupPath,
    owner::{ContainerNames, Owner, path::PodCgroup},
    pods::Pod,
};

impl Naming {
    /// The owner of a kill in a cgroup, if it is a pod's: a container, or the pod with
    /// no container for what is none, like the sandbox, in which gVisor and Kata run all
    /// of a pod.
    pub fn owner_of_kill(&self, path: &CgroupPath) -> Option<Owner> {
        let cgroup = self.parse(path)?;
        if let Some(Named { pod, name: Some(name) }) = self.named_cgroup(&cgroup) {
            return Some(Owner::Container(pod.names(name)));
        }
        let pod = self.pod_with(&cgroup);
        if pod.is_none() && self.pods.is_none() {
            return None;
        }
        let container = cgroup.container();
        let in_none = container.is_none_or(|container| self.is_sandbox(&cgroup, container.id));
        Some(match pod.filter(|_| in_none) {
            Some(pod) => Owner::Container(pod.names("")),
            None => {
                let container = cgroup.container_path(path);
                Owner::Unnamed { cgroup: container.unwrap_or_else(|| path.clone()) }
            }
        })
    }

    /// The same when it was waited for long enough: what is known of the pod and, if it
    /// can be only one, of the container; and whether that is all there is to know.
    pub fn owner_at_last(&self, path: &CgroupPath) -> Option<(ContainerNames, bool)> {
        let cgroup = self.parse(path)?;
        let pod = self.pod_with(&cgroup)?;
        let Some(container) = cgroup.container() else {
            return Some((pod.names(""), true));
        };
        let name = self.only_candidate(pod, &cgroup, container.id, Patience::Over);
        let is_known = name.is_some() || self.is_sandbox_at_last(pod, &cgroup, container.id);
        Some((pod.names(name.unwrap_or_default()), is_known))
    }

    /// The pod that a cgroup is of, as the API server or else the runtime knows it.
    pub fn pod_of(&self, path: &CgroupPath) -> Option<&Pod> {
        self.pod_with(&self.parse(path)?)
    }

    fn pod_with(&self, cgroup: &PodCgroup) -> Option<&Pod> {
        let resolved = self.pods.as_ref().and_then(|pods| pods.resolve(cgroup));
        resolved.map(|found| found.pod).or_else(|| self.learnt.pod(cgroup.pod_uid))
    }
}
