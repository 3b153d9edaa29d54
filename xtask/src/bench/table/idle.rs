//! Wake-ups and CPU time when nothing happens.

use super::section::{Section, number, table, text};
use anyhow::{Context, Result};
use serde_json::Value;

/// Wake-ups a second.
const GOAL: f64 = 1.0;

pub fn section(figures: &[Value]) -> Result<Section> {
    let row = |figure: &Value| {
        anyhow::Ok(vec![
            text(figure, "program")?.to_owned(),
            format!("{:.2}", number(figure, "wake-ups a second")?),
            format!("{:.2}", number(figure, "thousandths of a CPU")? / 10.0),
        ])
    };
    let rows = figures.iter().map(row).collect::<Result<Vec<_>>>()?;
    let herder = figures.iter().find(|figure| figure["program"] == "herder");
    let herder = herder.context("Herder was not measured")?;
    let wakes = number(herder, "wake-ups a second")?;
    Ok(Section {
        title: "Idle",
        goal: "≤ 1 wake-up a second",
        found: format!("{wakes:.2} a second"),
        reached: (wakes <= GOAL).into(),
        body: format!(
            "All programs at once, with {} idle containers, over {:.0} s without a scrape. Wake-ups are voluntary context switches of all threads. \
             The CPU is emulated.\n\n{}",
            herder["containers"],
            number(herder, "seconds")?,
            table(&["", "wake-ups a second", "% of a CPU"], rows)
        ),
    })
}
