//! What enforcement does, in the log and the metrics.

use super::Reporter;
use crate::enforce::Listener;
use herder_model::{
    cgroup::CgroupPath,
    enforcement::{Obstacle, OomGroupWrite, WriteResult},
    owner::Owner,
};
use std::{collections::BTreeMap, time::Instant};

impl Reporter {
    /// A write of `memory.oom.group`, or in a dry run what would be written.
    pub fn oom_group_write(&self, write: &OomGroupWrite<'_>) {
        let OomGroupWrite { cgroup, rule, old, new, cause, .. } = *write;
        let (old, new, cgroup) = (u8::from(old), u8::from(new), cgroup.to_string());
        match write.result {
            _ if write.dry_run => {
                tracing::info!(cgroup, rule, old, new, "Dry run: would write memory.oom.group.");
                return;
            }
            WriteResult::Ok => {
                tracing::info!(cgroup, rule, old, new, ?cause, "Wrote memory.oom.group.");
            }
            WriteResult::Gone => {
                tracing::info!(
                    cgroup,
                    rule,
                    old,
                    new,
                    ?cause,
                    "The cgroup was removed before memory.oom.group was written."
                );
            }
            WriteResult::Error(error) => {
                tracing::error!(
                    cgroup,
                    rule,
                    old,
                    new,
                    ?cause,
                    error,
                    "Cannot write memory.oom.group."
                );
            }
        }
        self.metrics.oom_group_write(write);
    }

    /// The effective value of a matched container, `None` when it is gone, and
    /// the value that its rule wants.
    pub fn oom_group_effective(&self, owner: &Owner, value: Option<bool>, wanted: bool) {
        self.metrics.oom_group_effective(owner, value, wanted, Instant::now());
    }

    /// A matched container is not enforceable, or (with `None`) is enforceable again.
    pub fn obstacle(&self, cgroup: &CgroupPath, rule: &str, obstacle: Option<(Obstacle, String)>) {
        let cgroup = cgroup.to_string();
        match obstacle {
            Some((obstacle, why)) => {
                tracing::warn!(
                    cgroup,
                    rule,
                    reason = obstacle.as_str(),
                    why,
                    "Container is not enforceable."
                );
            }
            None => tracing::info!(cgroup, rule, "Obstacle cleared, or the container was removed."),
        }
    }

    /// How many matched containers there are behind each obstacle.
    pub fn obstacles(&self, containers: &BTreeMap<Obstacle, usize>) {
        self.metrics.obstacles(containers);
    }
}

impl Listener for Reporter {
    fn wrote(&self, write: &OomGroupWrite<'_>) {
        self.oom_group_write(write);
    }

    fn effective(&self, owner: &Owner, value: Option<bool>, wanted: bool) {
        self.oom_group_effective(owner, value, wanted);
    }

    fn obstacle(&self, cgroup: &CgroupPath, rule: &str, obstacle: Option<(Obstacle, String)>) {
        Reporter::obstacle(self, cgroup, rule, obstacle);
    }

    fn obstacles(&self, containers: &BTreeMap<Obstacle, usize>) {
        Reporter::obstacles(self, containers);
    }
}
