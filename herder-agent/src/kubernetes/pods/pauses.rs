//! When the API server is asked again. Pure: the caller sleeps and rolls the dice.
//!
//! A server that does not answer is asked at growing intervals. A server that answers, but
//! ends the watch or no longer has the version, is asked again at once, because that is
//! normal. If it happens repeatedly there are pauses too, so that neither a
//! server nor a proxy in front of it makes the agent ask in a loop.

use herder_model::backoff::{Backoff, Pace};
use std::time::Duration;
use tokio::time::Instant;

/// A watch that lived this long was a good one, however it ended.
const GOOD: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Pauses {
    unanswered: Backoff,
    again: Backoff,
    /// When a watch ended that was not good.
    ended: Option<Instant>,
    /// When a version was too old.
    expired: Option<Instant>,
}

impl Pauses {
    pub(super) fn new(pace: Pace) -> Self {
        let (unanswered, again) = (Backoff::new(pace), Backoff::new(pace));
        Pauses { unanswered, again, ended: None, expired: None }
    }

    /// The server has answered.
    pub(super) fn answered(&mut self) {
        self.unanswered.reset();
    }

    /// It has not; so long to wait.
    pub(super) fn unanswered(&mut self, random: u64) -> Duration {
        self.unanswered.after_failure(random)
    }

    /// A watch has ended that began then; so long to wait.
    pub(super) fn ended(&mut self, began: Instant, now: Instant, random: u64) -> Duration {
        if now - began >= GOOD {
            self.ended = None;
        }
        let before = self.ended.replace(now);
        self.wait(before, now, random)
    }

    /// The version was too old; so long to wait for the next list.
    pub(super) fn expired(&mut self, now: Instant, random: u64) -> Duration {
        let before = self.expired.replace(now);
        self.wait(before, now, random)
    }

    /// Not at all, if the same did not happen just before.
    fn wait(&mut self, before: Option<Instant>, now: Instant, random: u64) -> Duration {
        if before.is_some_and(|before| now - before < GOOD) {
            return self.again.after_failure(random);
        }
        self.again.reset();
        Duration::ZERO
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
        let mut now = Instant::now();
        let mut ended = |after| {
            let began = now;
            now += Duration::from_secs(after);
            // In between there is always an answer.
            pauses.answered();
            let wait = pauses.ended(began, now, 0);
            now += wait;
            seconds(wait)
        };
        assert_eq!([ended(0), ended(1), ended(0), ended(5)], [0.0, 0.8, 1.6, 3.2]);
        assert_eq!([ended(0), ended(0), ended(0)], [6.4, 7.5, 7.5]);
        assert_eq!([ended(30), ended(0), ended(290), ended(290)], [0.0, 0.8, 0.0, 0.0]);
    }

    #[test]
    fn a_version_that_is_too_old_is_replaced_at_once_but_not_in_a_loop() {
        let mut pauses = Pauses::new(Pace::default());
        let mut now = Instant::now();
        // The watch before was cut, and another server knows less.
        assert_eq!(pauses.ended(now, now, 0), Duration::ZERO);
        let mut expired = |after| {
            now += Duration::from_secs(after);
            let wait = pauses.expired(now, 0);
            now += wait;
            seconds(wait)
        };
        assert_eq!([expired(0), expired(0), expired(0)], [0.0, 0.8, 1.6]);
        assert_eq!([expired(28), expired(30), expired(0)], [3.2, 0.0, 0.8]);
    }
}
