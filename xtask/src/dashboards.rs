//! The dashboard, the rules and what is made from them, also for the Helm chart; the proof of both on a real
//! Prometheus; and a picture.

mod draw;
mod grafana;
mod import;
mod picture;
mod prometheus;
mod proof;
mod record;
mod rules;
mod schema;
mod source;
#[cfg(test)]
mod tests;
mod variants;

use crate::{
    chart,
    command::{made as made_directory, say, workspace},
    debian,
};
use anyhow::{Context, Result, bail};
use std::{fs, path::PathBuf};

#[derive(clap::Args, Default)]
pub struct Args {
    /// Write nothing; fail if what is written is stale, and run every expression
    /// on a real Prometheus.
    #[arg(long)]
    check: bool,
    /// Record the expositions that the check needs, anew, in a VM.
    #[arg(long)]
    record: bool,
    /// Draw the dashboard from the recorded run into this PNG file.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    if args.record {
        record::run()?;
    }
    if args.check {
        return prove();
    }
    if let Some(file) = &args.picture {
        return picture::run(file);
    }
    for (path, text) in made()? {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        say(&format!("wrote {}", path.display()));
    }
    Ok(())
}

/// Everything that shows the dashboard and the rules to be right.
pub fn prove() -> Result<()> {
    fresh()?;
    debian::need("promtool", "prometheus")?;
    rules::promtool()?;
    schema::check()?;
    proof::run()
}

/// Fails if what is committed is not what the sources make.
pub fn fresh() -> Result<()> {
    for (path, text) in made()? {
        if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            let path = path.strip_prefix(workspace()).unwrap_or(&path).display();
            bail!("{path} is stale: run `cargo xtask dashboards`");
        }
    }
    Ok(())
}

/// The files that are made, and what is in them.
fn made() -> Result<Vec<(PathBuf, String)>> {
    let dashboard = grafana::dashboard(&source::panels()?);
    let json = serde_json::to_string_pretty(&dashboard)? + "\n";
    let import = serde_json::to_string_pretty(&import::importable(&dashboard)?)? + "\n";
    let component = made_directory(workspace().join("deploy/components/prometheus-rule"))?;
    let mut made = chart::made(&rules::groups()?, &json)?;
    made.extend([
        (source::directory().join("herder.json"), json),
        (source::directory().join("herder-import.json"), import),
        (component.join("kustomization.yaml"), rules::KUSTOMIZATION.to_owned()),
        (component.join("prometheus-rule.yaml"), rules::object()?),
    ]);
    Ok(made)
}
