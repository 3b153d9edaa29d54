//! How long to wait after a failure. Pure: the caller sleeps and rolls the dice.
//!
//! `backon` would do the same, but nothing else brings it here, with its random numbers: only
//! kube-runtime has it, which the agent does not use.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

/// A wait that doubles with every failure and forgets after a quiet time.
#[derive(Clone, Debug)]
pub struct Backoff {
    pace: Pace,
    next: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub first: Duration,
    /// No wait is longer than twice this.
    pub longest: Duration,
}

/// It begins as client-go's own for list and watch (`NewReflectorWithOptions()`,
/// tools/cache/reflector.go, client-go 0.36: 800 ms, doubled up to 30 s), but ends at 15 s,
/// jitter included: an agent has one watch, of few pods, and without it new pods have no names.
impl Default for Pace {
    fn default() -> Self {
        Pace { first: Duration::from_millis(800), longest: Duration::from_millis(7500) }
    }
}

impl Backoff {
    pub fn new(pace: Pace) -> Self {
        Backoff { pace, next: pace.first }
    }

    /// The wait after one more failure: between one and two times the step, so
    /// that the nodes of a cluster do not come back all at once.
    pub fn after_failure(&mut self, random: u64) -> Duration {
        let step = self.next;
        self.next = step.saturating_mul(2).min(self.pace.longest);
        let share = u32::try_from(random % 1000).unwrap_or_default();
        step + step * share / 1000
    }

    pub fn reset(&mut self) {
        self.next = self.pace.first;
    }
}

/// A random number; good enough to spread waits.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread() {
        let mut backoff =
            Backoff::new(Pace { first: Duration::from_secs(1), longest: Duration::from_secs(4) });
        let waits: Vec<_> =
            [0, 500, 999, 0].map(|random| backoff.after_failure(random).as_millis()).into();
        assert_eq!(waits, [1000, 3000, 7996, 4000]);
        backoff.reset();
        assert_eq!(backoff.after_failure(0), Duration::from_secs(1));
    }

    #[test]
    fn random_numbers_differ() {
        assert_ne!(random(), random());
    }
}
