//! The kernel's clock, and one that a test sets.

use herder_model::clock::Monotonic;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Where a task has the time from. Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    #[default]
    System,
    /// It shows what it was set to, so that a test does not have to wait.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// One that stands still.
    pub fn manual(now: Monotonic) -> Self {
        Clock::Manual(Arc::new(AtomicU64::new(now.0)))
    }

    pub fn now(&self) -> Monotonic {
        match self {
            Clock::System => monotonic_now(),
            Clock::Manual(now) => Monotonic(now.load(Ordering::Relaxed)),
        }
    }

    /// Moves a manual clock on. The system's moves by itself.
    pub fn advance(&self, by: Duration) {
        if let Clock::Manual(now) = self {
            now.store((self.now() + by).0, Ordering::Relaxed);
        }
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds, as `bpf_ktime_get_ns()` gives it.
pub fn monotonic_now() -> Monotonic {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    Monotonic(part(now.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(now.tv_nsec)))
}
