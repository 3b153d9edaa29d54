//! Figures for the host, and how much it asked for.

use crate::harness::{parameter::parameter, say::say};
use serde_json::{Value, json};

/// Gives the host a figure, or several.
pub fn found(figures: &Value) {
    say(&format!("figures: {figures}"));
}

/// How much of something is done, as the host says.
pub fn size(name: &str) -> usize {
    let text = parameter(name).unwrap_or_else(|| panic!("no herder.{name}"));
    text.parse().expect("a number")
}

/// What there is to know of many figures.
pub fn spread(mut all: Vec<f64>) -> Value {
    all.sort_by(f64::total_cmp);
    let at = |thousandths| quantile(&all, thousandths);
    json!({
        "count": all.len(), "least": at(0), "median": at(500), "p90": at(900), "p99": at(990),
        "most": at(1000),
    })
}

/// The value that so many of a thousand are not above.
fn quantile(sorted: &[f64], thousandths: usize) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(sorted.len() * thousandths / 1000).min(last)])
}
