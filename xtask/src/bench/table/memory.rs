//! Resident memory.

use super::section::{Reached, Section, number, table, text};
use anyhow::{Context, Result};
use serde_json::Value;

/// MiB that Herder may take, by the number of containers.
const GOALS: [(f64, f64); 2] = [(250.0, 10.0), (1000.0, 16.0)];

pub fn section(figures: &[Value]) -> Result<Section> {
    let mut rows = Vec::new();
    let mut found = Vec::new();
    let mut reached = Vec::new();
    let mut highest = 0.0_f64;
    for figure in figures {
        let (count, program) = (number(figure, "containers")?, text(figure, "program")?);
        let mebibytes = |name| figure["kibibytes"][name].as_f64().map(|size| size / 1024.0);
        let names = ["resident", "anonymous", "peak", "kernel"];
        let sizes = names.map(mebibytes);
        let ready = if figure["ready"] == true { "" } else { ", not ready in time" };
        let mut row = vec![format!("{program}, {count} containers{ready}")];
        row.extend(sizes.map(|size| size.map_or("–".into(), |size| format!("{size:.1}"))));
        rows.push(row);
        if let ("herder", Some(resident)) = (program, sizes[0]) {
            found.push(format!("{resident:.1} at {count}"));
            highest = highest.max(sizes[2].unwrap_or(0.0));
            let goal = GOALS.iter().find(|(containers, _)| *containers == count);
            reached.extend(goal.map(|(_, most)| resident <= *most));
        }
    }
    let herder: Vec<_> = figures.iter().filter(|figure| figure["program"] == "herder").collect();
    herder.first().context("Herder was not measured")?;
    let columns = ["MiB", "resident", "of that anonymous", "peak", "eBPF in the kernel"];
    Ok(Section {
        title: "Resident memory",
        goal: "≤ 10 MiB at 250 containers, ≤ 16 at 1,000",
        found: format!("{} MiB resident; peak {highest:.1}", found.join(", ")),
        reached: if reached.len() < GOALS.len() {
            Reached::Unknown
        } else {
            reached.iter().all(|fits| *fits).into()
        },
        body: format!(
            "One process sleeps in each container. Herder learns all containers from an API server and enforces the value of each. The pods \
             that this server sends are as large as real ones. The other programs are asked for their metrics five times, if they have any. \
             *Shell loop* is the shell \
             together with the program that it runs at that moment.{}\n\n{}",
            parts(&herder)?,
            table(&columns, rows)
        ),
    })
}

/// What Herder's memory is made of, and what it was at its start.
fn parts(herder: &[&Value]) -> Result<String> {
    let size = |figure: &Value, of: &str, name| number(&figure[of], name);
    let now = "kibibytes";
    let [first, .., last] = herder else { return Ok(String::new()) };
    let more = number(last, "containers")? - number(first, "containers")?;
    let of_file = |figure: &&Value| {
        let pages = size(figure, now, "resident")? - size(figure, now, "anonymous")?;
        anyhow::Ok(format!("{:.1}", pages / 1024.0))
    };
    let file = herder.iter().map(of_file).collect::<Result<Vec<_>>>()?.join(", ");
    let each = (size(last, now, "anonymous")? - size(first, now, "anonymous")?) / more;
    let early = |figure: &&Value| {
        let resident = size(figure, "kibibytes unasked", "resident")? / 1024.0;
        anyhow::Ok(format!("{resident:.1}"))
    };
    let early = herder.iter().map(early).collect::<Result<Vec<_>>>()?.join(", ");
    Ok(format!(
        " Of Herder's resident memory {file} MiB are pages of its program's file, and each container adds {each:.1} KiB. Ten seconds after \
         its start the agent frees what only the start needs. Before that, three seconds after it was ready, it had {early} MiB resident."
    ))
}
