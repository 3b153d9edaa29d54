//! Builds the eBPF objects: the one with the programs that always run, and beside it those that
//! are loaded only where a rule asks for them.
//!
//! It takes a compiler that can build `core` for the BPF target, with that
//! library's source, and a bpf-linker of the same LLVM: rustup's nightly with
//! rust-src, or Debian's matched set (rustc-web, rust-web-src), which needs no
//! toolchain download.

use crate::{
    command::{
        self, alone_in, asked, cache, can_install, made, output, program, run_timed, say, workspace,
    },
    debian,
};
use anyhow::{Context, Result, bail};
use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

/// The version of bpf-linker that is installed where there is none.
const LINKER_VERSION: &str = "0.13.0";

#[derive(clap::Args, Default)]
pub struct Args {
    /// Install what is missing (as root on Debian) instead of saying what is.
    #[arg(long)]
    pub install: bool,
    /// Let the programs log, for debugging them.
    #[arg(long)]
    pub log: bool,
    /// Build all that is in it twice, in different places, and fail unless both are the
    /// same.
    #[arg(long)]
    pub twice: bool,
}

struct Toolchain {
    name: &'static str,
    cargo: PathBuf,
    rustc: PathBuf,
}

/// Builds the object and gives its path.
pub fn run(args: &Args) -> Result<PathBuf> {
    let object = output()?.join("herder-ebpf.o");
    let built = run_for(args, env::consts::ARCH, &output()?.join("ebpf"), &object)?;
    if args.twice {
        let target = output()?.join("ebpf-again");
        let again = output()?.join("herder-ebpf-again.o");
        // What an earlier run has left would be no second build. Only what runs on this
        // machine is taken over, macros and build scripts, which take longest to compile:
        // all that is in the object is made anew.
        if target.exists() {
            fs::remove_dir_all(&target)?;
        }
        copy_host_artifacts(&output()?.join("ebpf"), &made(target.clone())?)?;
        run_for(args, env::consts::ARCH, &target, &again)?;
        for (built, again) in all(&built).iter().zip(&all(&again)) {
            if fs::read(again)? != fs::read(built)? {
                bail!(
                    "{} and {} differ: the build has changed with its place or the time",
                    built.display(),
                    again.display()
                );
            }
        }
        say("Built twice, and both are the same.");
    }
    Ok(built)
}

/// Copies what a build has compiled for this machine, while no build runs there.
fn copy_host_artifacts(from: &Path, to: &Path) -> Result<()> {
    let _alone = alone_in(from)?;
    command::run(program("cp").arg("-a").arg(from.join("ebpf")).arg(to))
}

/// The same for kernels of another architecture, elsewhere.
pub fn run_for(args: &Args, architecture: &str, target: &Path, object: &Path) -> Result<PathBuf> {
    // What is built is kept before another object is built in the same place.
    let _alone = alone_in(target)?;
    let toolchain = match find()? {
        Some(toolchain) => toolchain,
        None if args.install && can_install() => {
            debian::install(&["rustc-web", "cargo-web", "rust-web-src", "gcc", "libc6-dev"])?;
            find()?.context("rustc-web was installed but has no source of core")?
        }
        None => bail!(
            "no compiler for the BPF target; either\n  \
             rustup toolchain install nightly --component rust-src\n\
             or, as root on Debian,\n  \
             apt-get install --no-install-recommends rustc-web cargo-web rust-web-src\n\
             (`cargo xtask build-ebpf --install` does the latter)"
        ),
    };
    let llvm = llvm_major(&toolchain.rustc)?;
    let linker = match find_linker(llvm)? {
        Some(linker) => linker,
        None => install_linker(llvm, args.install)?,
    };
    say(&format!("eBPF toolchain: {}, LLVM {llvm}, {}", toolchain.name, linker.display()));
    let built = compile(&toolchain, &linker, args.log, architecture, target)?;
    for (built, object) in BESIDE.map(|name| (beside(&built, name), beside(object, name))) {
        keep(&built, &object)?;
    }
    keep(&built, object)
}

/// What the objects are called that lie beside the first: `herder-fork` beside `herder-ebpf`.
const BESIDE: [&str; 2] = ["fork", "arguments"];

fn beside(object: &Path, name: &str) -> PathBuf {
    let first = object.file_name().unwrap_or_default().to_string_lossy();
    object.with_file_name(first.replace("ebpf", name))
}

/// The first object and those beside it.
fn all(object: &Path) -> [PathBuf; 3] {
    let [fork, arguments] = BESIDE.map(|name| beside(object, name));
    [object.to_path_buf(), fork, arguments]
}

fn find() -> Result<Option<Toolchain>> {
    let has_core = |sysroot: &Path| sysroot.join("lib/rustlib/src/rust/library/core").is_dir();
    let nightly = asked(program("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]));
    if let Some(sysroot) = nightly.map(|sysroot| PathBuf::from(sysroot.trim()))
        && has_core(&sysroot)
    {
        let (cargo, rustc) = (sysroot.join("bin/cargo"), sysroot.join("bin/rustc"));
        return Ok(Some(Toolchain { name: "rustup nightly", cargo, rustc }));
    }
    let (cargo, rustc) = (PathBuf::from("/usr/bin/cargo"), PathBuf::from("/usr/bin/rustc"));
    let debian = cargo.exists() && rustc.exists() && has_core(Path::new("/usr"));
    Ok(debian.then_some(Toolchain { name: "Debian's rustc-web", cargo, rustc }))
}

fn llvm_major(rustc: &Path) -> Result<u32> {
    let version = asked(program(rustc).env_remove("RUSTUP_TOOLCHAIN").arg("-vV"))
        .with_context(|| format!("cannot run {}", rustc.display()))?;
    let line = version.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    line.and_then(|version| version.split('.').next()?.parse().ok())
        .with_context(|| format!("{} -vV names no LLVM version", rustc.display()))
}

fn find_linker(llvm: u32) -> Result<Option<PathBuf>> {
    let cached = linker_directory(llvm)?.join("bin/bpf-linker");
    if works(&cached, llvm) {
        return Ok(Some(cached));
    }
    let found = asked(Command::new("sh").args(["-c", "command -v bpf-linker"]));
    let found = found.map(|path| PathBuf::from(path.trim()));
    Ok(found.filter(|path| works(path, llvm)))
}

/// Whether a bpf-linker is there and is not known to be of another LLVM.
fn works(linker: &Path, llvm: u32) -> bool {
    let Some(version) = asked(program(linker).arg("--version")) else {
        return false;
    };
    let named = version.split("LLVM").nth(1).and_then(|rest| {
        rest.split(|letter: char| !letter.is_ascii_digit()).find_map(|word| word.parse().ok())
    });
    named.is_none_or(|named: u32| named == llvm)
}

fn linker_directory(llvm: u32) -> Result<PathBuf> {
    Ok(cache()?.join(format!("bpf-linker-{llvm}")))
}

fn install_linker(llvm: u32, install: bool) -> Result<PathBuf> {
    let directory = linker_directory(llvm)?;
    let packages = [
        format!("llvm-{llvm}-dev"),
        format!("libpolly-{llvm}-dev"),
        "zlib1g-dev".into(),
        "libzstd-dev".into(),
    ];
    let prefix = format!("/usr/lib/llvm-{llvm}");
    let feature = format!("llvm-{llvm}");
    let arguments = [
        "install",
        "bpf-linker",
        "--version",
        LINKER_VERSION,
        // It compiles in a third of the time, and LLVM does the work.
        "--debug",
        "--no-default-features",
        "--features",
        &feature,
        "--root",
    ];
    if !(install && can_install()) {
        bail!(
            "no bpf-linker for LLVM {llvm}; as root on Debian\n  \
             apt-get install --no-install-recommends {}\n  \
             LLVM_PREFIX={prefix} cargo {} {}\n\
             (`cargo xtask build-ebpf --install` does both)",
            packages.join(" "),
            arguments.join(" "),
            directory.display()
        );
    }
    let mut names: Vec<&str> = packages.iter().map(String::as_str).collect();
    names.extend(["g++", "cmake"]);
    debian::install(&names)?;
    let mut cargo = program("cargo");
    cargo.args(arguments).arg(&directory).arg("--quiet").env("LLVM_PREFIX", prefix);
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "0");
    // Not in the workspace, whose configuration is not meant for it.
    run_timed("Compiling bpf-linker", cargo.current_dir("/"))?;
    Ok(directory.join("bin/bpf-linker"))
}

fn compile(
    toolchain: &Toolchain,
    linker: &Path,
    log: bool,
    arch: &str,
    target: &Path,
) -> Result<PathBuf> {
    // No BTF of its own: nothing here needs it, the kernel refuses what rustc makes of it,
    // and aya then asks again for the reason, with 10 MiB of room for it.
    let mut flags = vec![format!("--cfg=bpf_target_arch=\"{arch}\"")];
    flags.extend(remap());
    let mut path = vec![linker.parent().unwrap_or(Path::new("/")).to_path_buf()];
    path.extend(toolchain.cargo.parent().map(Path::to_path_buf));
    path.extend(["/usr/bin", "/bin"].map(PathBuf::from));
    let mut cargo = program(&toolchain.cargo);
    cargo
        .current_dir(workspace())
        .args([
            "build",
            "--locked",
            "--quiet",
            "--package",
            "herder-agent-ebpf",
            "--bin",
            "herder-ebpf",
            "--bin",
            "herder-fork",
            "--bin",
            "herder-arguments",
        ])
        .args(["--features", if log { "log" } else { "programs" }, "--profile", "ebpf"])
        .args(["-Z", "build-std=core", "--target", "bpfel-unknown-none", "--target-dir"])
        .arg(target)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("PATH", env::join_paths(path)?)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    run_timed("Building the eBPF objects", &mut cargo)?;
    Ok(target.join("bpfel-unknown-none/ebpf/herder-ebpf"))
}

/// Flags that keep paths of this machine out of what is built: the same source
/// gives the same bytes everywhere.
pub fn remap() -> [String; 2] {
    let flag = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let home = env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let cargo_home = env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    [flag(&cargo_home, "/cargo"), flag(&workspace(), "/herder")]
}

/// Puts the object where the agent's build looks for it; only if it changed, so
/// that the agent is not built again for nothing, and at once, since another task may
/// be building it.
fn keep(built: &Path, object: &Path) -> Result<PathBuf> {
    let bytes = fs::read(built).with_context(|| format!("cannot read {}", built.display()))?;
    if fs::read(object).ok().as_ref() != Some(&bytes) {
        let new = object.with_extension("new");
        fs::write(&new, &bytes)
            .and_then(|()| fs::rename(&new, object))
            .with_context(|| format!("cannot write {}", object.display()))?;
    }
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    say(&format!("{}: {} bytes, digest {:016x}", object.display(), bytes.len(), hasher.finish()));
    Ok(object.to_path_buf())
}
