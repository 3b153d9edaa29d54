//! Whether the arguments of victims were read.

use super::{
    Metrics,
    family::{Exposed, Family},
    making::counter,
};
use herder_model::arguments::Missing;

#[derive(Debug)]
pub(super) struct ArgumentsRead {
    victims: Family<1>,
    lost: Family<0>,
}

impl ArgumentsRead {
    pub(super) fn new(exposed: &mut Vec<Box<dyn Exposed>>) -> Self {
        let victims = counter(
            exposed,
            "herder_victim_arguments_total",
            "Victims whose rule has victimArguments, by whether their arguments were read.",
            ["result"],
        );
        victims.begin(["read"]);
        for missing in Missing::ALL.into_iter().filter(|missing| *missing != Missing::Waiting) {
            victims.begin([missing.as_str()]);
        }
        let lost = counter(
            exposed,
            "herder_victim_arguments_lost_total",
            "Records of arguments that did not fit into the ring buffer.",
            [],
        );
        lost.begin([]);
        ArgumentsRead { victims, lost }
    }
}

impl Metrics {
    pub(in crate::report) fn arguments(&self, result: &str) {
        self.arguments.victims.add([result], 1);
    }

    pub(in crate::report) fn arguments_lost(&self, times: u64) {
        self.arguments.lost.add([], times);
    }
}
