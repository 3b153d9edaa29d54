//! Changes of pods that were too long to be read. One of them may have been a deletion, and the
//! watch goes on from a version behind it, so the pods are listed again.
//!
//! Any user who may create pods can make such changes as often as he likes, and lists cost the
//! server something: there are few for that reason.

use std::time::Duration;
use tokio::time::Instant;

/// Between two lists for that reason at least.
const PAUSE: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub(super) struct Skipped {
    /// There was a change since the last list for it.
    any: bool,
    listed: Option<Instant>,
}

impl Skipped {
    /// A change was too long.
    pub(super) fn skipped(&mut self) {
        self.any = true;
    }

    /// Whether the pods are to be listed for it now; then that is done.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.any && self.listed.is_none_or(|listed| now - listed >= PAUSE);
        if is_due {
            (self.any, self.listed) = (false, Some(now));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_listed_for_changes_that_were_skipped_but_not_often() {
        let (mut skipped, begin) = (Skipped::default(), Instant::now());
        assert!(!skipped.take_due(begin));
        skipped.skipped();
        assert!(skipped.take_due(begin));
        assert!(!skipped.take_due(begin + PAUSE));
        let later = begin + PAUSE / 2;
        skipped.skipped();
        assert!(!skipped.take_due(later), "too soon");
        assert!(skipped.take_due(begin + PAUSE), "and not forgotten");
    }
}
