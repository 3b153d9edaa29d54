//! The same commit once more, compiled from nothing in a clone at another path: a user who
//! builds a release gets the bytes that were signed.

use super::sign::SUMS;
use crate::{
    build::{Platforms, source},
    command::{git, output, program, run, run_timed, say, workspace},
};
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use std::{collections::BTreeSet, fs, path::Path};

/// Compares the checksums of a folder with those of another compilation.
pub fn compare(folder: &Path, platforms: Platforms) -> Result<()> {
    let commit = source().context("there is no commit that could be cloned")?.revision;
    ensure!(!commit.ends_with("-dirty"), "a clone would lack what differs from the commit");
    let clone = output()?.join("release-clone");
    let _ = fs::remove_dir_all(&clone);
    run(git(&workspace()).args(["clone", "--quiet", "--no-checkout", "."]).arg(&clone))?;
    run(git(&clone).args(["checkout", "--quiet", &commit]))?;
    let architecture = platforms.to_possible_value().context("an architecture without a name")?;
    let mut release = program("cargo");
    release.current_dir(&clone).env_remove("CARGO_TARGET_DIR");
    release.args(["xtask", "release", "--without-advisories", "--arch", architecture.get_name()]);
    run_timed("Compiling the release once more", &mut release)?;
    let [here, there] = [folder, &clone.join("target/herder/release")].map(sums);
    let (here, there) = (here?, there?);
    let other: Vec<_> = here.symmetric_difference(&there).map(String::as_str).collect();
    ensure!(other.is_empty(), "not the same when it is compiled again:\n{}", other.join("\n"));
    say(&format!("{} files are the same when they are compiled again.", here.len()));
    fs::remove_dir_all(clone).context("cannot remove the clone")
}

/// The lines of its checksums.
fn sums(folder: &Path) -> Result<BTreeSet<String>> {
    let file = folder.join(SUMS);
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    ensure!(!text.is_empty(), "{} is empty", file.display());
    Ok(text.lines().map(str::to_owned).collect())
}
