//! Which pod and container a cgroup path belongs to, from the path alone.
//!
//! The path is there before the API knows the container, and stays true while
//! the API is away, so this is the base of all attribution. It reads only the
//! layouts that the kubelet and the runtimes are known to make; a path that is
//! none of them is the host's. A wrong owner is worse than none. A cgroup is a pod's only where
//! the kubelet has its pods ([`KubeletRoots`]): elsewhere cgroups may have any name.
//!
//! The outermost pod counts: whatever a container makes inside its own cgroup,
//! a nested cluster included, belongs to that container.
//!
//! A sandbox's cgroup (the pause container) looks exactly like a container's.
//! Only the pod's status or the runtime's bundle distinguishes the two.

use super::{
    id::{ContainerId, PodUid},
    kubelet::KubeletRoots,
};
use crate::cgroup::CgroupPath;
use serde::Serialize;

/// A cgroup at or below that of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodCgroup {
    pub pod_uid: PodUid,
    /// Its quality-of-service class, which decides its place in the tree.
    pub qos: QosClass,
    /// Who names the cgroups.
    pub driver: Driver,
    pub part: Part,
}

/// A pod's quality-of-service class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum QosClass {
    /// Directly below `kubepods`.
    Guaranteed,
    /// Below `burstable`.
    Burstable,
    /// Below `besteffort`.
    BestEffort,
}

/// The kubelet's `cgroupDriver`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Driver {
    /// Slices and scopes, made through systemd.
    Systemd,
    /// Plain directories.
    Cgroupfs,
}

/// What a cgroup is within its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The pod's own cgroup, the parent of its containers.
    Pod,
    /// A container, or the sandbox: the path does not show which.
    Container(ContainerCgroup),
    /// CRI-O's monitor process of a container, outside of the container.
    Monitor(ContainerId),
    /// Something else below the pod, such as a virtual machine's cgroup.
    Other,
}

/// A cgroup at or below that of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerCgroup {
    pub id: ContainerId,
    pub runtime: Runtime,
    pub place: Place,
}

/// A container runtime, as far as the name of a cgroup shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// `cri-containerd-<id>.scope`.
    Containerd,
    /// `crio-<id>`, with or without `.scope`.
    CriO,
    /// `docker-<id>.scope` (cri-dockerd).
    Docker,
    /// `<id>` alone: containerd or cri-dockerd with the cgroupfs driver.
    Unnamed,
}

/// Where in a container a cgroup lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The cgroup that the runtime asked for.
    Top,
    /// The child `container` of a scope, where crun puts the processes and the
    /// limits (`run.oci.systemd.subgroup`, libcrun/cgroup-systemd.c, crun 1.x).
    Payload,
    /// A cgroup that the container itself made, so many levels below `Top`.
    Below(usize),
}

/// The component before the pod, in either driver.
const ROOT: &str = "kubepods";

impl PodCgroup {
    /// The pod and part that a path belongs to, where kubelets are known to have their
    /// pods.
    pub fn parse(path: &CgroupPath) -> Option<Self> {
        Self::below(&KubeletRoots::WellKnown, path)
    }

    /// The pod and part that a path belongs to; none for the host's cgroups,
    /// to which the common parents of the pods belong.
    pub fn below(roots: &KubeletRoots, path: &CgroupPath) -> Option<Self> {
        let components: Vec<&str> = path.as_str().split('/').skip(1).collect();
        let (at, driver, (pod_uid, qos)) =
            components.iter().enumerate().find_map(|(at, name)| {
                let above = components.get(..at)?;
                let (driver, pod) = systemd_pod(above, name)
                    .map(|pod| (Driver::Systemd, pod))
                    .or_else(|| cgroupfs_pod(above, name).map(|pod| (Driver::Cgroupfs, pod)))?;
                let root = match pod.1 {
                    QosClass::Guaranteed => above,
                    QosClass::Burstable | QosClass::BestEffort => above.split_last()?.1,
                };
                roots.has(root).then_some((at, driver, pod))
            })?;
        let part = match components.get(at + 1..)? {
            [] => Part::Pod,
            [name, below @ ..] => part_of_pod(driver, name, below),
        };
        Some(PodCgroup { pod_uid, qos, driver, part })
    }

    /// The container's own cgroup, if this is what was read from `path`.
    pub fn container_path(&self, path: &CgroupPath) -> Option<CgroupPath> {
        let levels = match self.container()?.place {
            Place::Top => 0,
            Place::Payload => 1,
            Place::Below(levels) => levels,
        };
        std::iter::successors(Some(path.clone()), CgroupPath::parent).nth(levels)
    }

    /// The pod's own cgroup, if what was read from `path` is that, or a container's.
    pub fn pod_path(&self, path: &CgroupPath) -> Option<CgroupPath> {
        match self.part {
            Part::Pod => Some(path.clone()),
            Part::Container(ContainerCgroup { place: Place::Top, .. }) => path.parent(),
            Part::Container(_) | Part::Monitor(_) | Part::Other => None,
        }
    }

    /// The container, if the cgroup is at or below one.
    pub fn container(&self) -> Option<&ContainerCgroup> {
        match &self.part {
            Part::Container(container) => Some(container),
            Part::Pod | Part::Monitor(_) | Part::Other => None,
        }
    }
}

/// `<prefix>kubepods[-<qos>]-pod<uid>.slice`, with every slice of that name
/// above it (`ToSystemd()`, pkg/kubelet/cm/cgroup_manager_linux.go). The prefix
/// is that of `--cgroup-root`: `kubelet-` in kind.
fn systemd_pod(above: &[&str], name: &str) -> Option<(PodUid, QosClass)> {
    let (parent, uid) = name.strip_suffix(".slice")?.rsplit_once("-pod")?;
    let pod_uid = PodUid::parse_systemd(uid)?;
    let (root, qos) = match parent.rsplit_once('-') {
        Some((root, "burstable")) => (root, QosClass::Burstable),
        Some((root, "besteffort")) => (root, QosClass::BestEffort),
        _ => (parent, QosClass::Guaranteed),
    };
    let is_root =
        root == ROOT || root.strip_suffix(ROOT).is_some_and(|prefix| prefix.ends_with('-'));
    (is_root && slices_lead_to(above, parent)).then_some((pod_uid, qos))
}

/// Whether the path ends in the slice of this name and those that systemd puts
/// it into: `a-b` lies in `a.slice/a-b.slice` (systemd.slice(5)).
fn slices_lead_to(above: &[&str], slice: &str) -> bool {
    let mut components = above.iter().rev();
    let mut slice = slice;
    loop {
        let named =
            components.next().and_then(|component| component.strip_suffix(".slice")) == Some(slice);
        if !named {
            return false;
        }
        match slice.rsplit_once('-') {
            Some((parent, _)) => slice = parent,
            None => return true,
        }
    }
}

/// `kubepods[/<qos>]/pod<uid>`.
fn cgroupfs_pod(above: &[&str], name: &str) -> Option<(PodUid, QosClass)> {
    let pod_uid = PodUid::parse_any(name.strip_prefix("pod")?)?;
    let qos = match above {
        [.., root, "burstable"] if *root == ROOT => QosClass::Burstable,
        [.., root, "besteffort"] if *root == ROOT => QosClass::BestEffort,
        [.., root] if *root == ROOT => QosClass::Guaranteed,
        _ => return None,
    };
    Some((pod_uid, qos))
}

fn part_of_pod(driver: Driver, name: &str, below: &[&str]) -> Part {
    let name = match driver {
        Driver::Systemd => match name.strip_suffix(".scope") {
            Some(name) => name,
            None => return Part::Other,
        },
        Driver::Cgroupfs => name,
    };
    if let Some(id) = name.strip_prefix("crio-conmon-").and_then(ContainerId::parse) {
        return Part::Monitor(id);
    }
    let Some((runtime, id)) = container(driver, name) else {
        return Part::Other;
    };
    let place = match below {
        [] => Place::Top,
        ["container"] if driver == Driver::Systemd => Place::Payload,
        _ => Place::Below(below.len()),
    };
    Part::Container(ContainerCgroup { id, runtime, place })
}

/// A container's cgroup name without `.scope`: `getCgroupsPath()` of containerd
/// (pkg/cri), `ContainerCgroupPath()` of CRI-O (internal/config/cgmgr), and
/// Docker's own for cri-dockerd.
fn container(driver: Driver, name: &str) -> Option<(Runtime, ContainerId)> {
    let prefixes: &[(&str, Runtime)] = match driver {
        Driver::Systemd => &[
            ("cri-containerd-", Runtime::Containerd),
            ("crio-", Runtime::CriO),
            ("docker-", Runtime::Docker),
        ],
        Driver::Cgroupfs => &[("crio-", Runtime::CriO), ("", Runtime::Unnamed)],
    };
    prefixes.iter().find_map(|(prefix, runtime)| {
        let id = ContainerId::parse(name.strip_prefix(prefix)?)?;
        Some((*runtime, id))
    })
}

#[cfg(test)]
mod tests;
