//! Programs for AArch64 with what Debian has: its cross linker, and the standard
//! library of the same rustc as on amd64, from the arm64 package.

use super::{Built, pages, source::source};
use crate::{
    build_ebpf,
    command::{asked, cache, can_install, made, output, program, run, run_timed, workspace},
    debian::{self, Suite},
    tools,
};
use anyhow::{Context, Result, ensure};
use std::{fs, path::PathBuf, process::Command};

pub const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const LIBRARY: &str = "libstd-rust-web-dev";

/// Builds a package's program of the same name, as it is released.
pub fn build(package: &str) -> Result<PathBuf> {
    compile(&[package], "release")?;
    let program = output()?.join("arm64").join(TARGET).join("release").join(package);
    let bytes = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    pages::fit(&bytes).with_context(|| program.display().to_string())?;
    Ok(program)
}

/// The agent and the guest, quickly built and without their symbols.
pub fn for_vm() -> Result<Built> {
    compile(&["herder-agent", "herder-guest"], "dev")?;
    let directory = output()?.join("arm64");
    let stripped = |name: &str| {
        let to = directory.join(name);
        let built = directory.join(TARGET).join("debug").join(name);
        run(program("aarch64-linux-gnu-strip").arg("-o").arg(&to).arg(built)).map(|()| to)
    };
    Ok(Built { agent: stripped("herder-agent")?, guest: stripped("herder-guest")? })
}

fn compile(packages: &[&str], profile: &str) -> Result<()> {
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
        // Before the directories that the linker knows itself.
        format!("-Lnative={}", libc()?.with_file_name("").display()),
    ];
    flags.extend(build_ebpf::remap());
    cargo
        .current_dir(workspace())
        .args(["build", "--profile", profile, "--locked", "--quiet", "--target", TARGET])
        .arg("--target-dir")
        .arg(&directory)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("RUSTC", "/usr/bin/rustc")
        .env("PATH", "/usr/bin:/bin")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    for package in packages {
        cargo.args(["--package", package, "--bin", package]);
    }
    if packages.contains(&"herder-agent") {
        let object = directory.join("herder-ebpf.o");
        let args = build_ebpf::Args { install: true, ..build_ebpf::Args::default() };
        build_ebpf::run_for(&args, "aarch64", &directory.join("ebpf"), &object)?;
        cargo.env("HERDER_EBPF_OBJECT", object);
        if let Some(source) = source().filter(|_| profile == "release") {
            cargo.env("HERDER_REVISION", source.revision);
        }
    }
    run_timed(&format!("Building {} for arm64", packages.join(" and ")), &mut cargo)
}

/// The standard library of Debian's rustc, for arm64.
fn sysroot() -> Result<PathBuf> {
    Ok(matching("rustc-web", LIBRARY)?.join("usr"))
}

/// The C library that is linked in: the one of this machine's own, with the security updates
/// that the cross package does not get.
pub fn libc() -> Result<PathBuf> {
    Ok(matching("libc6-dev", "libc6-dev")?.join("usr/lib/aarch64-linux-gnu/libc.a"))
}

/// A package for arm64, unpacked, of the version that another has on this machine.
fn matching(installed: &str, name: &str) -> Result<PathBuf> {
    let mut query = Command::new("dpkg-query");
    let version = asked(query.args(["--show", "--showformat", "${Version}", installed]));
    let version = version.with_context(|| format!("{installed} is not installed"))?;
    let package = format!("{name}={version}");
    tools::kept(&format!("{package}-arm64"), |part| {
        // Newer compilers come as security updates.
        let archive = ["bookworm-security", "bookworm"].into_iter().find_map(|name| {
            let suite = Suite::open_for(name, "arm64", &cache().ok()?.join("apt")).ok()?;
            suite.download(&package, part).ok()
        });
        let archive = archive.with_context(|| format!("no {package} for arm64 in Debian 12"))?;
        run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(part))?;
        fs::remove_file(archive).context("cannot remove the package")
    })
}
