//! Which restarts happened between two statuses of the same pod. Pure.
//!
//! The status counts restarts and describes only the last end of a container,
//! so several restarts between two looks have one known reason at most.

use super::{Container, Pod};
use crate::owner::{ContainerNames, id::ContainerId};

labels! {
    /// Why an incarnation of a container ended, as `lastState.terminated.reason`
    /// says. A metric label, so the set is closed.
    pub enum Reason {
        /// Its init was killed for want of memory.
        OomKilled = "OOMKilled",
        /// It ended with an exit code other than 0.
        Error = "Error",
        /// It ended with exit code 0.
        Completed = "Completed",
        /// The runtime could not start it (containerd, CRI-O).
        StartError = "StartError",
        /// The runtime could not start it (cri-dockerd).
        ContainerCannotRun = "ContainerCannotRun",
        /// The kubelet lost sight of it, as after a reboot.
        ContainerStatusUnknown = "ContainerStatusUnknown",
        /// The pod ran longer than it may.
        DeadlineExceeded = "DeadlineExceeded",
        Other = "Other",
        /// The status did not say.
        Unknown = "Unknown",
    }
}

/// Restarts of one container, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartSeen {
    pub names: ContainerNames,
    /// Why the incarnations before ended.
    pub reason: Reason,
    pub times: u32,
    /// The incarnation that ended, where the status says; a kill that was seen
    /// in it is the cause.
    pub ended: Option<ContainerId>,
}

impl Reason {
    pub fn parse(text: &str) -> Self {
        let mut known = Reason::ALL.into_iter().filter(|reason| *reason != Reason::Unknown);
        match text {
            "" => Reason::Unknown,
            _ => known.find(|reason| reason.as_str() == text).unwrap_or(Reason::Other),
        }
    }
}

/// The restarts from one status of a pod to a later one of the same pod.
pub fn between(old: &Pod, new: &Pod) -> Vec<RestartSeen> {
    let mut restarts = Vec::new();
    for container in &new.containers {
        if let Some(before) = old.container(&container.name) {
            of_container(new, before, container, &mut restarts);
        }
    }
    restarts
}

fn of_container(pod: &Pod, old: &Container, new: &Container, restarts: &mut Vec<RestartSeen>) {
    let times = new.restarts.saturating_sub(old.restarts);
    let same_incarnation = new.id.is_some() && new.id == old.id;
    if times == 0 || same_incarnation {
        return;
    }
    let names = pod.names(&new.name);
    let reason = new.last_terminated.map_or(Reason::Unknown, |ended| ended.reason);
    restarts.push(RestartSeen {
        names: names.clone(),
        reason,
        times: 1,
        ended: new.last_terminated.and_then(|ended| ended.id),
    });
    if times > 1 {
        restarts.push(RestartSeen {
            names,
            reason: Reason::Unknown,
            times: times - 1,
            ended: None,
        });
    }
}

/// Repairs what a status says of the past before it is compared.
///
/// A kubelet that has lost its history says 0 for a while, and the way back up
/// is no restart. And a list may be older than what is known, for each API
/// server has its own cache: an incarnation that was `superseded` is not the
/// newest again. Nor are the addresses that the pod had then: they may be another's.
pub fn repair(old: &Pod, new: &mut Pod, superseded: impl Fn(ContainerId) -> bool) {
    for container in &mut new.containers {
        let Some(before) = old.container(&container.name) else {
            continue;
        };
        if container.id != before.id && container.id.is_some_and(&superseded) {
            container.id = before.id;
            container.restarts = before.restarts;
            container.last_terminated = before.last_terminated;
            new.addresses.clone_from(&old.addresses);
        }
        if container.id.is_none() || container.id == before.id {
            container.restarts = container.restarts.max(before.restarts);
        }
    }
}
