//! Builds the agent as one static program that embeds the eBPF object, and the
//! guest that tests it.

mod arm64;
mod pages;
mod source;

pub use source::{Source, source};

use crate::{
    build_ebpf,
    command::{self, asked, can_install, output, program, run_timed, say, workspace},
};
use anyhow::{Context, Result};
use std::{fs, path::PathBuf, process::Command};

/// glibc's target, linked statically: a static-pie runs in a bare initramfs and
/// in an image made from scratch, and no musl target has to be installed.
const TARGET: &str = "x86_64-unknown-linux-gnu";

#[derive(clap::Args, Default)]
pub struct Args {
    /// Say what is missing instead of installing it.
    #[arg(long)]
    pub no_install: bool,
    /// Export the commit in herder_build_info. The agent is then linked anew for
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

    /// The name that `uname -m` gives.
    pub fn machine(self) -> &'static str {
        match self {
            Architecture::Amd64 => "x86_64",
            Architecture::Arm64 => "aarch64",
        }
    }

    /// Rust's name of what is built for.
    pub fn target(self) -> &'static str {
        match self {
            Architecture::Amd64 => TARGET,
            Architecture::Arm64 => arm64::TARGET,
        }
    }
}

/// One architecture, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Platforms {
    Amd64,
    Arm64,
    All,
}

impl Platforms {
    pub fn architectures(self) -> &'static [Architecture] {
        match self {
            Platforms::Amd64 => &[Architecture::Amd64],
            Platforms::Arm64 => &[Architecture::Arm64],
            Platforms::All => &[Architecture::Amd64, Architecture::Arm64],
        }
    }
}

/// What a program has in it besides crates.
pub struct Toolchain {
    /// Version of the compiler, and of Rust's library with it.
    pub rustc: String,
    /// Version of the C library.
    pub libc: String,
}

/// What programs for an architecture are built with.
pub fn toolchain(architecture: Architecture) -> Result<Toolchain> {
    let (mut rustc, libc) = match architecture {
        Architecture::Amd64 => {
            let libc = asked(Command::new("gcc").arg("-print-file-name=libc.a"));
            (program("rustc"), PathBuf::from(libc.context("gcc names no libc.a")?.trim()))
        }
        Architecture::Arm64 => (program("/usr/bin/rustc"), arm64::libc()?),
    };
    let version = asked(rustc.current_dir(workspace()).arg("--version")).context("no rustc")?;
    let version = version.split_whitespace().nth(1).context("rustc names no version")?;
    let bytes = fs::read(&libc).with_context(|| format!("cannot read {}", libc.display()))?;
    // `GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release …`, as it says itself.
    let begin = b"GNU C Library (Debian GLIBC ";
    let said = bytes.windows(begin.len()).position(|window| window == begin);
    let said = said.and_then(|at| bytes.get(at + begin.len()..at + begin.len() + 64));
    let said = said.with_context(|| format!("{} names no version", libc.display()))?;
    let libc = String::from_utf8_lossy(said).split(')').next().unwrap_or_default().to_owned();
    Ok(Toolchain { rustc: version.to_owned(), libc })
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
    let install = !args.no_install && can_install();
    build_ebpf::run(&build_ebpf::Args { install, ..build_ebpf::Args::default() })?;
    let mut command = cargo("release");
    command.args(["--package", "herder-agent", "--bin", "herder-agent"]);
    if let Some(source) = source().filter(|_| args.revision) {
        command.env("HERDER_REVISION", source.revision);
    }
    run_timed("Building the agent", &mut command)?;
    Ok(workspace().join("target").join(TARGET).join("release/herder-agent"))
}

/// An agent whose programs log, and the guest. It is the agent of the unit tests with
/// another object.
pub fn logging(args: &Args) -> Result<Built> {
    let install = !args.no_install && can_install();
    let args = build_ebpf::Args { install, log: true, ..build_ebpf::Args::default() };
    let directory = output()?.join("logging");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let (target, object) = (output()?.join("ebpf"), directory.join("herder-ebpf.o"));
    let object = build_ebpf::run_for(&args, std::env::consts::ARCH, &target, &object)?;
    let mut command = quick("build");
    command.args(["--quiet", "--bin", "herder-agent"]).env("HERDER_EBPF_OBJECT", object);
    run_timed("Building an agent whose programs log", &mut command)?;
    let agent = stripped("herder-agent", directory.join("herder-agent"))?;
    Ok(Built { agent, guest: guest()? })
}

/// All that a VM needs.
pub fn for_vm(architecture: Architecture, args: &Args) -> Result<Built> {
    match architecture {
        Architecture::Amd64 => Ok(Built { agent: agent(args)?, guest: guest()? }),
        Architecture::Arm64 => arm64::for_vm(),
    }
}

fn guest() -> Result<PathBuf> {
    run_timed("Building the guest", quick("build").args(["--quiet", "--bin", "herder-guest"]))?;
    stripped("herder-guest", output()?.join("herder-guest"))
}

/// A quickly built program without its symbols: small enough for an initramfs.
fn stripped(name: &str, to: PathBuf) -> Result<PathBuf> {
    let built = workspace().join("target").join(TARGET).join("debug").join(name);
    // Another task may be reading it.
    let new = to.with_extension(std::process::id().to_string());
    command::run(program("strip").arg("-o").arg(&new).arg(built))?;
    fs::rename(&new, &to).with_context(|| format!("cannot write {}", to.display()))?;
    Ok(to)
}

/// What is quick to build: the unit tests, and what they have in common with the guest
/// and with xtask is compiled once. Features are those of the whole workspace, and flags
/// those of its configuration, for the same reason.
pub fn quick(subcommand: &str) -> Command {
    let mut command = program("cargo");
    command.current_dir(workspace()).args([subcommand, "--locked", "--workspace"]);
    command
}

/// A benchmark of the agent's, built as the agent is.
pub fn bench(name: &str) -> Command {
    let mut command = with_target("bench");
    command.args(["--quiet", "--profile", "release", "--package", "herder-agent", "--bench", name]);
    command
}

fn cargo(profile: &str) -> Command {
    let mut command = with_target("build");
    command.args(["--quiet", "--profile", profile]);
    command
}

/// A static program for the machine's own processor.
fn with_target(subcommand: &str) -> Command {
    let mut command = program("cargo");
    let flags = ["-Ctarget-feature=+crt-static".to_owned()].into_iter().chain(build_ebpf::remap());
    command
        .current_dir(workspace())
        .args([subcommand, "--locked", "--target", TARGET])
        // With --target these are not for build scripts.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.collect::<Vec<_>>().join("\x1f"));
    command
}
