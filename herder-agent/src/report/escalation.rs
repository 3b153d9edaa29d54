//! Escalations, as log lines and metrics.

use super::Reporter;
use herder_model::escalation::{Outcome, To, node::Subject};

impl Reporter {
    /// Rules that may escalate, and to what.
    pub fn escalating<'a>(&self, rules: impl Iterator<Item = (&'a str, To)>) {
        rules.for_each(|(rule, to)| self.metrics.escalating(rule, to));
    }

    /// What came of an escalation; `why`, if it did not go as the rule says.
    pub fn escalation(&self, of: &Subject, outcome: Outcome, why: Option<&str>) {
        let Subject { path, rule, escalate, .. } = of;
        let (cgroup, rule, to) = (path.to_string(), &**rule, escalate.to());
        let (escalate, result) = (escalate.to_string(), outcome.as_str());
        match outcome {
            Outcome::Done | Outcome::GroupInstead => {
                tracing::warn!(
                    cgroup,
                    rule,
                    escalate,
                    result,
                    why,
                    "Escalated repeated OOM kills."
                );
            }
            Outcome::DryRun => {
                tracing::info!(
                    cgroup,
                    rule,
                    escalate,
                    "Dry run: would escalate repeated OOM kills."
                );
            }
            Outcome::OverBudget => tracing::warn!(
                cgroup,
                rule,
                escalate,
                "A restart waits: this node had another one a short time ago."
            ),
            Outcome::Lapsed => tracing::info!(
                cgroup,
                rule,
                escalate,
                "A restart that waited is not due any more: the container was quiet."
            ),
            Outcome::Gone => {
                tracing::info!(
                    cgroup,
                    rule,
                    escalate,
                    why,
                    "The container was removed, or its rule, before it was restarted."
                );
            }
            Outcome::Error | Outcome::Refused => {
                tracing::error!(
                    cgroup,
                    rule,
                    escalate,
                    result,
                    why,
                    "Cannot escalate repeated OOM kills."
                );
            }
        }
        self.metrics.families.escalations.add([rule, to.as_str(), outcome.as_str()], 1);
    }

    /// It was quiet for so long, or is a new container: the rule's value is wanted again.
    pub fn escalation_over(&self, of: &Subject) {
        let Subject { path, rule, escalate, .. } = of;
        let (cgroup, rule) = (path.to_string(), &**rule);
        let escalate = escalate.to_string();
        tracing::info!(cgroup, rule, escalate, "The escalation is over.");
    }
}
