//! Instructions without Herder and with it, side by side.

use super::section::{number, table};
use anyhow::Result;
use serde_json::Value;

const COLUMNS: [&str; 6] =
    ["instructions", "without, median", "with, median", "more", "without, least", "with, least"];

/// By how many per cent the median is larger with it.
pub fn more(figure: &Value) -> Result<f64> {
    let median = |state: &str| number(&figure[state], "median");
    Ok((median("with")? / median("without")? - 1.0) * 100.0)
}

/// A table of such figures, each with what was done.
pub fn compared<'a>(figures: impl IntoIterator<Item = (String, &'a Value)>) -> Result<String> {
    let row = |(what, figure): (String, &Value)| {
        let at = |state: &str, name| anyhow::Ok(format!("{:.0}", number(&figure[state], name)?));
        anyhow::Ok(vec![
            what,
            at("without", "median")?,
            at("with", "median")?,
            format!("{:+.2} %", more(figure)?),
            at("without", "least")?,
            at("with", "least")?,
        ])
    };
    Ok(table(&COLUMNS, figures.into_iter().map(row).collect::<Result<Vec<_>>>()?))
}
