//! What the attached programs cost those who only start, end, and signal processes.

use super::{
    counted::{BURSTS, fork_and_exit, prepare_signals, signal},
    figures::{found, size, spread},
    programs::{Herder, Output, Program},
};
use crate::harness::agent::MATCHED;
use serde_json::json;

const HERDER: Herder = Herder { rules: MATCHED, flags: &["--kubernetes", "off"], more: &[] };

pub fn overhead() {
    let turns = size("turns");
    prepare_signals();
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
        each[0].push(fork_and_exit());
        each[1].push(signal());
    }
}
