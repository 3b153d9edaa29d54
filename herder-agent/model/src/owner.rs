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

/// The names that Kubernetes has for a container; they are metric labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ContainerNames {
    pub namespace: String,
    pub pod: String,
    pub container: String,
}
