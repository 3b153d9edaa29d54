//! What a package would have: the static agent, its man pages and completions,
//! the systemd unit, in one archive that is the same for the same sources.

use crate::{
    build,
    command::{asked, output, program, run, run_timed, say, workspace},
};
use anyhow::{Context, Result};
use std::{fs, process::Command};

#[derive(clap::Args)]
// Its name is that of the arguments in it.
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    build: build::Args,
}

pub fn run_task(args: &Args) -> Result<()> {
    let agent = build::agent(&args.build)?;
    let directory = output()?.join("dist");
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    let mut pages = program("cargo");
    pages.current_dir(workspace());
    pages.args(["run", "--locked", "--quiet", "-p", "herder-agent", "--example", "dist", "--"]);
    run_timed("Writing man pages and completions", pages.arg(&directory))?;
    let copies = [
        (agent, "herder-agent"),
        (workspace().join("deploy/systemd/herder-agent.service"), "herder-agent.service"),
        (workspace().join("deploy/systemd/herder.yaml"), "herder.yaml"),
        (workspace().join("LICENSE"), "LICENSE"),
    ];
    for (from, to) in copies {
        fs::copy(&from, directory.join(to))
            .with_context(|| format!("cannot copy {}", from.display()))?;
    }
    let version = env!("CARGO_PKG_VERSION");
    let archive = output()?.join(format!("herder-agent-{version}-x86_64.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"])
        .args(["--use-compress-program=gzip -n9", "-cf"])
        .arg(&archive)
        .arg("-C")
        .arg(&directory)
        .arg(".");
    run(&mut tar)?;
    let listed = asked(Command::new("tar").arg("-tzf").arg(&archive)).unwrap_or_default();
    let files = listed.lines().filter(|name| !name.ends_with('/')).count();
    let size = fs::metadata(&archive)?.len();
    say(&format!("{}: {files} files, {size} bytes", archive.display()));
    Ok(())
}
