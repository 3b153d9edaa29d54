//! From the start of a program until it is ready; the time of a scrape.

use super::section::{Reached, Section, milliseconds, number, table, text};
use anyhow::{Context, Result};
use serde_json::Value;

/// Milliseconds until ready.
const GOAL: f64 = 200.0;

pub fn section(figures: &[Value]) -> Result<Section> {
    let mut rows = Vec::new();
    for figure in figures.iter().filter(|figure| figure["containers"].is_number()) {
        let at =
            |of: &str, quantile| number(&figure[of], quantile).map_or("–".into(), milliseconds);
        rows.push(vec![
            format!("{}, {} containers", text(figure, "program")?, figure["containers"]),
            at("ready", "median"),
            at("ready", "most"),
            at("steered", "median"),
            at("scrape", "median"),
            figure["series"].to_string(),
        ]);
    }
    let of = |program: &str| {
        let found = figures.iter().find(|figure| figure["program"] == program);
        found.with_context(|| format!("{program} was not measured"))
    };
    let ready = |program| number(&of(program)?["ready"], "median");
    let (herder, floor) = (ready("herder")?, ready("oomkill")?);
    let here = &of("herder alone, on the machine itself")?["ready"];
    let (native, counted) = (number(here, "median")?, ready("herder alone, in the guest")?);
    let estimate = herder * native / counted;
    let columns = ["ms", "ready, median", "most", "all steered", "scrape", "series"];
    Ok(Section {
        title: "Start-up with 1,000 containers",
        goal: "≤ 200 ms",
        found: format!(
            "{herder:.0} ms counted, {:.1} × oomkill's {floor:.0}: about {estimate:.0} ms on the machine itself",
            herder / floor
        ),
        reached: if estimate <= GOAL { Reached::If("by this estimate") } else { Reached::No },
        body: format!(
            "From the start of the process until `/readyz` says 200, or what the others have for it; oomkill and bpftrace are ready when \
             something is attached. *All steered* is when each container has the value that the rule wants, which Herder has to learn from \
             the API server first. The estimate is by an agent without containers, which is ready on the machine itself \
             after {native:.0} ms (median of {}; least {}, most {}), and after {counted:.0} counted.\n\n{}",
            of("herder alone, on the machine itself")?["starts"],
            milliseconds(number(here, "least")?),
            milliseconds(number(here, "most")?),
            table(&columns, rows)
        ),
    })
}
