//! How many containers' programs run with the runtime's 1, and how long it stays,
//! with Herder and with the shell loop that is commonly given as an answer.

use super::{
    crowd,
    figures::{found, size, spread},
    programs::{Herder, Output, Program},
};
use crate::{
    harness::api::Api,
    runtime::{
        bundle::{WEB, object},
        engine::{Engine, Running},
        starts::{Looked, started},
        trace::{Seen, Trace},
        web::RULES,
    },
};
use serde_json::json;
use std::time::Duration;

const HERDER: Herder = Herder { rules: RULES, ..crowd::HERDER };

/// Its component `busy-nodes`: it may run before ordinary tasks.
const BEFORE_OTHERS: Herder = Herder { more: &["sys_nice"], ..HERDER };

pub fn starts() {
    let _api = Api::serve(&[object(WEB, &[])]);
    let programs = [
        (Program::Herder, HERDER),
        (Program::Herder, BEFORE_OTHERS),
        (Program::Loop(1), HERDER),
        (Program::Loop(60), HERDER),
    ];
    for (program, herder) in programs {
        let (count, pause) = match program {
            // Starts at all times of its period.
            Program::Loop(period @ 2..) => {
                let count = size("starts-of-the-slow-loop");
                (count, Duration::from_secs(u64::from(period) * 4) / u32::try_from(count).unwrap())
            }
            Program::Loop(_) => (size("starts-of-the-loop"), Duration::ZERO),
            _ => (size("starts"), Duration::ZERO),
        };
        let running = program.start(Output::File, herder);
        let trace = Trace::start();
        let steered = |running: &Running| running.cgroup.oom_group() == "0";
        let looked = started(Engine::RUNC, count as u64, pause, &steered);
        let seen = trace.seen();
        drop(running);
        let took = |after: fn(&Looked, &[Seen]) -> Option<f64>| {
            spread(looked.iter().filter_map(|looked| after(looked, &seen)).collect())
        };
        found(&json!({
            "program": program.name(), "before others": !herder.more.is_empty(),
            "starts": looked.len(),
            "ran with 1": looked.iter().filter(|looked| looked.value == "1").count(),
            "to 0": took(to_zero), "to the program": took(to_program),
            "runtime": Engine::RUNC.version(),
        }));
    }
}

/// Milliseconds from the runtime's write of 1 to the first write of 0 after it.
fn to_zero(looked: &Looked, seen: &[Seen]) -> Option<f64> {
    let one = seen.iter().rposition(|seen| seen.what == looked.wrote("1"))?;
    let zero = seen[one..].iter().find(|seen| seen.what == looked.wrote("0"))?;
    Some((zero.at - seen[one].at) * 1e3)
}

/// Milliseconds from the runtime's write of 1 to the start of the program.
fn to_program(looked: &Looked, seen: &[Seen]) -> Option<f64> {
    let one = seen.iter().rfind(|seen| seen.what == looked.wrote("1"))?;
    let program = seen.iter().rfind(|seen| seen.what == looked.executed())?;
    Some((program.at - one.at) * 1e3)
}
