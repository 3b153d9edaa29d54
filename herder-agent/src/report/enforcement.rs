//! What the enforcer did and found, as log lines and metrics.

use super::Reporter;
use crate::enforce::Effect;
use herder_model::{
    enforcement::{Obstacle, OomGroupWrite, WriteResult},
    oom::reasons::Lost,
    owner::Owner,
};

impl Reporter {
    /// An effect of enforcement. Counts, what is saved and what owners are notified of are the
    /// core's to pass on.
    pub fn enforcement(&self, effect: &Effect) {
        match effect {
            Effect::Wrote(write) => self.oom_group_write(write),
            Effect::FailedAgain(write) => self.metrics.oom_group_write(write),
            Effect::Effective { owner, value, wanted } => {
                self.oom_group_effective(owner, *value, *wanted);
            }
            Effect::Blocked { cgroup, rule, obstacle } => {
                let cgroup = cgroup.to_string();
                match obstacle {
                    Some((obstacle, why)) => {
                        let reason = obstacle.as_str();
                        tracing::warn!(
                            cgroup,
                            rule = &**rule,
                            reason,
                            why,
                            "Container is not enforceable."
                        );
                    }
                    None => tracing::info!(
                        cgroup,
                        rule = &**rule,
                        "Obstacle cleared, or the container was removed."
                    ),
                }
            }
            Effect::Obstacles(containers) => {
                for reason in Obstacle::ALL {
                    let count = containers.get(&reason).copied().unwrap_or(0);
                    let families = &self.metrics.families;
                    families.not_enforceable.set([reason.as_str()], count as u64);
                }
            }
            Effect::Unrestored(cgroups) => {
                self.metrics.families.not_restored.set([], *cgroups as u64);
            }
            Effect::Overflowed => self.lost(Lost::ValueQueueFull, 1),
            Effect::Counted(_) | Effect::Saved | Effect::Notice(_) => {}
        }
    }

    /// The effective value of a matched container, `None` when it is gone, and
    /// the value that its rule wants.
    pub fn oom_group_effective(&self, owner: &Owner, value: Option<bool>, wanted: bool) {
        self.metrics.oom_group_effective(owner, value, wanted, self.clock.now());
    }

    /// A write of `memory.oom.group`, or in a dry run what would be written.
    fn oom_group_write(&self, write: &OomGroupWrite) {
        let OomGroupWrite { cgroup, rule, old, new, cause, .. } = write;
        let rule = &**rule;
        let (old, new, cgroup) = (u8::from(*old), u8::from(*new), cgroup.to_string());
        match &write.result {
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
}
