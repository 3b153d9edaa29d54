//! What the rules want for a container in a request of the runtime, and the answer
//! that sets it. Pure.

use super::wire::{
    Container, ContainerAdjustment, ContainerUpdate, LinuxContainerAdjustment,
    LinuxContainerUpdate, LinuxResources, PodSandbox,
};
use herder_model::{
    cgroup::{CgroupPath, OOM_GROUP},
    naming::runtime::RuntimeContainer,
    owner::id::{ContainerId, PodUid},
    pods::{OOM_ESCALATE_ANNOTATION, OOM_GROUP_ANNOTATION, Pod, bounded, shortened},
    rules::matching::{PodSubject, Policy, Subject, SubjectPod, Target, Verdict},
};
use std::sync::Arc;

/// Why it cannot be said what the rules want. Rules about cgroups come before those about pods, so
/// the cgroup has to be known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdjustError {
    #[error("{0:?} is not a cgroup path in either driver's form")]
    CgroupsPath(String),
}

/// What is wanted of a container, beside what it would get without us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The rule and its value.
    pub target: Target,
    /// The value that the request has, if any: NRI before 0.10 does not send the spec's value
    /// at a creation, only what an earlier plugin has set.
    pub found: Option<bool>,
}

impl Wish {
    /// Whether nothing is to be done. A value that is right is left to the plugin that set it,
    /// since NRI lets only one plugin set it.
    pub fn is_fulfilled(&self) -> bool {
        self.found == Some(self.target.value)
    }

    /// What its spec is to get.
    pub fn adjustment(&self) -> ContainerAdjustment {
        let resources = Some(resources(self.target.value));
        ContainerAdjustment { linux: Some(LinuxContainerAdjustment { resources }) }
    }

    /// What it is to be given while it is there. If another plugin wants something
    /// else, or the runtime cannot do it, that is no reason to refuse the rest.
    pub fn update(&self, container_id: &str) -> ContainerUpdate {
        ContainerUpdate {
            container_id: container_id.to_owned(),
            linux: Some(LinuxContainerUpdate { resources: Some(resources(self.target.value)) }),
            ignore_failure: true,
        }
    }
}

fn resources(value: bool) -> LinuxResources {
    let value = u8::from(value).to_string();
    LinuxResources { memory: None, unified: [(OOM_GROUP.to_owned(), value)].into() }
}

/// What the rules want of a container of a pod; none if no rule is for it, or if it is not one that
/// a kubelet made. `given` is what it is about to be given.
pub fn desired_adjustment(
    policy: &Policy,
    pod: &Pod,
    container: &Container,
    given: Option<&LinuxResources>,
) -> Result<Option<Wish>, AdjustError> {
    let Some(id) = ContainerId::parse(&container.id) else { return Ok(None) };
    let path = container.linux.as_ref().map_or("", |linux| &linux.cgroups_path);
    let cgroup = cgroup(path, id).ok_or_else(|| AdjustError::CgroupsPath(path.to_owned()))?;
    let name = Some(container.name.as_str()).filter(|name| !name.is_empty());
    let pod = SubjectPod::Known(PodSubject { pod, container: name });
    let subject = Subject { cgroup: &cgroup, pod };
    let Verdict::Matched(target) = policy.decide(&subject) else { return Ok(None) };
    Ok(Some(Wish { target, found: given.and_then(value) }))
}

/// The resources of a container's spec, as far as the runtime sends them.
pub fn spec_resources(container: &Container) -> Option<&LinuxResources> {
    container.linux.as_ref()?.resources.as_ref()
}

/// The value that resources ask for.
fn value(resources: &LinuxResources) -> Option<bool> {
    match resources.unified.get(OOM_GROUP)?.trim() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// Whether a container may use swap. containerd has no room for swap in what it asks
/// plugins at an update, and so forgets it where one answers (seen with 2.1): those
/// containers are left to the enforcement by cgroup.
pub fn allows_swap(container: &Container) -> bool {
    let memory = spec_resources(container).and_then(|resources| resources.memory.as_ref());
    memory.is_some_and(|memory| match (&memory.limit, &memory.swap) {
        (Some(limit), Some(swap)) => swap.value != limit.value,
        (None, swap) => swap.is_some(),
        (Some(_), None) => false,
    })
}

/// What a request says about a container, for the code that handles its cgroup.
pub fn learn(pod: &Arc<Pod>, container: &Container) -> Option<RuntimeContainer> {
    let id = ContainerId::parse(&container.id)?;
    let name = Some(container.name.as_str()).filter(|name| !name.is_empty())?;
    let init = Some(container.pid).filter(|pid| *pid != 0);
    Some(RuntimeContainer { id, name: name.into(), pod: pod.clone(), init, instead_of: None })
}

/// The label by which a kubelet marks its own (`KubernetesPodUIDLabel`,
/// k8s.io/kubelet/pkg/types/labels.go).
const KUBELETS_LABEL: &str = "io.kubernetes.pod.uid";

/// A pod as it was when it was made, with no more than is used of it; none if no kubelet
/// made it. A static pod's uid may be any word, as may that of a pod by other means.
pub fn pod_from_sandbox(sandbox: &PodSandbox) -> Option<Pod> {
    let annotation = |name: &str| sandbox.annotations.get(name).map(|text| shortened(text));
    let labels =
        sandbox.labels.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into()));
    let is_kubelets = sandbox.labels.get(KUBELETS_LABEL) == Some(&sandbox.uid);
    let any = || PodUid::parse_any(&sandbox.uid).filter(|_| is_kubelets);
    let uid = PodUid::parse(&sandbox.uid).or_else(any)?;
    Some(Pod {
        labels: bounded(labels.collect()),
        oom_group: annotation(OOM_GROUP_ANNOTATION),
        oom_escalate: annotation(OOM_ESCALATE_ANNOTATION),
        ..Pod::named(uid, &sandbox.namespace, &sandbox.name)
    })
}

/// Where a container will be: cgroupfs's driver is given the path, systemd's
/// `SLICE:PREFIX:ID` for a scope `PREFIX-ID` in nested slices, each named after all
/// above it (`ExpandSlice()`, opencontainers/cgroups/systemd).
fn cgroup(path: &str, id: ContainerId) -> Option<CgroupPath> {
    let text = match path.split(':').collect::<Vec<_>>()[..] {
        [path] if path.ends_with(&id.to_string()) => path.to_owned(),
        [slice, prefix, name] => format!("{}/{prefix}-{name}.scope", slices(slice)?),
        _ => return None,
    };
    CgroupPath::parse(text.as_bytes()).ok()
}

fn slices(slice: &str) -> Option<String> {
    let name = slice.strip_suffix(".slice")?;
    let mut path = String::new();
    for (end, _) in name.match_indices('-').chain([(name.len(), "")]) {
        path.push('/');
        path.push_str(name.get(..end).filter(|part| !part.is_empty())?);
        path.push_str(".slice");
    }
    Some(path)
}

#[cfg(test)]
mod tests;
