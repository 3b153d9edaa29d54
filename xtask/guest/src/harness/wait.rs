//! Waits for what the agent does at once on a real machine.

use rustix::time::{ClockId, clock_gettime};
use std::{
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

/// How long the agent may take for what it does at once on a real machine; an
/// emulated one is slow, and slower while others are emulated beside it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something holds.
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    within(PATIENCE, what, holds);
}

/// Waits so long until something holds.
pub fn within(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < deadline, "not in {patience:?}: {what}");
        sleep(Duration::from_millis(10));
    }
}

/// Whether a process is there and no zombie.
pub fn alive(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    Path::new(&format!("/proc/{pid}")).exists() && !status.contains("State:\tZ")
}

/// Nanoseconds of the clock that all processes have, and that the kernel's trace buffer uses too.
pub fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
