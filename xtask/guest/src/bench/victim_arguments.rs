//! What `victimArguments` costs those who signal processes, and start and end them.

use super::{
    counted::{BURSTS, fork_and_exit, kill_of_child, prepare_signals, signal},
    figures::{found, size, spread},
    programs::{Herder, Output, Program},
    runs::tracepoints,
};
use crate::harness::sysctl::Sysctl;
use serde_json::json;

const HERDER: Herder = Herder {
    rules: "rules:\n- {name: matched, cgroups: ['/matched/*'], oomGroup: single-process, victimArguments: true}\n",
    flags: &["--kubernetes", "off", "--listen", "127.0.0.1:9469"],
    more: &[],
};

const TRACEPOINTS: [&str; 2] = ["signal_generate", "signal_deliver"];

/// Does something often, and gives the instructions of one time.
type Deed = fn() -> f64;

const DEEDS: [(&str, Deed); 3] =
    [("signal", signal), ("fork and exit", fork_and_exit), ("SIGKILL", kill_of_child)];

pub fn victim_arguments() {
    let turns = size("turns");
    prepare_signals();
    // Until the kernel has what it keeps for processes to come.
    (0..5).for_each(|_| count(&mut [vec![], vec![], vec![]]));
    let [mut without, mut with] = [[vec![], vec![], vec![]], [vec![], vec![], vec![]]];
    for _ in 0..turns {
        count(&mut without);
        let running = Program::Herder.start(Output::File, HERDER);
        count(&mut with);
        drop(running);
    }
    for (((what, _), without), with) in DEEDS.into_iter().zip(without).zip(with) {
        found(&json!({
            "program": "herder", "what": what,
            "counted": {"without": spread(without), "with": spread(with)},
        }));
    }
    counted_by_kernel();
}

/// Instructions of each deed. What a fork takes depends on what was forked before it, so that each
/// deed is done so often before the next.
fn count(each: &mut [Vec<f64>; 3]) {
    for ((_, deed), all) in DEEDS.iter().zip(each) {
        all.extend((0..BURSTS).map(|_| deed()));
    }
}

/// The programs' own instructions for each deed.
fn counted_by_kernel() {
    let running = Program::Herder.start(Output::File, HERDER);
    let _counted = Sysctl::set("kernel.bpf_stats_enabled", "1");
    for (what, deed) in DEEDS {
        let before = tracepoints(running.pid());
        (0..BURSTS).for_each(|_| {
            deed();
        });
        let after = tracepoints(running.pid());
        let ran = TRACEPOINTS.map(|name| {
            let runs = after[name].since(before[name]);
            let each = (runs.count > 0).then(|| runs.each());
            (name.to_owned(), json!({"runs": runs.count, "each": each}))
        });
        let times = BURSTS * super::counted::BURST as usize;
        found(&json!({
            "program": "herder", "counted by the kernel": what, "times": times,
            "programs": serde_json::Map::from_iter(ran),
        }));
    }
}
