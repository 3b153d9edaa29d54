//! An hour of kills and churn.

use super::section::{Section, number, table};
use anyhow::{Context, Result};
use serde_json::Value;

/// KiB that the second half may have more resident than the middle: a page here or
/// there, no growth.
const FLAT: f64 = 256.0;

/// Rows of the table, about.
const ROWS: usize = 12;

pub fn section(figures: &[Value]) -> Result<Section> {
    let last = figures.last().context("nothing was measured")?;
    let middle = &figures[figures.len() / 2];
    let resident = |figure: &Value| number(&figure["kibibytes"], "resident");
    let row = |figure: &Value| {
        let count = |name| number(figure, name).map(|value| value.to_string());
        anyhow::Ok(vec![
            count("minute")?,
            count("pods gone")?,
            format!("{} of {}", count("told right")?, count("kills")?),
            format!("{:.2}", resident(figure)? / 1024.0),
            format!("{:.2}", number(&figure["kibibytes"], "anonymous")? / 1024.0),
            count("descriptors")?,
            count("threads")?,
            count("series")?,
        ])
    };
    let step = figures.len().div_ceil(ROWS).max(1);
    let shown = figures.iter().step_by(step);
    let rows = shown.chain((figures.len() > 1).then_some(last)).map(row);
    let rows = rows.collect::<Result<Vec<_>>>()?;
    let count = |name| number(last, name);
    let (kills, right, reported) = (count("kills")?, count("told right")?, count("told")?);
    let lost = count("lost")? + count("unseen")? + count("unattributed")?;
    let grew = resident(last)? - resident(middle)?;
    let more = count("descriptors")? - number(middle, "descriptors")?;
    let flat = grew <= FLAT && more <= 0.0;
    Ok(Section {
        title: "Soak",
        goal: "an hour of kills and churn: memory and descriptors flat, nothing lost",
        found: format!(
            "{} kills in {:.0} minutes, {} not reported; resident {grew:+.0} KiB and descriptors {more:+.0} in the second half",
            kills,
            count("seconds")? / 60.0,
            kills - right
        ),
        reached: (flat && right == kills && reported == kills && lost == 0.0).into(),
        body: format!(
            "Ten pods lose a sub-process every few seconds. About every four seconds another pod is created, killed and deleted; \
             Herder gets the names of the pods from an API server. The series of a pod stay for 15 minutes, so memory grows until then. The truth is what the \
             parents reaped. A row may lack kills of its last seconds; the last row has them all. Lost, unseen or without a name: {lost}.\n\n{}",
            table(
                &[
                    "minute",
                    "pods gone",
                    "reported right",
                    "resident, MiB",
                    "anonymous, MiB",
                    "descriptors",
                    "threads",
                    "series"
                ],
                rows
            )
        ),
    })
}
