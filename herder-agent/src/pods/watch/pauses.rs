//! When the API server is asked again. Pure: the caller sleeps and rolls the dice.
//!
//! A server that does not answer is asked ever more rarely, until it answers. One that
//! answers, but whose watch ends or whose version is too old, is asked at once: nothing is
//! the matter. Only where that happens again and again there are pauses too, so that no
//! server and no proxy in front of it makes the agent ask in a loop.

use crate::apiserver::backoff::{Backoff, Pace};
use std::time::Duration;

/// A watch that lived this long was a good one, however it ended.
const GOOD: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Pauses {
    unanswered: Backoff,
    short: Backoff,
    /// Since the last good watch nothing has ended.
    fresh: bool,
}

impl Pauses {
    pub(super) fn new(pace: Pace) -> Self {
        Pauses { unanswered: Backoff::new(pace), short: Backoff::new(pace), fresh: true }
    }

    /// The server has answered.
    pub(super) fn answered(&mut self) {
        self.unanswered.reset();
    }

    /// It has not; so long to wait.
    pub(super) fn unanswered(&mut self, random: u64) -> Duration {
        self.unanswered.after_failure(random)
    }

    /// What it answered has ended after that time; so long to wait.
    pub(super) fn ended(&mut self, after: Duration, random: u64) -> Duration {
        if after >= GOOD {
            self.short.reset();
            self.fresh = true;
        }
        if std::mem::take(&mut self.fresh) { Duration::ZERO } else { self.short.after_failure(random) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(duration: Duration) -> f64 {
        duration.as_secs_f64()
    }

    #[test]
    fn waits_for_a_server_that_is_away_end_at_fifteen_seconds_and_begin_anew_when_it_is_back() {
        let mut pauses = Pauses::new(Pace::default());
        let waits: Vec<f64> = (0..6).map(|_| seconds(pauses.unanswered(0))).collect();
        assert_eq!(waits, [0.8, 1.6, 3.2, 6.4, 7.5, 7.5]);
        assert!(pauses.unanswered(999) < Duration::from_secs(15));
        pauses.answered();
        assert_eq!(seconds(pauses.unanswered(0)), 0.8);
    }

    #[test]
    fn what_ends_is_asked_for_at_once_but_not_in_a_loop() {
        let mut pauses = Pauses::new(Pace::default());
        let mut ended = |after| {
            // In between there is always an answer.
            pauses.answered();
            seconds(pauses.ended(Duration::from_secs(after), 0))
        };
        assert_eq!([ended(0), ended(1), ended(0), ended(5)], [0.0, 0.8, 1.6, 3.2]);
        assert_eq!([ended(0), ended(0), ended(0)], [6.4, 7.5, 7.5]);
        assert_eq!([ended(30), ended(0), ended(290), ended(290)], [0.0, 0.8, 0.0, 0.0]);
    }
}
