//! What Kubernetes Events cost in a storm.

use super::section::{Section, number, table, text};
use anyhow::{Context, Result};
use serde_json::Value;

/// Per cent.
const GOAL: f64 = 20.0;

const OUTCOMES: [&str; 5] = ["created", "updated", "suppressed", "dropped", "failed"];

pub fn section(figures: &[Value]) -> Result<Section> {
    let mut rows = Vec::new();
    for figure in figures {
        let (cpu, kills) = (number(figure, "CPU ms")?, number(figure, "kills")?);
        let mut row = vec![
            text(figure, "events")?.to_owned(),
            format!("{kills:.0} in {:.1} s", number(figure, "seconds")?),
            format!("{cpu:.0} ms"),
            format!("{:.3} ms", cpu / kills),
        ];
        for outcome in OUTCOMES {
            row.push(format!("{:.0}", number(&figure["outcomes"], outcome)?));
        }
        rows.push(row);
    }
    let of = |switch: &str| {
        let each = figures.iter().filter(|figure| figure["events"] == switch);
        let each: Vec<f64> = each.map(|figure| number(figure, "CPU ms")).collect::<Result<_>>()?;
        let least = each.into_iter().min_by(f64::total_cmp);
        least.with_context(|| format!("no storm with --events {switch}"))
    };
    let (without, with) = (of("off")?, of("on")?);
    let more = (with / without - 1.0) * 100.0;
    let columns = ["--events", "kills", "CPU", "a kill"];
    Ok(Section {
        title: "Events in a storm of kills",
        goal: "< 20 % more CPU",
        found: format!("{with:.0} ms of CPU with, {without:.0} without: {more:+.0} %"),
        reached: (more < GOAL).into(),
        body: format!(
            "Sub-processes of 50 pods are killed as fast as the kernel can. CPU is the agent's, from before the first kill \
             until a minute after the last. The guest's API server uses no TLS, and closes the connection after each Event.\n\n{}",
            table(&[&columns[..], &OUTCOMES[..]].concat(), rows)
        ),
    })
}
