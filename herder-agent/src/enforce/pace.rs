//! How often a changed value is corrected at once, since something may change it in a loop.

use herder_model::{bucket::Bucket, clock::Monotonic};
use std::time::Duration;

/// Writes to one container that are corrected at once, however fast they come; the
/// agent's own are among them. Far more than a runtime or systemd makes: more than that
/// is a loop.
const BURST: u32 = 4000;

/// After these, the pause between two corrections.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// What is left of the answers of one container.
#[derive(Debug)]
pub(super) struct Pace(Bucket<Monotonic>);

impl Pace {
    pub(super) fn new(now: Monotonic) -> Self {
        Pace(Bucket::full(BURST, now))
    }

    /// Takes one answer, if there is one left.
    pub(super) fn take(&mut self, now: Monotonic) -> bool {
        self.0.refill(BURST, PAUSE, now);
        self.0.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_for_each_pause() {
        let begin = Monotonic(7);
        let mut pace = Pace::new(begin);
        let taken = |pace: &mut Pace, now, tries| (0..tries).filter(|_| pace.take(now)).count();
        assert_eq!(taken(&mut pace, begin, 5000), 4000);
        let mut now = begin;
        for _ in 0..100 {
            now = now + PAUSE / 2;
            assert_eq!(taken(&mut pace, now, 10), 0);
            now = now + PAUSE / 2;
            assert_eq!(taken(&mut pace, now, 10), 1);
        }
        now = now + PAUSE * 30;
        assert_eq!(taken(&mut pace, now, 100), 30);
        now = now + Duration::from_secs(3600);
        assert_eq!(taken(&mut pace, now, 5000), 4000, "and never more");
    }
}
