//! What people write: dashboards/panels.yaml and dashboards/alerts.yaml.

use crate::command::workspace;
use anyhow::{Context, Result};
use serde::{Deserialize, de::DeserializeOwned};
use std::{fs, path::PathBuf};

/// The dashboard before it is laid out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub title: String,
    pub uid: String,
    pub description: String,
    pub rows: Vec<Row>,
}

/// Panels under one heading.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub title: String,
    pub panels: Vec<Panel>,
}

/// One panel.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    pub title: String,
    pub kind: Kind,
    /// Of 24 columns.
    pub width: u32,
    /// Grafana's name of the unit.
    #[serde(default)]
    pub unit: Option<String>,
    /// Whether a number above 0 is good or bad.
    #[serde(default)]
    pub good: Option<Good>,
    /// What it shows, and what to do when that looks bad.
    pub does: String,
    pub queries: Vec<Query>,
}

/// How a panel looks.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Stat,
    Lines,
    /// Stacked.
    Bars,
    Heatmap,
    Table,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Good {
    More,
    Less,
}

/// One expression.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    pub legend: String,
    pub expr: String,
    /// Only the newest value.
    #[serde(default)]
    pub instant: bool,
}

/// A file of Prometheus rules.
#[derive(Deserialize)]
pub struct Rules {
    pub groups: Vec<Group>,
}

#[derive(Deserialize)]
pub struct Group {
    pub rules: Vec<Rule>,
}

/// An alert, or a recording rule.
#[derive(Deserialize)]
pub struct Rule {
    pub alert: Option<String>,
    pub record: Option<String>,
    pub expr: String,
}

impl Rule {
    /// What it is called.
    pub fn name(&self) -> &str {
        self.alert.as_deref().or(self.record.as_deref()).unwrap_or("a rule without a name")
    }
}

/// The directory of all this.
pub fn directory() -> PathBuf {
    workspace().join("dashboards")
}

/// The panels.
pub fn panels() -> Result<Source> {
    yaml("panels.yaml")
}

/// The rules.
pub fn rules() -> Result<Rules> {
    yaml("alerts.yaml")
}

fn yaml<T: DeserializeOwned>(name: &str) -> Result<T> {
    let path = directory().join(name);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} is wrong", path.display()))
}
