//! The same commit, compiled once more from another copy of it in another place. Where
//! [`proof`](super::proof) shows that the same programs are packed into the same bytes, this shows
//! that the programs are the same.

use super::sign::SUMS;
use crate::{
    build::{self, Platforms},
    command::{git, output, program, run, run_timed, say, workspace},
};
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use std::{fs, path::Path};

/// Compares with a folder that has checksums.
pub fn build(platforms: Platforms, folder: &Path) -> Result<()> {
    let source = build::source().context("there is no commit to build again")?;
    ensure!(!source.revision.ends_with("-dirty"), "files differ from the commit");
    let copy = output()?.join("again");
    let _ = fs::remove_dir_all(&copy);
    let mut clone = git(&workspace());
    run(clone.args(["clone", "--quiet", "--shared", "--no-checkout", "."]).arg(&copy))?;
    run(git(&copy).args(["checkout", "--quiet", &source.revision]))?;
    let name = platforms.to_possible_value().context("no name")?.get_name().to_owned();
    let mut release = program("cargo");
    release.current_dir(&copy).args(["xtask", "release", "--without-advisories", "--arch", &name]);
    run_timed("Making the release again, elsewhere", &mut release)?;
    let sums = |folder: &Path| {
        fs::read_to_string(folder.join(SUMS))
            .with_context(|| format!("no checksums in {}", folder.display()))
    };
    let (one, other) = (sums(folder)?, sums(&copy.join("target/herder/release"))?);
    for (one, other) in one.lines().zip(other.lines()) {
        ensure!(one == other, "not the same when it is built again:\n{one}\n{other}");
    }
    ensure!(one == other, "not the same files when it is built again");
    fs::remove_dir_all(&copy)?;
    say(&format!("{} files have the same bytes when they are built again.", one.lines().count()));
    Ok(())
}
