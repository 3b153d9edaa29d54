//! Whose cgroup is it: a container of a pod, or the host's own.

pub mod crun;
pub mod id;
pub mod kubelet;
pub mod path;

use crate::cgroup::CgroupPath;
use serde::Serialize;

/// Who a cgroup belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum Owner {
    /// A container of a pod whose names are known.
    Container(ContainerNames),
    /// A container of a pod whose names are not known yet. It has no series.
    Unnamed { cgroup: CgroupPath },
    /// A cgroup outside of pods, or of a pod that nothing is known about.
    Host { cgroup: CgroupPath },
}

impl Owner {
    /// As one text: `NAMESPACE/POD/CONTAINER`, without the container if that is not known, or
    /// the cgroup's path.
    pub fn label(&self) -> String {
        match self {
            Owner::Container(names) if names.container.is_empty() => {
                format!("{}/{}", names.namespace, names.pod)
            }
            Owner::Container(names) => {
                format!("{}/{}/{}", names.namespace, names.pod, names.container)
            }
            Owner::Unnamed { cgroup } | Owner::Host { cgroup } => cgroup.to_string(),
        }
    }
}

/// The names that Kubernetes has for a container; they are metric labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ContainerNames {
    pub namespace: String,
    pub pod: String,
    pub container: String,
}
