//! The agent for hosts without Kubernetes: the static program, its man pages and completions,
//! and the systemd unit, in one archive that is the same for the same sources.

use crate::{
    build::{self, Architecture},
    command::{output, program, run_timed, say, workspace},
    pack,
};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

#[derive(clap::Args)]
// Its name is that of the arguments in it.
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    build: build::Args,
    /// What the agent is built for.
    #[arg(long, value_enum, default_value = "amd64")]
    arch: Architecture,
}

/// A file of an archive or a package.
pub struct File {
    pub name: String,
    pub mode: u32,
    pub bytes: Vec<u8>,
}

pub fn run_task(args: &Args) -> Result<()> {
    let agent = match args.arch {
        Architecture::Amd64 => build::agent(&args.build)?,
        other => build::for_image("herder-agent", other)?,
    };
    let file = output()?.join(name(args.arch));
    let files = files(&agent, &pages()?)?;
    write(&files, &file)?;
    say(&format!(
        "{}: {} files, {} bytes",
        file.display(),
        files.len(),
        fs::metadata(&file)?.len()
    ));
    Ok(())
}

/// The archive's name.
pub fn name(architecture: Architecture) -> String {
    format!("{}-{}.tar.gz", top(), architecture.machine())
}

/// The directory in it.
fn top() -> String {
    format!("herder-agent-{}", env!("CARGO_PKG_VERSION"))
}

/// Writes the archive.
pub fn write(files: &[File], to: &Path) -> Result<()> {
    let files = files
        .iter()
        .map(|file| (format!("{}/{}", top(), file.name), file.mode, file.bytes.as_slice()));
    let archive = pack::gzip(&pack::tar(files)?)?;
    fs::write(to, archive).with_context(|| format!("cannot write {}", to.display()))
}

/// What is in it: the agent, the pages, and what a host needs to start it.
pub fn files(agent: &Path, pages: &Path) -> Result<Vec<File>> {
    let file = |name: &str, mode, from: &Path| -> Result<File> {
        let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        Ok(File { name: name.to_owned(), mode, bytes })
    };
    let systemd = workspace().join("deploy/systemd");
    let mut files = vec![
        file("LICENSE", 0o644, &workspace().join("LICENSE"))?,
        file("herder-agent", 0o755, agent)?,
        file("herder-agent.service", 0o644, &systemd.join("herder-agent.service"))?,
        file("herder.yaml", 0o644, &systemd.join("herder.yaml"))?,
        file("protect-init.conf", 0o644, &systemd.join("protect-init.conf"))?,
    ];
    for directory in ["completions", "man"] {
        let entries = fs::read_dir(pages.join(directory))?;
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            files.push(file(&format!("{directory}/{name}"), 0o644, &path)?);
        }
    }
    Ok(files)
}

/// Writes the man pages and completions; gives their directory.
pub fn pages() -> Result<PathBuf> {
    let directory = output()?.join("pages");
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    let mut pages = program("cargo");
    pages.current_dir(workspace());
    pages.args(["run", "--locked", "--quiet", "-p", "herder-agent", "--example", "dist", "--"]);
    run_timed("Writing man pages and completions", pages.arg(&directory))?;
    Ok(directory)
}
