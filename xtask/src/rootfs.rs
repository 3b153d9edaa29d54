//! Root file systems of Debian's packages, of other suites than this machine's:
//! container runtimes and systemd, as a node runs them, and the programs that
//! Herder is measured against, as they are shipped.

use crate::{
    command::{cache, keep_of, kept_of, made, run, say},
    debian::Suite,
};
use anyhow::{Context, Result};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

/// Debian's suites that runtimes are taken from.
pub const SUITES: [&str; 2] = ["trixie", "sid"];

/// What a node has. `base-files` brings the links from /bin to /usr/bin and so on, and with
/// `apparmor` containerd confines containers.
const PACKAGES: [&str; 7] =
    ["apparmor", "base-files", "containerd", "runc", "crun", "systemd", "dbus"];

/// What gives pods networks of their own, and its programs that the tests take: a pair of devices
/// for each pod, addresses from a file, and the loopback device. They need nothing of what
/// the package depends on.
const NETWORK: (&str, [&str; 3]) =
    ("containernetworking-plugins", ["host-local", "loopback", "ptp"]);

/// Programs that report OOM kills or set the value too, and what a container is made with.
const PEERS: [&str; 6] = [
    "base-files",
    "bpftrace",
    "busybox-static",
    "libbpf-tools",
    "prometheus-node-exporter",
    "runc",
];

/// What the examples of the documents are run by.
const EXAMPLES: [&str; 3] = ["base-files", "python3", "python3-gunicorn"];

/// One that newer suites do not have; it is linked statically but for the C library.
const OLD_PEER: (&str, &str) = ("bullseye", "cadvisor");

/// What no test needs, and would only take time to load.
pub const LEFT_OUT: [&str; 11] = [
    "boot",
    "etc/init.d",
    "usr/include",
    "usr/lib/containerd",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/share/bash-completion",
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/perl5",
    "usr/share/zsh",
];

/// The tree from the cache, or from Debian. Remove `roots` in the cache to get
/// newer packages.
pub fn get(suite: &'static str) -> Result<PathBuf> {
    let (network, programs) = NETWORK;
    let all = |tree: &Path| {
        fetch(suite, &PACKAGES, tree)?;
        alone(suite, network, tree)?;
        only(&tree.join("usr/lib/cni"), &programs)
    };
    let of = [&PACKAGES[..], &[network], &programs].concat();
    kept(suite, &of, all).with_context(|| format!("cannot get the runtimes of Debian {suite}"))
}

/// The tree for `cargo xtask bench`, in the same way.
pub fn bench() -> Result<PathBuf> {
    let all = |tree: &Path| {
        fetch(SUITES[0], &PEERS, tree)?;
        let (suite, package) = OLD_PEER;
        alone(suite, package, tree)?;
        // bpftrace asks a shell where the compiler is, and does without the compiler.
        symlink("busybox", tree.join("usr/bin/sh")).context("cannot make a shell")
    };
    let of = [&PEERS[..], &[OLD_PEER.1]].concat();
    kept("bench", &of, all).context("cannot get the programs to compare with")
}

/// The tree for the examples of the documents, in the same way.
pub fn examples() -> Result<PathBuf> {
    kept("examples", &EXAMPLES, |tree| fetch(SUITES[0], &EXAMPLES, tree))
        .context("cannot get Python")
}

/// A tree of the cache, of these packages and programs; made beside its place and then renamed,
/// so that an interrupted download leaves nothing that looks complete.
fn kept(name: &str, of: &[&str], make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let directory = made(cache()?.join("roots"))?.join(name);
    let of = of.join(" ");
    if !kept_of(&directory, &of) {
        let unpacked = directory.with_file_name(format!("{name}.part"));
        let _ = fs::remove_dir_all(&unpacked);
        make(&made(unpacked.clone())?)?;
        keep_of(&directory, &unpacked, &of)?;
    }
    Ok(directory)
}

fn open(suite: &'static str) -> Result<Suite> {
    Suite::open(suite, &made(cache()?.join("apt"))?)
}

/// Packages with all that they depend on.
fn fetch(suite: &'static str, packages: &[&str], tree: &Path) -> Result<()> {
    let downloads = tree.with_extension("debs");
    let _ = fs::remove_dir_all(&downloads);
    let archives = open(suite)?.download_with_dependencies(packages, &downloads)?;
    say(&format!("Unpacking {} packages of {suite} …", archives.len()));
    archives.iter().try_for_each(|archive| unpack(archive, tree))?;
    fs::remove_dir_all(downloads).context("cannot remove the downloads")
}

/// A package without what it depends on.
fn alone(suite: &'static str, package: &str, tree: &Path) -> Result<()> {
    let downloads = made(tree.with_extension("deb"))?;
    unpack(&open(suite)?.download(package, &downloads)?, tree)?;
    fs::remove_dir_all(downloads).context("cannot remove the download")
}

/// Removes a directory's other files: each byte of the tree is loaded at each boot.
fn only(directory: &Path, names: &[&str]) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !names.iter().any(|name| entry.file_name() == *name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn unpack(archive: &Path, tree: &Path) -> Result<()> {
    run(Command::new("dpkg-deb").arg("-x").arg(archive).arg(tree))
}
