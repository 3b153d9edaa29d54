//! The figures that were measured last, by measure: a file that people and programs
//! read, and the page made from it.

use super::table;
use crate::command::workspace;
use anyhow::{Context, Result};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::PathBuf};

/// All figures, with the circumstances of each measure.
pub struct Kept(BTreeMap<String, Value>);

fn file(name: &str) -> PathBuf {
    workspace().join("docs").join(name)
}

impl Kept {
    /// Those of the file; none if there is no file.
    pub fn read() -> Result<Self> {
        let path = file("benchmarks.json");
        let Ok(text) = fs::read_to_string(&path) else { return Ok(Kept(BTreeMap::new())) };
        let kept = serde_json::from_str(&text);
        Ok(Kept(kept.with_context(|| format!("{} is no figures", path.display()))?))
    }

    /// Replaces a measure's figures.
    pub fn put(&mut self, measure: &str, result: Value) {
        self.0.insert(measure.to_owned(), result);
    }

    /// Writes the file and its page.
    pub fn write(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.0)? + "\n";
        fs::write(file("benchmarks.json"), text).context("cannot write the figures")?;
        fs::write(file("benchmarks.md"), self.page()?).context("cannot write their page")
    }

    fn page(&self) -> Result<String> {
        table::page(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_made_from_the_figures() {
        let page = fs::read_to_string(file("benchmarks.md")).unwrap();
        let made = Kept::read().unwrap().page().unwrap();
        assert!(page == made, "run `cargo xtask bench --render`");
    }
}
