//! Whether the core's loop still turns, for the liveness probe: it must not end an agent
//! whose server alone is slow, since nothing is enforced or reported while none runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

/// The loop turns at least this often.
const EVERY: Duration = Duration::from_secs(5);

/// When the loop last turned. Clones are the same; nobody waits for anybody.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    since: Instant,
    /// Milliseconds after that.
    last: Arc<AtomicU64>,
}

impl Default for Heartbeat {
    /// One that begins now, so that what comes before the first turn counts too.
    fn default() -> Self {
        Heartbeat { since: Instant::now(), last: Arc::default() }
    }
}

impl Heartbeat {
    /// The loop turns.
    pub fn beat(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// How long ago that was.
    pub fn silent_for(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.last.load(Ordering::Relaxed)))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Wakes the loop.
pub fn beats() -> Interval {
    let mut beats = interval(EVERY);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}
