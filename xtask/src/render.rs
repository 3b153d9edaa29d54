//! Rendering with `kubectl kustomize`: Debian 13's, since that of Debian 12 knows
//! no components.

use crate::{
    command::{asked, cache, made, output, program, run, workspace},
    debian::Suite,
};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A kubectl that knows components.
pub struct Kubectl(PathBuf);

impl Kubectl {
    /// From the cache, from Debian 13, or the machine's own where there is no apt.
    pub fn get() -> Result<Self> {
        let kubectl = cache()?.join("kubectl");
        if !kubectl.exists() {
            if asked(program("apt-get").arg("--version")).is_none() {
                return Ok(Kubectl("kubectl".into()));
            }
            fetch(&kubectl).context("cannot get Debian 13's kubectl")?;
        }
        Ok(Kubectl(kubectl))
    }

    /// The objects of `deploy/` with some of its components.
    pub fn render(&self, components: &[String]) -> Result<Vec<Value>> {
        // The overlay lies in target/herder; kustomize wants relative paths.
        let directory = made(output()?.join("deploy").join(match components {
            [] => "base",
            [component] => component,
            _ => "all",
        }))?;
        let up = "../../../../deploy";
        let mut overlay = format!("resources: [{up}]\ncomponents:\n");
        for component in components {
            overlay.push_str(&format!("  - {up}/components/{component}\n"));
        }
        if components.is_empty() {
            overlay.push_str("  []\n");
        }
        let file = directory.join("kustomization.yaml");
        fs::write(&file, overlay).with_context(|| format!("cannot write {}", file.display()))?;
        self.kustomize(&directory)
    }

    /// The objects of a directory with a kustomization.
    pub fn kustomize(&self, directory: &Path) -> Result<Vec<Value>> {
        let mut kubectl = program(&self.0);
        let rendered = kubectl.current_dir(workspace()).arg("kustomize").arg(directory).output();
        let rendered = rendered.with_context(|| format!("cannot run {}", self.0.display()))?;
        if !rendered.status.success() {
            bail!("{}", String::from_utf8_lossy(&rendered.stderr).trim());
        }
        objects(&String::from_utf8_lossy(&rendered.stdout))
    }
}

/// The documents of a YAML text.
pub fn objects(text: &str) -> Result<Vec<Value>> {
    Ok(serde_saphyr::from_multiple(text)?)
}

fn fetch(kubectl: &Path) -> Result<()> {
    let suite = Suite::open("trixie", &made(cache()?.join("apt"))?)?;
    let unpacked = kubectl.with_extension("part");
    let _ = fs::remove_dir_all(&unpacked);
    made(unpacked.clone())?;
    let archive = suite.download("kubectl", &unpacked)?;
    run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&unpacked))?;
    fs::rename(unpacked.join("usr/bin/kubectl"), kubectl)?;
    fs::remove_dir_all(&unpacked)?;
    Ok(())
}
