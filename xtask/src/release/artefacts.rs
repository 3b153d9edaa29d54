//! What is in the folder of a release, but for checksums and signature.

use super::{
    VERSION, chart, krew, packages,
    sbom::{self, Subject},
};
use crate::{
    build::{self, Architecture, Platforms},
    command::{asked, made, program, workspace},
    dist,
    image::{self, AGENT, HOG, Kind, Program},
    pack,
};
use anyhow::{Context, Result};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The plugin of kubectl; released where the workspace has it.
const PLUGIN: &str = "kubectl-herder";

/// Everything that was compiled.
pub struct Programs {
    pub agents: Vec<(Architecture, PathBuf)>,
    pub hogs: Vec<(Architecture, PathBuf)>,
    pub plugins: Vec<(Architecture, PathBuf)>,
    /// Man pages and completions of the agent.
    pub pages: PathBuf,
}

impl Programs {
    pub fn build(platforms: Platforms) -> Result<Self> {
        let all = |package: &'static str| {
            let all = platforms.architectures().iter();
            all.map(|arch| Ok((*arch, build::for_image(package, *arch)?))).collect::<Result<_>>()
        };
        let plugins = if has(PLUGIN)? { all(PLUGIN)? } else { Vec::new() };
        let (agents, hogs) = (all(AGENT.program)?, all(HOG.program)?);
        Ok(Programs { agents, hogs, plugins, pages: dist::pages()? })
    }
}

/// Whether a package of this name is in the workspace.
fn has(package: &str) -> Result<bool> {
    let mut metadata = program("cargo");
    metadata.current_dir(workspace());
    metadata.args(["metadata", "--locked", "--no-deps", "--format-version", "1"]);
    let text = asked(&mut metadata).context("cargo metadata failed")?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    Ok(packages.iter().any(|one| one["name"] == package))
}

/// An image in the folder, with all of its architectures.
pub struct Image {
    pub name: &'static str,
    pub file: PathBuf,
    pub digest: String,
}

/// The images of a folder that was written before.
pub fn found(folder: &Path) -> Result<Vec<Image>> {
    let find = |kind: &Kind| -> Result<Image> {
        let names =
            ["", "-amd64", "-arm64"].map(|end| format!("{}-{VERSION}{end}.tar", kind.program));
        let file = names.iter().map(|name| folder.join(name)).find(|file| file.exists());
        let file = file.with_context(|| format!("there is no image of {}", kind.program))?;
        let digest = image::digest_of(&file)?;
        Ok(Image { name: kind.program, file, digest })
    };
    Ok(vec![find(&AGENT)?, find(&HOG)?])
}

/// Writes all files into an empty folder; gives what a registry takes of them.
pub fn write(programs: &Programs, folder: &Path) -> Result<Vec<Image>> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    made(folder.to_path_buf())?;
    for (architecture, agent) in &programs.agents {
        let files = dist::files(agent, &programs.pages)?;
        dist::write(&files, &folder.join(dist::name(*architecture)))?;
        packages::write(*architecture, &files, folder)?;
    }
    for (architecture, plugin) in &programs.plugins {
        // Without the version: the manifest for krew names it so.
        let name = format!("{PLUGIN}-linux-{}.tar.gz", architecture.name());
        // krew asks for the licence beside the program.
        let [program, licence] = [plugin, &workspace().join("LICENSE")].map(fs::read);
        let (program, licence) = (program?, licence?);
        let files = [
            (PLUGIN.to_owned(), 0o755, program.as_slice()),
            ("LICENSE".to_owned(), 0o644, &licence),
        ];
        fs::write(folder.join(name), pack::gzip(&pack::tar(files)?)?)?;
    }
    if !programs.plugins.is_empty() {
        krew::write(folder)?;
    }
    chart::write(folder)?;
    chart::write_kustomize(folder)?;
    let images =
        vec![images(&AGENT, &programs.agents, folder)?, images(&HOG, &programs.hogs, folder)?];
    let subject = |name, directory, files| Subject {
        name,
        directory,
        has_object: name == AGENT.program,
        has_image: name != PLUGIN,
        files,
    };
    for subject in [
        subject(AGENT.program, "herder-agent", &programs.agents),
        subject(HOG.program, "xtask/hog", &programs.hogs),
        subject(PLUGIN, "herder-agent/kubectl", &programs.plugins),
    ] {
        sbom::write(&subject, folder)?;
    }
    Ok(images)
}

/// An archive for each architecture, which every engine loads, and one of all for registries.
fn images(kind: &Kind, programs: &[(Architecture, PathBuf)], folder: &Path) -> Result<Image> {
    let read = programs.iter().map(|(architecture, file)| Program::read(*architecture, file));
    let mut read = read.collect::<Result<Vec<_>>>()?;
    let name = format!("localhost/{}", kind.program);
    let write = |programs: &[Program]| -> Result<(PathBuf, String)> {
        let file = folder.join(kind.file(VERSION, programs));
        let digest = image::write(kind, &name, VERSION, programs, &file)?;
        Ok((file, digest))
    };
    let (file, digest) = write(&read)?;
    if read.len() > 1 {
        for one in std::mem::take(&mut read) {
            write(&[one])?;
        }
    }
    Ok(Image { name: kind.program, file, digest })
}
