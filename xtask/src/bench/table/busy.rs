//! Programs that run with 1 while other processes want all processors.

use super::section::{Section, number, table, text};
use anyhow::{Context, Result};
use serde_json::Value;

/// The weight that the base of `deploy/` has by its request, with a runc before 1.3.2.
const BASE: &str = "4";

pub fn section(figures: &[Value]) -> Result<Section> {
    let first = |figure: &&Value| figure["before others"] == true;
    let ran = |figure: &Value| {
        anyhow::Ok(format!("{} of {}", number(figure, "ran with 1")?, number(figure, "programs")?))
    };
    let row = |figure: &Value| {
        let how = if first(&figure) { ", with CAP_SYS_NICE" } else { "" };
        anyhow::Ok(vec![format!("{}{how}", text(figure, "weight")?), ran(figure)?])
    };
    let rows = figures.iter().map(row).collect::<Result<Vec<_>>>()?;
    let allowed = figures.iter().find(first).context("SCHED_RR was not measured")?;
    let base = figures.iter().find(|figure| figure["weight"] == BASE && !first(figure));
    Ok(Section {
        title: "Container starts while other processes want all processors",
        goal: "no program runs with 1",
        found: format!(
            "{} with CAP_SYS_NICE; {} without it, at the CPU weight that `deploy/base` gives the agent",
            ran(allowed)?,
            ran(base.context("the base was not measured")?)?
        ),
        reached: (number(allowed, "ran with 1")? == 0.0).into(),
        body: format!(
            "Four processes spin, and containers are created as runc does it, four at once. The table has how many programs found 1 when they \
             started, by the `cpu.weight` of the agent's cgroup. CPU requests of 10m, 100m and 250m become weights of 1, 4 and 10 with runc before \
             1.3.2, and 4, 17 and 35 with later ones. A systemd service has 100.\n\n{}",
            table(&["cpu.weight", "ran with 1"], rows)
        ),
    })
}
