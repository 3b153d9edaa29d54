//! A child: grows by a MiB at a time, and computes in between.

use crate::said::{Outcome, say};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::{
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

const MIB: usize = 1 << 20;
/// How often it prints its size, MiB.
const STEP: usize = 16;
/// How long it computes and rests in turn.
const TURN: Duration = Duration::from_millis(20);

/// Grows until it is killed.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Outcome<()> {
    let numbers: Result<Vec<u32>, _> = arguments.map(|text| text.parse()).collect();
    let numbers = numbers.map_err(|error| format!("child: {error}"))?;
    let [number, mib_per_second, cpu_percent] = numbers[..] else {
        return Err("child takes NUMBER MIB_PER_SECOND CPU_PERCENT".into());
    };
    // Not to outlive an init that is killed where it is not process 1.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let each = Duration::from_secs(1) / mib_per_second.max(1);
    let mut memory = Vec::new();
    loop {
        // Not zero, so that every page is the process's own.
        memory.push(black_box(vec![1_u8; MIB]));
        if memory.len() % STEP == 0 {
            say(&format!("child {number} (pid {}): {} MiB", std::process::id(), memory.len()))?;
        }
        work(each, cpu_percent);
    }
}

/// Burns a share of a CPU for some time.
fn work(time: Duration, percent: u32) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        let busy = Instant::now() + TURN * percent / 100;
        let mut hash = 0_u64;
        while Instant::now() < busy.min(end) {
            hash = black_box(hash.wrapping_mul(31).wrapping_add(1));
        }
        let rest = TURN * (100 - percent.min(100)) / 100;
        thread::sleep(rest.min(end.saturating_duration_since(Instant::now())));
    }
}
