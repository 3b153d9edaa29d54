//! How often something may be done: so often at once, and once more each time that a while has passed.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

/// What is left. The time is whichever its owner has.
#[derive(Debug)]
pub struct Bucket<T> {
    left: u32,
    since: T,
}

impl<T: Copy + Add<Duration, Output = T> + Sub<Output = Duration>> Bucket<T> {
    pub fn full(burst: u32, now: T) -> Self {
        Bucket { left: burst, since: now }
    }

    /// Adds one for each `every` that has passed, up to `burst`. Returns how many are left.
    pub fn refill(&mut self, burst: u32, every: Duration, now: T) -> u32 {
        let passed = (now - self.since).as_nanos() / every.as_nanos().max(1);
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(passed).min(burst);
        self.since = if self.left == burst { now } else { self.since + every * passed };
        self.left
    }

    /// Puts one back that was taken; the next refill keeps it within the burst.
    pub fn put_back(&mut self) {
        self.left = self.left.saturating_add(1);
    }

    /// Takes one, if there is one.
    pub fn take(&mut self) -> bool {
        let had = self.left > 0;
        self.left -= u32::from(had);
        had
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_for_each_while() {
        let every = Duration::from_secs(5);
        let mut bucket = Bucket::full(3, Duration::ZERO);
        assert_eq!([(); 4].map(|()| bucket.take()), [true, true, true, false]);
        assert_eq!(bucket.refill(3, every, every - Duration::from_nanos(1)), 0);
        assert_eq!(bucket.refill(3, every, every * 3 / 2), 1);
        assert_eq!(bucket.refill(3, every, every * 2), 2, "half of one was not lost");
        assert_eq!(bucket.refill(3, every, every * 1000), 3, "and never more");
        assert!(bucket.take());
        assert_eq!(bucket.refill(3, every, every * 1001), 3);
    }
}
