//! A measure's part of the page, and what its figures are written with.

use anyhow::{Context, Result};
use serde_json::Value;
use std::fmt;

/// What a measure says.
pub struct Section {
    pub title: &'static str,
    /// What was to be reached.
    pub goal: &'static str,
    /// What was, in a few words, and whether that is enough.
    pub found: String,
    pub reached: Reached,
    pub body: String,
}

/// Whether a goal is reached.
pub enum Reached {
    Yes,
    /// Under a condition.
    If(&'static str),
    No,
    /// Too little was measured to decide.
    Unknown,
}

impl From<bool> for Reached {
    fn from(reached: bool) -> Self {
        if reached { Reached::Yes } else { Reached::No }
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reached::Yes => f.write_str("reached"),
            Reached::If(condition) => write!(f, "reached {condition}"),
            Reached::No => f.write_str("**short of it**"),
            Reached::Unknown => Ok(()),
        }
    }
}

/// A table of these columns; all but the first are figures.
pub fn table(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = format!("| {} |\n|---|", columns.join(" | "));
    table += &"---:|".repeat(columns.len() - 1);
    table.push('\n');
    for row in rows {
        table += &format!("| {} |\n", row.join(" | "));
    }
    table
}

/// Milliseconds with as many digits as say something.
pub fn milliseconds(time: f64) -> String {
    match time {
        ..1.0 => format!("{time:.3}"),
        1.0..100.0 => format!("{time:.1}"),
        _ => format!("{time:.0}"),
    }
}

pub fn number(value: &Value, name: &str) -> Result<f64> {
    value[name].as_f64().with_context(|| format!("no {name} in {value}"))
}

pub fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value[name].as_str().with_context(|| format!("no {name} in {value}"))
}
