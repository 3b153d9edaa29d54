//! Whether the core's loop still runs, for the liveness probe. The probe must not end an agent
//! of which only the server is slow, because nothing is enforced or reported during a restart.

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

/// When the loop last ran. Clones are the same; no thread waits for another.
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
