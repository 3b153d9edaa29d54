//! Builds the agent as one static program that embeds the eBPF object, and the
//! guest that tests it.

use crate::{
    build_ebpf,
    command::{can_install, program, run_timed, say, typed, workspace},
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

/// The object, then the agent.
pub fn agent(args: &Args) -> Result<PathBuf> {
    build_ebpf::run(&build_ebpf::Args { install: !args.no_install && can_install(), log: false })?;
    run_timed(
        "Building the agent",
        cargo("release").args(["--package", "herder-agent", "--bin", "herder-agent"]),
    )?;
    Ok(workspace().join("target").join(TARGET).join("release/herder-agent"))
}

/// All that a VM needs.
pub fn for_vm() -> Result<Built> {
    Ok(Built { agent: agent(&Args::default())?, guest: guest()? })
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
    command
        .current_dir(workspace())
        .args(["build", "--profile", profile, "--locked", "--quiet", "--target", TARGET])
        // Only for the target, so that build scripts stay as they are.
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static");
    command
}
