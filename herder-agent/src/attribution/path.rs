//! Which pod and container a cgroup path stands for. Pure, and strict: a path
//! that is not exactly of a known form belongs to the host, never to a guess.
//!
//! The forms are made by the kubelet (`pkg/kubelet/cm/cgroup_manager_linux.go`,
//! `pod_container_manager_linux.go`, Kubernetes 1.28 to 1.36) for the pod, and by
//! the runtime for the container below it:
//!
//! | driver | pod | container |
//! |---|---|---|
//! | systemd | `[PREFIX-]kubepods[-QOS]-podUID.slice` | `cri-containerd-ID.scope`, `crio-ID.scope`, `docker-ID.scope` |
//! | cgroupfs | `kubepods/[QOS/]podUID` | `ID`, `crio-ID` |
//!
//! A pod's sandbox (the pause container) has the same form as a container; only
//! its names tell the two apart.

use crate::cgroup::CgroupPath;

/// A pod's quality of service, as the path shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QosClass {
    /// Requests are limits.
    Guaranteed,
    /// Some requests.
    Burstable,
    /// Nothing is asked for.
    BestEffort,
}

/// Who made the container's cgroup, as the path shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// containerd, with the systemd driver.
    Containerd,
    /// CRI-O.
    Crio,
    /// Docker, through cri-dockerd, with the systemd driver.
    Docker,
    /// containerd or Docker: with the cgroupfs driver the name is only the ID.
    Unknown,
}

/// A cgroup of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCgroup {
    /// The pod's UID in its usual form, or the config hash of a static pod.
    pub uid: String,
    /// Its quality of service.
    pub qos: QosClass,
    /// The container, unless it is the pod's own cgroup or a monitor's.
    pub container: Option<ContainerCgroup>,
}

/// A cgroup of a container, or of a pod's sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerCgroup {
    /// The container ID: 64 hexadecimal digits.
    pub id: String,
    /// Who made it.
    pub runtime: Runtime,
    /// The container's outermost cgroup; the path itself may lie below.
    pub path: CgroupPath,
}

impl PodCgroup {
    /// Reads a path; `None` for a cgroup of the host.
    pub fn of(path: &CgroupPath) -> Option<Self> {
        let names: Vec<&str> = path.as_str().split('/').skip(1).collect();
        // The innermost pod counts: a node that is a container (kind) has the
        // cgroups of its own pods below that of the outer pod.
        let (at, uid, qos, driver) = (0..names.len()).rev().find_map(|at| {
            let (above, name) = (names.get(..at)?, names.get(at)?);
            let found = systemd_pod(name, above).map(|(uid, qos)| (uid, qos, Driver::Systemd));
            let (uid, qos, driver) = found.or_else(|| {
                cgroupfs_pod(name, above).map(|(uid, qos)| (uid, qos, Driver::Cgroupfs))
            })?;
            Some((at, uid, qos, driver))
        })?;
        let container = names.get(at + 1).and_then(|name| {
            let (runtime, id) = container(name, driver)?;
            let path =
                CgroupPath::parse(format!("/{}", names.get(..=at + 1)?.join("/")).as_bytes());
            Some(ContainerCgroup { id: id.to_owned(), runtime, path: path.ok()? })
        });
        Some(PodCgroup { uid, qos, container })
    }
}

#[derive(Clone, Copy)]
enum Driver {
    Systemd,
    Cgroupfs,
}

/// `[PREFIX-]kubepods[-QOS]-podUID.slice`. A slice's name repeats its parents'
/// (systemd.slice(5)), and that is checked.
fn systemd_pod(name: &str, above: &[&str]) -> Option<(String, QosClass)> {
    let (parent, uid) = name.strip_suffix(".slice")?.rsplit_once("-pod")?;
    let (base, qos) = match parent {
        parent if parent.ends_with("-burstable") => {
            (parent.strip_suffix("-burstable")?, QosClass::Burstable)
        }
        parent if parent.ends_with("-besteffort") => {
            (parent.strip_suffix("-besteffort")?, QosClass::BestEffort)
        }
        parent => (parent, QosClass::Guaranteed),
    };
    let slice = |name: &str| format!("{name}.slice");
    let kubepods = base == "kubepods" || base.ends_with("-kubepods");
    let mut parents = above.iter().rev();
    let nested = parents.next() == Some(&slice(parent).as_str())
        && (parent == base || parents.next() == Some(&slice(base).as_str()));
    (kubepods && nested).then_some(())?;
    Some((pod_uid(uid, '_')?, qos))
}

/// `kubepods/[QOS/]podUID`.
fn cgroupfs_pod(name: &str, above: &[&str]) -> Option<(String, QosClass)> {
    let uid = name.strip_prefix("pod")?;
    let qos = match above {
        [.., "kubepods"] => QosClass::Guaranteed,
        [.., "kubepods", "burstable"] => QosClass::Burstable,
        [.., "kubepods", "besteffort"] => QosClass::BestEffort,
        _ => return None,
    };
    Some((pod_uid(uid, '-')?, qos))
}

/// A UUID, or the 32 digits of a static pod's config hash.
fn pod_uid(text: &str, separator: char) -> Option<String> {
    let hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() == 32 && hex(text) {
        return Some(text.to_owned());
    }
    let parts: Vec<&str> = text.split(separator).collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let uuid = lengths == [8, 4, 4, 4, 12] && parts.iter().all(|part| hex(part));
    uuid.then(|| parts.join("-"))
}

fn container(name: &str, driver: Driver) -> Option<(Runtime, &str)> {
    let (runtime, id) = match driver {
        Driver::Systemd => {
            let (runtime, id) = name.strip_suffix(".scope")?.rsplit_once('-')?;
            match runtime {
                "cri-containerd" => (Runtime::Containerd, id),
                "crio" => (Runtime::Crio, id),
                "docker" => (Runtime::Docker, id),
                // `crio-conmon`: the monitor, which is outside of the container.
                _ => return None,
            }
        }
        Driver::Cgroupfs => match name.strip_prefix("crio-") {
            Some(id) => (Runtime::Crio, id),
            None => (Runtime::Unknown, name),
        },
    };
    let hex = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (id.len() == 64 && hex).then_some((runtime, id))
}

#[cfg(test)]
mod tests;
