//! What `cargo xtask bench` measures: Herder and the programs that do a part of the
//! same, side by side in one guest, as Debian ships them.
//!
//! Each measure is a process of its own, as the tests are, and gives its figures
//! as a line of JSON, which the host keeps. Nothing here fails because of a figure.

mod busy;
pub mod crowd;
mod events;
pub mod http;
mod idle;
mod lines;
pub mod memory;
mod overhead;
mod process;
mod programs;
mod ready;
pub mod seen;
pub mod shown;
pub mod soak;
mod starts;

use crate::{init::parameter, say};
use serde_json::{Value, json};

/// The measures by their names.
const MEASURES: &[(&str, fn())] = &[
    ("memory", memory::memory),
    ("shown", shown::shown),
    ("seen", seen::seen),
    ("starts", starts::starts),
    ("busy", busy::busy),
    ("ready", ready::ready),
    ("idle", idle::idle),
    ("overhead", overhead::overhead),
    ("events", events::events),
    ("soak", soak::soak),
];

/// Runs the measure of this name.
pub fn run(name: &str) {
    let (_, measure) = MEASURES.iter().find(|(known, _)| *known == name).expect("a measure");
    measure();
}

/// Gives the host a figure, or several.
fn found(figures: &Value) {
    say(&format!("figures: {figures}"));
}

/// How much of something is done, as the host says.
fn size(name: &str) -> usize {
    let text = parameter(name).unwrap_or_else(|| panic!("no herder.{name}"));
    text.parse().expect("a number")
}

/// What there is to know of many figures.
fn spread(mut all: Vec<f64>) -> Value {
    all.sort_by(f64::total_cmp);
    let at = |thousandths| quantile(&all, thousandths);
    json!({
        "count": all.len(), "least": at(0), "median": at(500), "p90": at(900), "p99": at(990),
        "most": at(1000),
    })
}

/// The value that so many of a thousand are not above.
fn quantile(sorted: &[f64], thousandths: usize) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(sorted.len() * thousandths / 1000).min(last)])
}
