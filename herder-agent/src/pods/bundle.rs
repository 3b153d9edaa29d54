//! Names from the OCI bundle, which is there before the container is.
//!
//! The API server learns a container's ID with the kubelet's next status update,
//! seconds after its start. The runtime writes the same names into the bundle's
//! `config.json` before it makes the cgroup: containerd below
//! `/run/containerd/io.containerd.runtime.v2.task/k8s.io/ID`
//! (pkg/cri/annotations), CRI-O below `…/overlay-containers/ID/userdata`
//! (pkg/annotations). Optional: the directory has to be mounted, read-only.

use crate::attribution::id::ContainerId;
use serde::Deserialize;
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// Largest `config.json` that is read, bytes. Those of real pods have some tens
/// of KiB; the environment of a container can make it larger.
const LARGEST: u64 = 4 << 20;

/// Where bundles are.
#[derive(Clone, Debug)]
pub struct Bundles(PathBuf);

/// What a bundle says a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleRole {
    /// The pod's pause container.
    Sandbox,
    /// A container of this name.
    Container(String),
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(rename = "io.kubernetes.cri.container-type")]
    containerd_type: Option<String>,
    #[serde(rename = "io.kubernetes.cri.container-name")]
    containerd_name: Option<String>,
    #[serde(rename = "io.kubernetes.cri-o.ContainerType")]
    crio_type: Option<String>,
    #[serde(rename = "io.kubernetes.container.name")]
    crio_name: Option<String>,
}

impl Bundles {
    /// Bundles below a directory, which may be missing.
    pub fn new(directory: PathBuf) -> Self {
        Bundles(directory)
    }

    /// What the bundle of a container says. An ID is only hexadecimal digits, so
    /// it cannot lead elsewhere.
    pub fn role(&self, id: ContainerId) -> Option<BundleRole> {
        let directory = self.0.join(id.to_string());
        ["config.json", "userdata/config.json"].iter().find_map(|name| read(&directory.join(name)))
    }
}

fn read(path: &Path) -> Option<BundleRole> {
    let mut text = String::new();
    File::open(path).ok()?.take(LARGEST).read_to_string(&mut text).ok()?;
    parse(&text)
}

fn parse(text: &str) -> Option<BundleRole> {
    let Annotations { containerd_type, containerd_name, crio_type, crio_name } =
        serde_json::from_str::<Spec>(text).ok()?.annotations;
    match containerd_type.or(crio_type)?.as_str() {
        "sandbox" => Some(BundleRole::Sandbox),
        "container" => containerd_name.or(crio_name).map(BundleRole::Container),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_of_both_runtimes() {
        let table = [
            (
                r#"{"annotations":{"io.kubernetes.cri.container-type":"container","io.kubernetes.cri.container-name":"worker"}}"#,
                Some(BundleRole::Container("worker".into())),
            ),
            (
                r#"{"annotations":{"io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.sandbox-name":"pod"}}"#,
                Some(BundleRole::Sandbox),
            ),
            (
                r#"{"annotations":{"io.kubernetes.cri-o.ContainerType":"container","io.kubernetes.container.name":"worker"}}"#,
                Some(BundleRole::Container("worker".into())),
            ),
            (r#"{"annotations":{"io.kubernetes.cri.container-type":"container"}}"#, None),
            (r#"{"annotations":{"io.kubernetes.cri.container-type":3}}"#, None),
            (r#"{"ociVersion":"1.1.0"}"#, None),
            ("{", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
