//! Gets the schemas once, and keeps what is used of them.

use crate::{
    command::{asked, cache, made, program, run, run_timed},
    debian::{self, Suite},
};
use anyhow::{Context, Result};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const KUBERNETES: &str = "kubernetes-validate==1.37.0";
/// The newest that Debian 12's Python can use.
const PROMETHEUS_OPERATOR: &str = "cloudcoil-models-prometheus-operator==0.80.1.0";
const OPENSHIFT: &str = "golang-github-openshift-api-dev";

/// Writes the models of the Prometheus operator as JSON schemas.
const DUMP: &str = "\
import json
from cloudcoil.models.prometheus_operator import v1
kinds = [v1.PodMonitor, v1.PrometheusRule]
print(json.dumps({kind.__name__: kind.model_json_schema() for kind in kinds}))
";

/// Minor version of Kubernetes 1 → definitions of its API.
pub fn kubernetes(oldest: u32) -> Result<BTreeMap<u32, Value>> {
    let directory = kept(KUBERNETES, |part| {
        let package = part.join("package");
        pip(&["--no-deps", KUBERNETES], &package)?;
        for entry in fs::read_dir(package.join("kubernetes_validate/kubernetes-json-schema"))? {
            let versioned = entry?.path();
            if let Some(minor) = minor(&versioned)
                && minor >= oldest
            {
                let to = part.join(format!("{minor}.json"));
                fs::rename(versioned.join("_definitions.json"), to)?;
            }
        }
        fs::remove_dir_all(package).context("cannot remove the package")
    })?;
    let mut versions = BTreeMap::new();
    for entry in fs::read_dir(&directory)? {
        let path = entry?.path();
        let minor = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        versions.insert(minor.with_context(|| format!("{}", path.display()))?, json(&path)?);
    }
    Ok(versions)
}

/// `v1.36.0-local-strict` → 36.
fn minor(directory: &Path) -> Option<u32> {
    let name = directory.file_name()?.to_str()?;
    name.strip_prefix("v1.")?.strip_suffix(".0-local-strict")?.parse().ok()
}

/// Kind → schema of the operator's resources.
pub fn prometheus_operator() -> Result<BTreeMap<String, Value>> {
    let directory = kept(PROMETHEUS_OPERATOR, |part| {
        let package = part.join("package");
        pip(&[PROMETHEUS_OPERATOR], &package)?;
        let mut python = program("python3");
        let schemas = asked(python.env("PYTHONPATH", &package).args(["-c", DUMP]));
        let schemas = schemas.context("cannot write the models as schemas")?;
        fs::write(part.join("schemas.json"), schemas)?;
        fs::remove_dir_all(package).context("cannot remove the package")
    })?;
    let schemas = json(&directory.join("schemas.json"))?;
    let schemas = schemas.as_object().context("no schemas of the Prometheus operator")?;
    Ok(schemas.clone().into_iter().collect())
}

/// OpenShift's description of its security API, protobuf.
pub fn openshift() -> Result<String> {
    let directory = kept(OPENSHIFT, |part| {
        let suite = Suite::open("trixie", &made(cache()?.join("apt"))?)?;
        let archive = suite.download(OPENSHIFT, part)?;
        let root = part.join("root");
        run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&root))?;
        let api = root.join("usr/share/gocode/src/github.com/openshift/api");
        fs::rename(api.join("security/v1/generated.proto"), part.join("security.proto"))?;
        fs::remove_dir_all(root)?;
        fs::remove_file(archive).context("cannot remove the package")
    })?;
    let file = directory.join("security.proto");
    fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
}

/// A directory of the cache; filled beside its place and then renamed, so that
/// what was interrupted does not look complete.
fn kept(name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let directory = made(cache()?.join("schemas"))?.join(name);
    if !directory.exists() {
        let part = directory.with_file_name(format!("{name}.part"));
        let _ = fs::remove_dir_all(&part);
        made(part.clone())?;
        fill(&part).with_context(|| format!("cannot get the schemas in {name}"))?;
        fs::rename(&part, &directory)?;
    }
    Ok(directory)
}

/// Unpacks a Python package and what it needs into a directory of its own.
fn pip(what: &[&str], to: &Path) -> Result<()> {
    debian::need("pip3", "python3-pip")?;
    let mut pip = program("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]);
    pip.args(["--root-user-action", "ignore", "--target"]).arg(to).args(what);
    run_timed(&format!("Unpacking {}", what.last().unwrap_or(&"")), &mut pip)
}

fn json(path: &Path) -> Result<Value> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is no JSON", path.display()))
}
