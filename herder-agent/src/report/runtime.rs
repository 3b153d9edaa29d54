//! The answers to the container runtime, in the log and the metrics.

use super::Reporter;
use crate::runtime::nri::{Answer, Attempt, Listener, Outcome};
use std::time::Duration;

impl Listener for Reporter {
    fn answered(&self, answer: &Answer<'_>) {
        let Answer { namespace, pod, container, target, outcome } = *answer;
        let said = match outcome {
            Outcome::Set => Some("NRI: set memory.oom.group."),
            Outcome::DryRun => Some("Dry run: would set memory.oom.group by NRI."),
            Outcome::Conflict => Some(
                "NRI: another plugin wants another memory.oom.group for the container; it is left to enforcement by cgroup.",
            ),
            Outcome::Kept | Outcome::NotAsked | Outcome::Unmatched | Outcome::Error => None,
        };
        if let (Some(said), Some(target)) = (said, target) {
            let (rule, value) = (&*target.rule, u8::from(target.value));
            tracing::info!(namespace, pod, container, rule, value, "{said}");
        }
        self.nri_answer(outcome);
    }

    fn unmatched(&self) {
        self.nri_answer(Outcome::Unmatched);
    }

    fn failed(&self, error: &dyn std::error::Error) {
        tracing::error!(%error, "NRI: a container was left unchanged.");
        self.nri_answer(Outcome::Error);
    }

    fn took(&self, took: Duration) {
        self.metrics.families.nri_answer_seconds.observe(took.as_secs_f64());
    }

    fn attempted(&self, attempt: Attempt) {
        self.metrics.families.nri_connections.add([attempt.as_str()], 1);
    }

    fn connected(&self, connected: bool) {
        self.metrics.families.nri_connected.set([], connected.into());
    }
}

impl Reporter {
    fn nri_answer(&self, outcome: Outcome) {
        self.metrics.families.nri_adjustments.add([outcome.as_str()], 1);
    }
}
