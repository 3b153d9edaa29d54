//! Builds the agent as one static program that embeds the eBPF object, and the
//! guest that tests it.

mod arm64;

use crate::{
    build_ebpf,
    command::{asked, can_install, program, run_timed, say, typed, workspace},
};
use anyhow::{Context, Result};
use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

/// glibc's target, linked statically: a static-pie runs in a bare initramfs and
/// in an image made from scratch, and no musl target has to be installed.
const TARGET: &str = "x86_64-unknown-linux-gnu";

#[derive(clap::Args, Default)]
pub struct Args {
    /// Say what is missing instead of installing it.
    #[arg(long)]
    pub no_install: bool,
    /// Tell the commit in herder_build_info. The agent is then linked anew for
    /// every commit.
    #[arg(long)]
    pub revision: bool,
}

impl Args {
    /// As images and releases are built.
    pub fn released() -> Self {
        Args { no_install: false, revision: true }
    }
}

/// What the workspace was checked out from.
pub struct Source {
    /// The commit, with `-dirty` if files differ from it.
    pub revision: String,
    /// When the commit was made, RFC 3339, UTC.
    pub time: String,
}

/// The commit; none where there is no git or no repository.
pub fn source() -> Option<Source> {
    let git = |arguments: &[&str]| {
        let mut git = program("git");
        git.current_dir(workspace()).env("TZ", "UTC").args(arguments);
        asked(&mut git).map(|text| text.trim().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let time = git(&["log", "-1", "--date=format-local:%Y-%m-%dT%H:%M:%SZ", "--format=%cd"])?;
    let dirty = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(Source { revision: commit + if dirty { "-dirty" } else { "" }, time })
}

/// What a VM needs.
pub struct Built {
    /// The agent.
    pub agent: PathBuf,
    /// The guest tests, which are the VM's init.
    pub guest: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    let agent = agent(args)?;
    let size = fs::metadata(&agent)?.len();
    say(&format!("{}: {size} bytes", agent.display()));
    Ok(())
}

/// An architecture, as images name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Architecture {
    /// x86-64, with the toolchain that builds everything.
    #[default]
    Amd64,
    /// AArch64, with Debian's cross toolchain.
    Arm64,
}

impl Architecture {
    /// The name in an image's description.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Amd64 => "amd64",
            Architecture::Arm64 => "arm64",
        }
    }
}

/// What is to be in an image; only the agent has a revision.
pub fn for_image(package: &str, architecture: Architecture) -> Result<PathBuf> {
    match (architecture, package) {
        (Architecture::Amd64, "herder-agent") => agent(&Args::released()),
        (Architecture::Amd64, _) => {
            run_timed("Building it", cargo("release").args(["--package", package]))?;
            Ok(workspace().join("target").join(TARGET).join("release").join(package))
        }
        (Architecture::Arm64, _) => arm64::build(package),
    }
}

/// The object, then the agent.
pub fn agent(args: &Args) -> Result<PathBuf> {
    build_ebpf::run(&build_ebpf::Args { install: !args.no_install && can_install(), log: false })?;
    let mut command = cargo("release");
    command.args(["--package", "herder-agent", "--bin", "herder-agent"]);
    if let Some(source) = source().filter(|_| args.revision) {
        command.env("HERDER_REVISION", source.revision);
    }
    run_timed("Building the agent", &mut command)?;
    Ok(workspace().join("target").join(TARGET).join("release/herder-agent"))
}

/// All that a VM needs.
pub fn for_vm(args: &Args) -> Result<Built> {
    Ok(Built { agent: agent(args)?, guest: guest()? })
}

fn guest() -> Result<PathBuf> {
    let mut command = cargo("guest");
    command.args(["--package", "herder-agent", "--test", "guest"]);
    run_timed("Building the guest tests", &mut command)?;
    // Run again, which only prints where the result is.
    command.args(["--message-format", "json"]).stderr(Stdio::null());
    let output = command.output().with_context(|| format!("cannot run `{}`", typed(&command)))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let marker = "\"executable\":\"";
    let executables = text.lines().filter(|line| line.contains("\"name\":\"guest\""));
    let path = executables.filter_map(|line| line.split(marker).nth(1)?.split('"').next()).next();
    path.map(PathBuf::from).context("cargo named no executable of the guest tests")
}

fn cargo(profile: &str) -> Command {
    let mut command = program("cargo");
    let flags = ["-Ctarget-feature=+crt-static".to_owned()].into_iter().chain(build_ebpf::remap());
    command
        .current_dir(workspace())
        .args(["build", "--profile", profile, "--locked", "--quiet", "--target", TARGET])
        // With --target these are not for build scripts.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.collect::<Vec<_>>().join("\x1f"));
    command
}
