//! What the eBPF programs cost the OOM killer's walk over its candidates.

use super::section::{Section, number, table};
use anyhow::{Context, Result};
use serde_json::Value;

/// Instructions.
const GOAL: f64 = 2000.0;

pub fn section(figures: &[Value]) -> Result<Section> {
    let herder = figures.first().context("Herder was not measured")?;
    let [passed, entered] = [number(herder, "passed over")?, number(herder, "among the largest")?];
    Ok(Section {
        title: "Cost of a candidate in an OOM kill",
        goal: "≤ 2,000 instructions",
        found: format!("{passed:.0} instructions, {entered:.0} for one among the largest 16"),
        reached: (passed <= GOAL).into(),
        body: format!(
            "Instructions of the program that runs for each process which the OOM killer looks at, as the kernel counts the time of its programs \
             (`kernel.bpf_stats_enabled`), in a cgroup of {} processes. In a cgroup whose processes grow in the order in which the kernel looks at \
             them, each is among the largest so far.\n\n{}",
            herder["processes"],
            table(
                &["a process that is", "instructions"],
                [
                    vec!["passed over".to_owned(), format!("{passed:.0}")],
                    vec!["among the largest 16 so far".to_owned(), format!("{entered:.0}")],
                ]
            )
        ),
    })
}
