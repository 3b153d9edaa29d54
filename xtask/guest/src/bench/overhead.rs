//! What the attached programs cost those who only start, end, and signal processes.
//!
//! The guest has one processor, whose clock goes on by a nanosecond with each
//! instruction: what is measured as time is a count of instructions, of the kernel's
//! and of everybody else's who runs meanwhile.

use super::{
    figures::{found, size, spread},
    programs::{Herder, Output, Program},
};
use crate::harness::{
    agent::MATCHED,
    system::{forked, handle_signal},
    wait::monotonic,
};
use rustix::process::{Signal, WaitOptions, getpid, kill_process, waitpid};
use serde_json::json;

const HERDER: Herder = Herder { rules: MATCHED, flags: &["--kubernetes", "off"], more: &[] };

/// What is counted at once, often enough that a timer's interrupt is seen as what it
/// is.
const BURST: u32 = 50;

/// Bursts of each turn.
const BURSTS: usize = 20;

pub fn overhead() {
    let turns = size("turns");
    handle_signal(Signal::USR1);
    // Until the kernel has what it keeps for processes to come.
    (0..5).for_each(|_| count(&mut [vec![], vec![]]));
    // oomkill has nothing attached to any of this: it shows what is only noise.
    for program in [Program::Herder, Program::Oomkill] {
        let (mut without, mut with) = ([vec![], vec![]], [vec![], vec![]]);
        for _ in 0..turns {
            count(&mut without);
            let running = program.start(Output::File, HERDER);
            count(&mut with);
            drop(running);
        }
        let [forks, signals] = without;
        let [forks_with, signals_with] = with;
        found(&json!({
            "program": program.name(),
            "fork and exit": {"without": spread(forks), "with": spread(forks_with)},
            "signal": {"without": spread(signals), "with": spread(signals_with)},
        }));
    }
}

/// Instructions for one fork with its exit, and for one signal.
fn count(each: &mut [Vec<f64>; 2]) {
    for _ in 0..BURSTS {
        each[0].push(instructions(|| {
            let child = forked(|| ());
            waitpid(Some(child), WaitOptions::empty()).expect("its end");
        }));
        each[1].push(instructions(|| {
            kill_process(getpid(), Signal::USR1).expect("a signal");
        }));
    }
}

fn instructions(mut run: impl FnMut()) -> f64 {
    let began = monotonic();
    for _ in 0..BURST {
        run();
    }
    (monotonic() - began) as f64 / f64::from(BURST)
}
