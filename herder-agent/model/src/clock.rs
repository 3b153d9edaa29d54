//! A moment of the kernel's clock. The model has no clock of its own: its callers pass the
//! time.

use serde::{Deserialize, Serialize};
use std::{
    ops::{Add, Sub},
    time::Duration,
};

/// A moment of `CLOCK_MONOTONIC` in nanoseconds, as the kernel's records have it
/// (`bpf_ktime_get_ns()`).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// The start of the machine.
    pub const ZERO: Self = Monotonic(0);

    /// Later than all that is waited for.
    pub const END: Self = Monotonic(u64::MAX);

    /// How long it is between two moments, whichever is earlier.
    #[must_use]
    pub fn abs_diff(self, other: Self) -> Duration {
        Duration::from_nanos(self.0.abs_diff(other.0))
    }

    /// How long it is since an earlier moment; nothing if that is yet to come.
    #[must_use]
    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Ends at [`Monotonic::END`].
impl Add<Duration> for Monotonic {
    type Output = Self;

    fn add(self, after: Duration) -> Self {
        let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Monotonic(self.0.saturating_add(after))
    }
}

/// Nothing, if that is not later.
impl Sub for Monotonic {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_end_of_the_clock_is_passed() {
        let (early, late) = (Monotonic(5), Monotonic(1_000_000_005));
        assert_eq!(early + Duration::from_secs(1), late);
        assert_eq!(late.saturating_duration_since(early), Duration::from_secs(1));
        assert_eq!(early.saturating_duration_since(late), Duration::ZERO);
        assert_eq!(early.abs_diff(late), late.abs_diff(early));
        assert_eq!(late + Duration::MAX, Monotonic::END);
    }
}
