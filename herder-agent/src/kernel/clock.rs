//! The kernel's clock.

use herder_model::clock::Monotonic;

/// `CLOCK_MONOTONIC` in nanoseconds, as `bpf_ktime_get_ns()` gives it.
pub fn monotonic_now() -> Monotonic {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    Monotonic(part(now.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(now.tv_nsec)))
}
