//! All that comes before the virtual machines, at once as far as it goes: linking the
//! agent takes minutes of one processor, and downloads take none.

use crate::{
    build::{self, Architecture, Built},
    build_ebpf, check,
    command::{can_install, say},
    dashboards, image,
    kernel::{self, Kernel, Series},
    release, rootfs,
    vm::Verdict,
};
use anyhow::{Result, anyhow, bail};
use std::{
    path::PathBuf,
    process::Stdio,
    thread::{self, ScopedJoinHandle},
};

pub struct Prepared {
    pub kernels: Vec<Kernel>,
    /// The agent of the image, which is the one that is tested.
    pub built: Built,
    /// The one whose programs log.
    pub logging: Built,
    /// Kernels of another architecture, and what runs on them.
    /// None where its compiler or C library cannot be had; that is said.
    pub arm64: Option<(Vec<Kernel>, Built)>,
    /// What the unit tests gave.
    pub unit: Verdict,
}

/// Debian's archive may no longer have the very version of a package for arm64 that this
/// machine has for itself.
fn arm64() -> Result<(Vec<Kernel>, Built)> {
    let kernels = ARM64.iter().map(|series| kernel::get_for(*series, Architecture::Arm64));
    let kernels = kernels.collect::<Result<Vec<_>>>()?;
    Ok((kernels, build::for_vm(Architecture::Arm64, &build::Args::default())?))
}

pub fn all(series: &[Series]) -> Result<Prepared> {
    thread::scope(|scope| {
        let kernels = scope.spawn(|| downloaded(series));
        let agent = scope.spawn(released);
        let checked = checked();
        let (agent, kernels) = (joined(agent), joined(kernels));
        let (unit, logging) = checked?;
        let built = Built { agent: agent?, guest: logging.guest.clone() };
        let arm64 = arm64().inspect_err(|error| {
            println!("ARM64 IS NOT TESTED HERE: {error:#}");
        });
        Ok(Prepared { kernels: kernels?, built, logging, arm64: arm64.ok(), unit })
    })
}

/// The kernels that arm64 is asked about: one whose functions cannot be traced there, and the
/// latest that Debian 12 has for it.
const ARM64: [Series; 2] = [Series::V6_1, Series::V6_12];

fn downloaded(series: &[Series]) -> Result<Vec<Kernel>> {
    let kernels = series.iter().map(|series| kernel::get(*series)).collect::<Result<Vec<_>>>()?;
    if series.contains(&Series::V6_12) {
        rootfs::SUITES.into_iter().try_for_each(|suite| rootfs::get(suite).map(drop))?;
    }
    Ok(kernels)
}

/// The programs as they are released, and the images that have them; gives the agent.
fn released() -> Result<PathBuf> {
    let object = |twice| build_ebpf::Args { install: can_install(), log: false, twice };
    build_ebpf::run(&object(false))?;
    let agent = thread::scope(|scope| {
        let again = scope.spawn(|| build_ebpf::run(&object(true)));
        let agent = build::agent(&build::Args::released());
        joined(again)?;
        agent
    })?;
    image::agent(&image::Args::checked())?;
    image::hog(&image::Args::checked())?;
    release::prove_for(Architecture::Amd64)?;
    Ok(agent)
}

/// Lints, unit tests, dashboards, and what shares its dependencies with those tests.
fn checked() -> Result<(Verdict, Built)> {
    check::run()?;
    let unit = unit_tests()?;
    let logging = build::logging(&build::Args::default())?;
    dashboards::prove()?;
    Ok((unit, logging))
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread of the preparations panicked"))?
}

/// Runs cargo's tests and adds up what they say.
fn unit_tests() -> Result<Verdict> {
    let mut cargo = build::quick("test");
    say("Running the unit tests …");
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    let counts = |word: &str| -> u32 {
        let results = text.lines().filter_map(|line| line.strip_prefix("test result: "));
        let parts = results.flat_map(|line| line.split(['.', ';']));
        parts.filter_map(|part| part.trim().strip_suffix(word)?.trim().parse::<u32>().ok()).sum()
    };
    let verdict = Verdict { passed: counts("passed"), failed: counts("failed"), flaky: 0 };
    if !output.status.success() {
        bail!("cargo test failed: {} passed, {} failed", verdict.passed, verdict.failed);
    }
    Ok(verdict)
}
