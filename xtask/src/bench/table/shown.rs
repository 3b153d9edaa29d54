//! Time from a kill until a program shows it.

use super::section::{Section, milliseconds, number, table, text};
use anyhow::{Context, Result};
use serde_json::Value;

/// The most time that Herder may take, as a multiple of the floor's.
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
        goal: "at most 1.5 times as long as oomkill (of libbpf-tools), which serves as the floor",
        found: format!("median {median:.2} ×, p99 {p99:.2} ×"),
        reached: (median <= GOAL && p99 <= GOAL).into(),
        body: format!(
            "Each time begins at an event in the kernel's trace buffer and ends when the program's output is read. *begin*: the kernel has chosen a victim and \
             begins to kill it; oomkill and bpftrace look there. *mark*: the kernel has marked the victim, {:.2} ms later (median; p99 {:.2}). Herder \
             reports a kill when the kernel has finished it, with all processes that it took. The others report one PID, and no container. The goal \
             compares times from *begin*, with each program alone. oomkill, the floor, writes to a terminal here. If it \
             wrote to a pipe, it would hold its output back until it had 4 KiB. Kills are at least {} ms apart.\n\n{}",
            number(&kernel["begin to mark"], "median")?,
            number(&kernel["begin to mark"], "p99")?,
            150,
            table(&columns, rows)
        ),
    })
}
