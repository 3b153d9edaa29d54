//! Root file systems with container runtimes and systemd, unpacked from Debian's
//! packages of other suites: what a node runs, as it is shipped.

use crate::{
    command::{cache, made, run, say},
    debian::Suite,
};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Debian's suites that runtimes are taken from.
pub const SUITES: [&str; 2] = ["trixie", "sid"];

/// What a node has. `base-files` brings the links from /bin to /usr/bin and so on.
const PACKAGES: [&str; 6] = ["base-files", "containerd", "runc", "crun", "systemd", "dbus"];

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
    let directory = made(cache()?.join("roots"))?.join(suite);
    if !directory.exists() {
        fetch(suite, &directory)
            .with_context(|| format!("cannot get the runtimes of Debian {suite}"))?;
    }
    Ok(directory)
}

fn fetch(suite: &'static str, directory: &Path) -> Result<()> {
    let packages = Suite::open(suite, &made(cache()?.join("apt"))?)?;
    // Renamed at the end, so that an interrupted download leaves nothing that
    // looks complete.
    let unpacked = directory.with_file_name(format!("{suite}.part"));
    let downloads = directory.with_file_name(format!("{suite}.debs"));
    for left in [&unpacked, &downloads] {
        let _ = fs::remove_dir_all(left);
    }
    made(unpacked.clone())?;
    let archives = packages.download_with_dependencies(&PACKAGES, &downloads)?;
    say(&format!("Unpacking {} packages of {suite} …", archives.len()));
    for archive in &archives {
        run(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&unpacked))?;
    }
    fs::remove_dir_all(downloads)?;
    fs::rename(&unpacked, directory)?;
    Ok(())
}
