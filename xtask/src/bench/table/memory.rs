//! Resident memory.

use super::{Section, number, table, text};
use anyhow::{Context, Result};
use serde_json::Value;

/// MiB that Herder may take, by the number of containers.
const GOALS: [(f64, f64); 2] = [(250.0, 10.0), (1000.0, 16.0)];

pub fn section(figures: &[Value]) -> Result<Section> {
    let mut rows = Vec::new();
    let mut found = Vec::new();
    let mut reached = Vec::new();
    for figure in figures {
        let (count, program) = (number(figure, "containers")?, text(figure, "program")?);
        let mebibytes = |name| anyhow::Ok(number(&figure["kibibytes"], name)? / 1024.0);
        let resident = mebibytes("resident")?;
        let names = ["resident", "anonymous", "peak", "kernel"];
        let sizes = names.map(|name| mebibytes(name).map(|size| format!("{size:.1}")));
        let ready = if figure["ready"] == true { "" } else { ", not ready after two minutes" };
        let mut row = vec![format!("{program}, {count} containers{ready}")];
        row.extend(sizes.into_iter().collect::<Result<Vec<_>>>()?);
        rows.push(row);
        if program == "herder" {
            found.push(format!("{resident:.1} at {count}"));
            let goal = GOALS.iter().find(|(containers, _)| *containers == count);
            reached.extend(goal.map(|(_, most)| resident <= *most));
        }
    }
    found.first().context("Herder was not measured")?;
    let columns = ["MiB", "resident", "of that anonymous", "peak", "eBPF in the kernel"];
    Ok(Section {
        title: "Resident memory",
        goal: "≤ 10 MiB at 250 containers, ≤ 16 at 1,000",
        found: format!("{} MiB", found.join(", ")),
        reached: (reached.len() == GOALS.len()).then(|| reached.iter().all(|fits| *fits)),
        body: format!(
            "One process sleeps in each container. Herder has all of them from an API server, with pods as big as real ones, and steers \
             each. The others are asked for their metrics five times, if they have any. The shell loop is the shell with the program that it \
             runs at that moment.\n\n{}",
            table(&columns, rows)
        ),
    })
}
