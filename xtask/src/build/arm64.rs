//! Programs for AArch64 with what Debian has: its cross linker, and the standard
//! library of the same rustc as on amd64, from the arm64 package.

use super::source::source;
use crate::{
    build_ebpf,
    command::{asked, cache, can_install, made, output, program, run, run_timed, workspace},
    debian::{self, Suite},
};
use anyhow::{Context, Result, ensure};
use std::{fs, path::PathBuf, process::Command};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const LIBRARY: &str = "libstd-rust-web-dev";

/// Builds a package's program of the same name.
pub fn build(package: &str) -> Result<PathBuf> {
    ensure!(can_install(), "arm64 is built with Debian's packages, as root on Debian");
    for (name, packages) in [
        ("/usr/bin/cargo", &["rustc-web", "cargo-web", "gcc", "libc6-dev"][..]),
        (LINKER, &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"]),
    ] {
        if asked(Command::new(name).arg("--version")).is_none() {
            debian::install(packages)?;
        }
    }
    let sysroot = sysroot()?;
    let directory = made(output()?.join("arm64"))?;
    let mut cargo = program("/usr/bin/cargo");
    let mut flags = vec![
        "-Ctarget-feature=+crt-static".to_owned(),
        format!("--sysroot={}", sysroot.display()),
        format!("-Clinker={LINKER}"),
    ];
    flags.extend(build_ebpf::remap());
    cargo
        .current_dir(workspace())
        .args(["build", "--profile", "release", "--locked", "--quiet", "--target", TARGET])
        .args(["--package", package, "--target-dir"])
        .arg(&directory)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("RUSTC", "/usr/bin/rustc")
        .env("PATH", "/usr/bin:/bin")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    if package == "herder-agent" {
        let object = directory.join("herder-ebpf.o");
        let args = build_ebpf::Args { install: true, ..build_ebpf::Args::default() };
        build_ebpf::run_for(&args, "aarch64", &directory.join("ebpf"), &object)?;
        cargo.env("HERDER_EBPF_OBJECT", object);
        if let Some(source) = source() {
            cargo.env("HERDER_REVISION", source.revision);
        }
    }
    run_timed(&format!("Building {package} for arm64"), &mut cargo)?;
    Ok(directory.join(TARGET).join("release").join(package))
}

/// The standard library of Debian's rustc, for arm64.
fn sysroot() -> Result<PathBuf> {
    let mut query = Command::new("dpkg-query");
    let version = asked(query.args(["--show", "--showformat", "${Version}", "rustc-web"]));
    let version = version.context("rustc-web is not installed")?;
    let all = made(cache()?.join("rust-arm64"))?;
    let directory = all.join(&version);
    if !directory.exists() {
        let part = all.join("part");
        let _ = fs::remove_dir_all(&part);
        made(part.clone())?;
        let package = format!("{LIBRARY}={version}");
        // Newer compilers come as security updates.
        let archive = ["bookworm-security", "bookworm"].into_iter().find_map(|name| {
            let suite = Suite::open_for(name, "arm64", &cache().ok()?.join("apt")).ok()?;
            suite.download(&package, &part).ok()
        });
        let archive = archive.with_context(|| format!("no {package} for arm64 in Debian 12"))?;
        run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&part))?;
        fs::remove_file(archive)?;
        fs::rename(&part, &directory)?;
    }
    Ok(directory.join("usr"))
}
