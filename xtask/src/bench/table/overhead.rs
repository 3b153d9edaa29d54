//! What the attached eBPF programs cost other processes.

use super::{
    compared::{compared, more},
    section::{Section, text},
};
use anyhow::{Context, Result};
use serde_json::Value;

/// Per cent.
const GOAL: f64 = 1.0;

const WHAT: [&str; 2] = ["fork and exit", "signal"];

pub fn section(figures: &[Value]) -> Result<Section> {
    let mut rows = Vec::new();
    for figure in figures {
        for what in WHAT {
            rows.push((format!("{what}, {}", text(figure, "program")?), &figure[what]));
        }
    }
    let herder = figures.iter().find(|figure| figure["program"] == "herder");
    let herder = herder.context("Herder was not measured")?;
    let [fork, signal] = [more(&herder[WHAT[0]])?, more(&herder[WHAT[1]])?];
    Ok(Section {
        title: "Cost for other processes: fork, exit, signal",
        goal: "< 1 %",
        found: format!("fork and exit {fork:+.2} %, signal {signal:+.2} %"),
        reached: (fork < GOAL && signal < GOAL).into(),
        body: format!(
            "Instructions, not time (QEMU's `-icount`). Whatever else runs on the guest's one processor is in the count. oomkill attaches nothing \
             to these events, so its difference is noise. The child is a fork of a small static program and exits at once.\n\n{}",
            compared(rows)?
        ),
    })
}
