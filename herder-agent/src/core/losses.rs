//! Counts each loss once.
//!
//! A victim whose record did not fit into the ring buffer is counted by the
//! programs, and missed again when its decision ends with fewer victims than the
//! kernel marked. Only what the programs do not account for is a loss of its own.

use herder_agent_ebpf::Loss;
use herder_model::oom::reasons::Lost;

/// What is known to be lost and not counted yet.
#[derive(Debug, Default)]
pub(super) struct Losses {
    missing: u64,
    accounted: u64,
    unseen_cgroups: bool,
    ends: bool,
}

impl Losses {
    /// A decision ended, and so many of its victims never came.
    pub(super) fn missing(&mut self, victims: u32) {
        self.missing += u64::from(victims);
    }

    /// Takes what the programs have lost since the last call, which is read after the decisions.
    /// Returns what is to be counted.
    pub(super) fn settle(&mut self, new: &[(Loss, u64)]) -> Vec<(Lost, u64)> {
        let mut lost: Vec<_> =
            new.iter().map(|(loss, times)| (Lost::Kernel(*loss), *times)).collect();
        for (loss, times) in new {
            self.unseen_cgroups |= *loss == Loss::CgroupRingFull;
            self.ends |= matches!(loss, Loss::DecisionRingFull | Loss::VictimRingFull);
            if loss.loses_kill() {
                self.accounted += times;
            }
        }
        let explained = self.missing.min(self.accounted);
        self.accounted -= explained;
        let missing = std::mem::take(&mut self.missing) - explained;
        if missing > 0 {
            lost.push((Lost::VictimMissing, missing));
        }
        lost
    }

    /// Whether the event of a made cgroup was lost, so that only a walk can find the cgroup.
    pub(super) fn take_unseen_cgroups(&mut self) -> bool {
        std::mem::take(&mut self.unseen_cgroups)
    }

    /// Whether the end of a decision, or a victim, was lost since the last call.
    pub(super) fn take_ends(&mut self) -> bool {
        std::mem::take(&mut self.ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_victim_that_did_not_fit_is_lost_once() {
        let mut losses = Losses::default();
        losses.missing(2);
        let full = [(Loss::VictimRingFull, 3)];
        assert_eq!(losses.settle(&full), [(Lost::Kernel(Loss::VictimRingFull), 3)]);
        losses.missing(1);
        assert_eq!(losses.settle(&[]), [], "its decision ended later");
        losses.missing(1);
        assert_eq!(losses.settle(&[]), [(Lost::VictimMissing, 1)]);
    }

    #[test]
    fn other_losses_explain_no_missing_victim() {
        let mut losses = Losses::default();
        losses.missing(1);
        let lost = losses.settle(&[(Loss::CgroupRingFull, 5)]);
        assert_eq!(lost, [(Lost::Kernel(Loss::CgroupRingFull), 5), (Lost::VictimMissing, 1)]);
        assert!(losses.take_unseen_cgroups() && !losses.take_unseen_cgroups());
        assert!(!losses.take_ends());
        losses.settle(&[(Loss::DecisionRingFull, 1)]);
        assert!(losses.take_ends() && !losses.take_ends());
    }
}
