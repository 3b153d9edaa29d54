//! The two ways into a cluster: the Helm chart as Helm packs it, and `deploy/` for kustomize.

use super::VERSION;
use crate::{
    command::{asked, git, made, output, workspace},
    helm::{HELMS, Helm},
    pack,
};
use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use std::{fs, io::Read, path::Path};

/// The name of the chart's archive, as Helm gives it.
pub fn name() -> String {
    format!("herder-{VERSION}.tgz")
}

/// Lets Helm pack the chart, and packs what is in that again: Helm puts the time into it.
pub fn write(folder: &Path) -> Result<()> {
    let (major, package) = HELMS[HELMS.len() - 1];
    let helm = Helm::get(major, package)?;
    let scratch = made(output()?.join("chart-release"))?;
    let to = scratch.display().to_string();
    helm.run(&["package", "--destination", &to], &workspace().join("deploy/helm/herder"))?;
    let packed = fs::read(scratch.join(name()))
        .with_context(|| format!("Helm did not write {}: is its version another?", name()))?;
    let mut files = Vec::new();
    let mut archive = tar::Archive::new(GzDecoder::new(packed.as_slice()));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        files.push((entry.path()?.display().to_string(), bytes));
    }
    files.sort();
    let named = files.iter().map(|(name, bytes)| (name.clone(), 0o644, bytes.as_slice()));
    let file = folder.join(name());
    fs::write(&file, pack::gzip(&pack::tar(named)?)?)?;
    // Both Helms take it.
    for (major, package) in HELMS {
        let shown = Helm::get(major, package)?.run(&["show", "chart"], &file)?;
        ensure!(shown.contains(&format!("version: {VERSION}")), "Helm {major} shows {shown}");
        Helm::get(major, package)?.run(&["template", "herder"], &file)?;
    }
    Ok(())
}

/// `deploy/` as it was committed, without the chart.
pub fn write_kustomize(folder: &Path) -> Result<()> {
    let mut list = git(&workspace());
    list.args(["ls-files", "deploy", ":!deploy/helm"]);
    let list = asked(&mut list).context("git does not list deploy/")?;
    let top = format!("herder-kustomize-{VERSION}");
    let read = |name: &str| Ok((name.to_owned(), fs::read(workspace().join(name))?));
    let files = list.lines().map(read).collect::<Result<Vec<_>>>()?;
    let files = files.iter().map(|(name, bytes)| {
        let below = name.strip_prefix("deploy/").unwrap_or(name);
        (format!("{top}/{below}"), 0o644, bytes.as_slice())
    });
    let archive = pack::gzip(&pack::tar(files)?)?;
    fs::write(folder.join(format!("{top}.tar.gz")), archive).context("cannot write deploy/")
}
