//! What came of escalations.

use super::{
    Metrics,
    family::{Exposed, Family},
    making::counter,
};
use herder_model::escalation::{Outcome, To};

#[derive(Debug)]
pub(super) struct Escalated(Family<3>);

impl Escalated {
    pub(super) fn new(exposed: &mut Vec<Box<dyn Exposed>>) -> Self {
        Escalated(counter(
            exposed,
            "herder_escalations_total",
            "Escalations of containers that kept losing processes, by what came of them.",
            ["rule", "to", "result"],
        ))
    }
}

impl Metrics {
    /// What the escalation of a rule may come to begins at 0, so that the first one is seen.
    pub(in crate::report) fn escalating(&self, rule: &str, to: To) {
        for outcome in Outcome::ALL {
            self.escalated.0.begin([rule, to.as_str(), outcome.as_str()]);
        }
    }

    pub(in crate::report) fn escalation(&self, rule: &str, to: To, outcome: Outcome) {
        self.escalated.0.add([rule, to.as_str(), outcome.as_str()], 1);
    }
}
