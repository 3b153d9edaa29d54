//! What was done about protected inits, in the log and the metrics.

use super::Reporter;
use crate::enforce::shield::{Listener, ScoreWrite, Written};
use herder_model::{cgroup::CgroupPath, shield::Unprotected};
use std::collections::BTreeMap;

impl Listener for Reporter {
    fn wrote(&self, cgroup: &CgroupPath, pid: u32, what: Written, result: &ScoreWrite) {
        let what_text = what.as_str();
        match (what, result) {
            (_, ScoreWrite::Error(error)) => {
                let cgroup = cgroup.to_string();
                tracing::error!(
                    cgroup,
                    pid,
                    what = what_text,
                    error,
                    "Cannot write oom_score_adj."
                );
            }
            // Each fork is one of these.
            (Written::ChildRestored, _) => {
                tracing::debug!(%cgroup, pid, result = result.as_str(), "Restored a child's oom_score_adj.");
            }
            (Written::Exempt | Written::Restored, result) => {
                let (cgroup, result) = (cgroup.to_string(), result.as_str());
                tracing::info!(
                    cgroup,
                    pid,
                    what = what_text,
                    result,
                    "Wrote oom_score_adj of an init."
                );
            }
        }
        self.metrics.families.score_writes.add([what.as_str(), result.as_str()], 1);
    }

    fn forked(&self) {
        self.metrics.families.forks.add([], 1);
    }

    fn forks_lost(&self, times: u64) {
        tracing::warn!(
            times,
            "Records of forks were lost; the processes of protected containers are looked through."
        );
        self.metrics.families.forks_lost.add([], times);
    }

    fn no_victim(&self) {
        self.metrics.families.no_victim.add([], 1);
    }

    fn protection(&self, cgroup: &CgroupPath, rule: &str, unprotected: Option<Unprotected>) {
        let cgroup = cgroup.to_string();
        match unprotected {
            None => tracing::info!(cgroup, rule, "The container's init is exempt from OOM kills."),
            Some(Unprotected::Pending) => {}
            Some(reason @ Unprotected::NoOtherVictim) => tracing::warn!(
                cgroup,
                rule,
                reason = reason.as_str(),
                "The kernel found nothing else to kill: the container's init is no longer exempt from OOM kills."
            ),
            Some(reason) => tracing::warn!(
                cgroup,
                rule,
                reason = reason.as_str(),
                "The container's init is not exempt from OOM kills."
            ),
        }
    }

    fn protections(&self, protected: usize, unprotected: &BTreeMap<Unprotected, usize>) {
        let families = &self.metrics.families;
        families.inits_protected.set([], protected as u64);
        for reason in Unprotected::ALL {
            let count = unprotected.get(&reason).copied().unwrap_or(0);
            families.inits_unprotected.set([reason.as_str()], count as u64);
        }
    }

    fn unavailable(&self, why: &str) {
        tracing::error!(why, "No init is protected, although a rule has protectInit.");
    }
}
