//! What Kubernetes Events cost the agent in a storm of kills, beside the same storm
//! without them.

use super::{
    crowd,
    figures::{found, size},
    process::Work,
    seen,
};
use crate::harness::{agent::Agent, api::Api, http, wait::within};
use serde_json::json;
use std::{thread::sleep, time::Duration};

/// Of each switch, in turns: no two storms are the same.
const TURNS: usize = 2;

/// Until what was put off is written too.
const AFTER: Duration = Duration::from_secs(60);

const OUTCOMES: [&str; 5] = ["created", "updated", "suppressed", "dropped", "failed"];

pub fn events() {
    let kills = size("kills") / seen::MATCHED;
    let _api = Api::serve(&seen::pods(0));
    for turn in 0..TURNS {
        for switch in ["off", "on"] {
            storm(kills, switch, turn);
        }
    }
}

fn storm(kills: usize, switch: &str, turn: usize) {
    let flags = ["--kubernetes", "on", "--node-name", "node-1", "--events", switch];
    let agent = Agent::start_with(seen::HERDER.rules, &flags);
    let mut before = Work::default();
    let (truth, took) = seen::storm(kills, || {
        crowd::wait_until_steered(seen::MATCHED);
        // Events that the rule holds are none of a storm.
        sleep(AFTER);
        before = Work::of(agent.pid());
    });
    let kills = truth.values().sum::<u64>();
    let count = |text: &str| http::total(text, "herder_oom_kills_total{");
    within(Duration::from_secs(60), "all kills are counted", || {
        count(&agent.get("/metrics")) == kills
    });
    sleep(AFTER);
    let work = Work::of(agent.pid());
    let text = agent.get("/metrics");
    let outcomes = OUTCOMES.map(|outcome| {
        let series = format!("herder_events_total{{result=\"{outcome}\"}}");
        (outcome.to_owned(), http::metric(&text, &series).unwrap_or(0).into())
    });
    found(&json!({
        "events": switch, "turn": turn, "kills": kills, "seconds": took.as_secs_f64(),
        "CPU ms": (work.cpu - before.cpu) as f64 / 1e6, "slept": work.slept - before.slept,
        "outcomes": serde_json::Map::from_iter(outcomes),
    }));
}
