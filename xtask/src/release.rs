//! All artefacts of a version in one folder, with their checksums, their bills of materials and,
//! given a key, a signature. The same programs are packed into the same bytes.

mod again;
mod artefacts;
mod chart;
mod krew;
mod notes;
mod packages;
mod proof;
mod publish;
mod sbom;
mod sign;

use crate::{
    build::{self, Architecture, Platforms},
    command::{output, say},
    deny,
};
use anyhow::{Result, bail, ensure};
use artefacts::{Image, Programs};
use std::{fs, path::Path};

/// The version that is released: Cargo's.
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(clap::Args)]
pub struct Args {
    /// What to build for.
    #[arg(long, value_enum, default_value = "all")]
    arch: Platforms,
    /// cosign's private key, a file or `env://VARIABLE`; its password is in COSIGN_PASSWORD.
    /// Without it nothing is signed.
    #[arg(long)]
    key: Option<String>,
    /// Push the images and the chart to this registry, e.g. `ghcr.io/OWNER`; with
    /// REGISTRY_USER and REGISTRY_PASSWORD from the environment.
    #[arg(long, value_name = "REGISTRY", requires = "key")]
    push: Option<String>,
    /// Make a release of this tag on GitHub, with `gh`.
    #[arg(long, value_name = "TAG", requires = "key")]
    publish: Option<String>,
    /// Go on where the database of advisories cannot be fetched.
    #[arg(long)]
    without_advisories: bool,
    /// Pack everything twice and compare it, sign with a throw-away key, and push to a
    /// registry of this machine.
    #[arg(long, conflicts_with_all = ["key", "push", "publish"])]
    check: bool,
    /// With --check: compile everything again in a clone of the commit at another path, and compare
    /// that too. It takes as long as the first time.
    #[arg(long, requires = "check")]
    again: bool,
    /// Build nothing: sign, push and publish what an earlier run left in the folder, so that
    /// nothing is compiled where the key is.
    #[arg(long, requires = "key", conflicts_with = "check")]
    finish: bool,
    /// Only get the programs that --finish runs.
    #[arg(long, conflicts_with_all = ["key", "check"])]
    tools: bool,
}

pub fn run(args: &Args) -> Result<()> {
    if let Some(tag) = &args.publish {
        ensure!(*tag == format!("v{VERSION}"), "the tag {tag} is not that of version {VERSION}");
    }
    let goes_out = args.push.is_some() || args.publish.is_some();
    if goes_out && build::source().is_none_or(|from| from.revision.ends_with("-dirty")) {
        bail!("what is published has to be a commit: files differ from it");
    }
    if args.tools {
        return publish::tools();
    }
    let folder = output()?.join("release");
    if args.check {
        proof::prove(&programs(args)?)?;
        return if args.again { again::compare(&folder, args.arch) } else { Ok(()) };
    }
    let images = if args.finish { handed_over(&folder)? } else { make(args, &folder)? };
    finish(&folder, args.key.as_deref())?;
    if let Some(registry) = &args.push {
        publish::push(&folder, &images, registry, args.key.as_deref())?;
    }
    if let Some(tag) = &args.publish {
        publish::github(&folder, tag)?;
    }
    Ok(())
}

fn programs(args: &Args) -> Result<Programs> {
    deny::check_for_release(args.without_advisories || args.check)?;
    Programs::build(args.arch)
}

fn make(args: &Args, folder: &Path) -> Result<Vec<Image>> {
    let images = artefacts::write(&programs(args)?, folder)?;
    sign::sums(folder)?;
    Ok(images)
}

/// What another run made, if that is all that is in the folder.
fn handed_over(folder: &Path) -> Result<Vec<Image>> {
    sign::unchanged(folder)?;
    artefacts::found(folder)
}

/// Tries with one architecture all that makes a release trustworthy.
pub fn prove_for(architecture: Architecture) -> Result<()> {
    let platforms = match architecture {
        Architecture::Amd64 => Platforms::Amd64,
        Architecture::Arm64 => Platforms::Arm64,
    };
    proof::prove(&Programs::build(platforms)?)
}

/// Signs the checksums, given a key.
fn finish(folder: &Path, key: Option<&str>) -> Result<()> {
    match key {
        Some(key) => sign::sign(folder, key)?,
        None => say("NOT SIGNED: no --key was given"),
    }
    let mut total = 0;
    for entry in fs::read_dir(folder)? {
        total += entry?.metadata()?.len();
    }
    say(&format!("{}: {total} bytes", folder.display()));
    Ok(())
}
