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
    let columns = ["ms", "ready, median", "most", "all enforced", "scrape", "series"];
    Ok(Section {
        title: "Start-up with 1,000 containers",
        goal: "≤ 200 ms",
        found: format!(
            "{herder:.0} ms counted, {:.1} × oomkill's {floor:.0}; estimated {estimate:.0} ms on the machine itself",
            herder / floor
        ),
        reached: if estimate <= GOAL { Reached::If("by this estimate") } else { Reached::No },
        body: format!(
            "*Ready* is the time from the start of the process until `/readyz` answers 200, or the program's equivalent; oomkill and bpftrace are \
             ready when something is attached. *All enforced* is the time until each container has the value that the rule wants; Herder first learns \
             the pods from the API server. The estimate uses an agent without containers: on the machine itself it is ready \
             after {native:.0} ms (median of {}; least {}, most {}), in the guest after {counted:.0} ms counted.\n\n{}",
            of("herder alone, on the machine itself")?["starts"],
            milliseconds(number(here, "least")?),
            milliseconds(number(here, "most")?),
            table(&columns, rows)
        ),
    })
}
