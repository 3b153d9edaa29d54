//! What the attached eBPF programs cost other processes.

use super::section::{Section, number, table, text};
use anyhow::{Context, Result};
use serde_json::Value;

/// Per cent.
const GOAL: f64 = 1.0;

const WHAT: [&str; 2] = ["fork and exit", "signal"];

pub fn section(figures: &[Value]) -> Result<Section> {
    let more = |figure: &Value, what: &str| {
        let median = |state: &str| number(&figure[what][state], "median");
        anyhow::Ok((median("with")? / median("without")? - 1.0) * 100.0)
    };
    let mut rows = Vec::new();
    for figure in figures {
        for what in WHAT {
            let at = |state: &str, name| {
                anyhow::Ok(format!("{:.0}", number(&figure[what][state], name)?))
            };
            rows.push(vec![
                format!("{what}, {}", text(figure, "program")?),
                at("without", "median")?,
                at("with", "median")?,
                format!("{:+.2} %", more(figure, what)?),
                at("without", "least")?,
                at("with", "least")?,
            ]);
        }
    }
    let herder = figures.iter().find(|figure| figure["program"] == "herder");
    let herder = herder.context("Herder was not measured")?;
    let [fork, signal] = [more(herder, WHAT[0])?, more(herder, WHAT[1])?];
    let columns = [
        "instructions",
        "without, median",
        "with, median",
        "more",
        "without, least",
        "with, least",
    ];
    Ok(Section {
        title: "Cost for other processes: fork, exit, signal",
        goal: "< 1 %",
        found: format!("fork and exit {fork:+.2} %, signal {signal:+.2} %"),
        reached: (fork < GOAL && signal < GOAL).into(),
        body: format!(
            "Instructions, not time (QEMU's `-icount`). Whatever else runs on the guest's one processor is in the count. oomkill attaches nothing \
             to these events, so its difference is noise. The child is a fork of a small static program and exits at once.\n\n{}",
            table(&columns, rows)
        ),
    })
}
