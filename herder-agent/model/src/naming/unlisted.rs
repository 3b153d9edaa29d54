//! Cgroups of pods that the API server does not list: a static pod without a mirror, a pod that was
//! deleted by force and runs on, or one for which there was no room.
//!
//! Rules for pods wait for a pod that is not known yet. That must have an end, or else such a pod
//! would be out of reach of the rules for cgroups.

use super::{CgroupId, CgroupPath, Monotonic, NAMED_WITHIN, Naming, own};
use crate::owner::path::PodCgroup;

/// Whether a pod is still waited for.
#[derive(Debug, Default)]
pub(super) enum Awaited {
    /// It is listed, or was not looked for yet.
    #[default]
    Listed,
    /// It was missing then in the list for the first time.
    MissingSince(Monotonic),
    /// It was missing for too long.
    NoMore,
}

impl Naming {
    /// Looks for the pods of all cgroups. Gives the cgroups of those that are waited for no more.
    pub(super) fn look_for_pods(&mut self, now: Monotonic) -> Vec<CgroupId> {
        let Some(pods) = self.pods.as_ref().filter(|pods| pods.synced()) else {
            return Vec::new();
        };
        let mut given_up = Vec::new();
        for (uid, siblings) in &mut self.cgroups {
            siblings.awaited = match siblings.awaited {
                _ if pods.is_listed(*uid) => Awaited::Listed,
                Awaited::Listed => Awaited::MissingSince(now),
                Awaited::MissingSince(since)
                    if now.saturating_duration_since(since) > NAMED_WITHIN =>
                {
                    given_up.extend(siblings.living());
                    Awaited::NoMore
                }
                Awaited::MissingSince(since) => Awaited::MissingSince(since),
                Awaited::NoMore => Awaited::NoMore,
            };
        }
        given_up
    }

    /// Whether a cgroup is a container's own whose pod is not known, and still waited for.
    pub fn awaits_pod(&self, path: &CgroupPath) -> bool {
        self.pod_cgroup(path).is_some_and(|cgroup| {
            own(&cgroup).is_some() && self.named_cgroup(&cgroup).is_none() && self.awaits(&cgroup)
        })
    }

    pub(super) fn awaits(&self, cgroup: &PodCgroup) -> bool {
        let siblings = self.cgroups.get(&cgroup.pod_uid);
        !siblings.is_some_and(|them| matches!(them.awaited, Awaited::NoMore))
    }
}
