//! The families of protected inits.

use super::{Exposed, Family, counter, gauge};
use crate::enforce::shield::{ScoreWrite, Written};
use herder_model::shield::Unprotected;

#[derive(Debug)]
pub(in crate::report::metrics) struct ShieldFamilies {
    pub(in crate::report::metrics) protected: Family<0>,
    pub(in crate::report::metrics) unprotected: Family<1>,
    pub(in crate::report::metrics) writes: Family<2>,
    pub(in crate::report::metrics) forks: Family<0>,
    pub(in crate::report::metrics) forks_lost: Family<0>,
}

impl ShieldFamilies {
    pub(super) fn new(exposed: &mut Vec<Box<dyn Exposed>>) -> Self {
        let families = ShieldFamilies {
            protected: gauge(
                exposed,
                "herder_inits_protected",
                "Containers whose init is exempt from OOM kills because their rule has, or had, protectInit.",
                [],
            ),
            unprotected: gauge(
                exposed,
                "herder_inits_unprotected",
                "Containers whose rule has protectInit and whose init is not exempt from OOM kills.",
                ["reason"],
            ),
            writes: counter(
                exposed,
                "herder_oom_score_writes_total",
                "Processes whose oom_score_adj was written, or was to be, because of protectInit.",
                ["what", "result"],
            ),
            forks: counter(
                exposed,
                "herder_init_forks_total",
                "Processes that were forked exempt from OOM kills in a container with a protected init.",
                [],
            ),
            forks_lost: counter(
                exposed,
                "herder_init_forks_lost_total",
                "Records of such forks that did not fit into the ring buffer; the container's processes are then looked through.",
                [],
            ),
        };
        families.start_at_zero();
        families
    }

    fn start_at_zero(&self) {
        self.protected.set([], 0);
        self.forks.begin([]);
        self.forks_lost.begin([]);
        for reason in Unprotected::ALL {
            self.unprotected.set([reason.as_str()], 0);
        }
        for what in Written::ALL {
            for result in ScoreWrite::LABELS {
                self.writes.begin([what.as_str(), result]);
            }
        }
    }
}
