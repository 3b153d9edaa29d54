//! What other processes do often, counted in instructions.
//!
//! The guest has one processor, whose clock goes on by a nanosecond with each
//! instruction: what is measured as time is a count of instructions, of the kernel's
//! and of everybody else's who runs meanwhile.

use crate::harness::{
    system::{forked, handle_signal},
    wait::monotonic,
};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};
use std::{thread::sleep, time::Duration};

/// What is counted at once, often enough that a timer's interrupt is seen as what it
/// is.
pub const BURST: u32 = 50;

/// Bursts of each turn.
pub const BURSTS: usize = 20;

/// Lets a process send itself signals.
pub fn prepare_signals() {
    handle_signal(Signal::USR1);
}

/// Instructions of one fork with the child's exit, and the wait for it.
pub fn fork_and_exit() -> f64 {
    instructions(|| wait_for(forked(|| ())))
}

/// Instructions of one signal that a process sends itself, and handles.
pub fn signal() -> f64 {
    instructions(|| kill_process(getpid(), Signal::USR1).expect("a signal"))
}

/// Instructions of one kill of a child that sleeps, and the wait for its end.
pub fn kill_of_child() -> f64 {
    let mut children: Vec<Pid> = (0..BURST).map(|_| forked(|| rest())).collect();
    sleep(Duration::from_millis(50));
    instructions(|| {
        let child = children.pop().expect("a child");
        kill_process(child, Signal::KILL).expect("a signal");
        wait_for(child);
    })
}

/// Sleeps for ever.
pub fn rest() -> ! {
    loop {
        sleep(Duration::from_secs(3600));
    }
}

/// Waits for a child's end.
pub fn wait_for(child: Pid) {
    waitpid(Some(child), WaitOptions::empty()).expect("its end");
}

fn instructions(mut run: impl FnMut()) -> f64 {
    let began = monotonic();
    for _ in 0..BURST {
        run();
    }
    (monotonic() - began) as f64 / f64::from(BURST)
}
