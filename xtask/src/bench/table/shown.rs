//! From a kill until it is shown.

use super::section::{Section, milliseconds, number, table, text};
use anyhow::{Context, Result};
use serde_json::Value;

/// How much longer than the floor Herder may take.
const GOAL: f64 = 1.5;

pub fn section(figures: &[Value]) -> Result<Section> {
    let of = |program: &str, output: &str, together: bool| {
        let mut figures = figures.iter();
        let found = figures.find(|figure| {
            figure["program"] == program
                && figure["output"] == output
                && figure["together"] == together
        });
        found.with_context(|| format!("no {program} by {output}"))
    };
    let at = |figure: &Value, since: &str, quantile: &str| number(&figure[since], quantile);
    let (herder, floor) = (of("herder", "pipe", false)?, of("oomkill", "terminal", false)?);
    let ratio = |quantile| {
        anyhow::Ok(at(herder, "since begin", quantile)? / at(floor, "since begin", quantile)?)
    };
    let (median, p99) = (ratio("median")?, ratio("p99")?);
    let mut rows = Vec::new();
    for figure in figures.iter().filter(|figure| figure["output"].is_string()) {
        let count = number(&figure["since begin"], "count")?;
        let together = if figure["together"] == true { "all at once" } else { "alone" };
        let (program, output) = (text(figure, "program")?, text(figure, "output")?);
        let mut row = vec![format!("{program}, {output}, {together}")];
        row.push(format!("{count} of {}", count + number(figure, "missing")?));
        for (since, quantile) in
            [("begin", "median"), ("begin", "p99"), ("mark", "median"), ("mark", "p99")]
        {
            let time = at(figure, &format!("since {since}"), quantile);
            row.push(time.map_or("–".into(), milliseconds));
        }
        rows.push(row);
    }
    let kernel = figures.iter().find(|figure| figure["program"] == "kernel");
    let kernel = kernel.context("nothing of the kernel")?;
    let columns = ["ms", "shown", "begin, median", "begin, p99", "mark, median", "mark, p99"];
    Ok(Section {
        title: "From the kill until it is shown",
        goal: "≤ 1.5 × the floor, oomkill of libbpf-tools",
        found: format!("median {median:.2} ×, p99 {p99:.2} ×"),
        reached: (median <= GOAL && p99 <= GOAL).into(),
        body: format!(
            "Times are those of the kernel's trace buffer and of the read at the other end of a program's output. *begin* is where the kernel \
             has chosen a victim and begins to kill it, which is where oomkill and bpftrace look; *mark* is where it has marked the victim, \
             which it did {:.2} ms later (median; p99 {:.2}). Herder tells a kill when the kernel is through with it, with all that it killed. The others \
             tell one pid, and no container. Goals are compared from *begin*, each alone, the floor on a terminal: into a pipe, oomkill \
             writes nothing until 4 KiB are full. Kills are {} ms apart or more.\n\n{}",
            number(&kernel["begin to mark"], "median")?,
            number(&kernel["begin to mark"], "p99")?,
            150,
            table(&columns, rows)
        ),
    })
}
