//! Time from a container's start until its value is what the rule wants.

use super::section::{Reached, Section, milliseconds, number, table, text};
use anyhow::{Context, Result};
use serde_json::Value;

/// Milliseconds that the runtime's value may stay.
const GOAL: f64 = 1.0;

fn fits((with_one, p99): (f64, f64)) -> bool {
    with_one == 0.0 && p99 <= GOAL
}

pub fn section(figures: &[Value]) -> Result<Section> {
    let first = |figure: &Value| figure["before others"] == true;
    let mut rows = Vec::new();
    for figure in figures {
        let at = |of: &str, quantile| number(&figure[of], quantile).map(milliseconds);
        let how = if first(figure) { ", CAP_SYS_NICE" } else { "" };
        rows.push(vec![
            format!("{}{how}", text(figure, "program")?),
            format!("{} of {}", figure["ran with 1"], figure["starts"]),
            at("to 0", "median")?,
            at("to 0", "p99")?,
            at("to 0", "most")?,
            at("to the program", "least")?,
            at("to the program", "median")?,
        ]);
    }
    let herder = figures.iter().find(|figure| figure["program"] == "herder");
    let herder = herder.context("Herder was not measured")?;
    let before_others = figures.iter().find(|figure| first(figure));
    let before_others = before_others.context("Herder with CAP_SYS_NICE was not measured")?;
    let worst = |figure: &Value| {
        anyhow::Ok((number(figure, "ran with 1")?, number(&figure["to 0"], "p99")?))
    };
    let ((with_one, p99), (with_one_first, p99_first)) = (worst(herder)?, worst(before_others)?);
    let columns = [
        "ms",
        "ran with 1",
        "1 → 0, median",
        "p99",
        "most",
        "from 1 to the program, least",
        "median",
    ];
    Ok(Section {
        title: "From the start until it is enforced",
        goal: "no container's program starts while the value is 1; the correction comes at most 1 ms (p99) after the runtime's write",
        found: format!(
            "{with_one} of {} ran with 1, p99 {} ms; with CAP_SYS_NICE (`deploy/components/busy-nodes`) {with_one_first}, p99 {} ms",
            herder["starts"],
            milliseconds(p99),
            milliseconds(p99_first)
        ),
        reached: match [(with_one, p99), (with_one_first, p99_first)].map(fits) {
            [true, _] => Reached::Yes,
            [false, true] => Reached::If("with CAP_SYS_NICE"),
            [false, false] => Reached::No,
        },
        body: format!(
            "Containers of {}, four started at once. Each program first reads its own `memory.oom.group`. Times come from the kernel's trace \
             buffer and begin at the runtime's write of 1. *Shell loop* is the DaemonSet that is often recommended \
             (`find … memory.oom.group`, `echo 0`, `sleep`).\n\n{}",
            text(herder, "runtime")?,
            table(&columns, rows)
        ),
    })
}
