//! Names from the OCI bundle, which is there before the container is.
//!
//! The API server learns a container's ID with the kubelet's next status update,
//! seconds after its start. The runtime writes the same names into the bundle's
//! `config.json` before it makes the cgroup: containerd below
//! `/run/containerd/io.containerd.runtime.v2.task/k8s.io/ID`
//! (pkg/cri/annotations), CRI-O below `…/overlay-containers/ID/userdata`
//! (pkg/annotations). Optional: the directory has to be mounted, read-only.

use herder_model::{
    naming::{ContainerRole, Roles},
    owner::id::ContainerId,
};
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
}

impl Roles for Bundles {
    /// An ID is only hexadecimal digits, so
    /// it cannot lead elsewhere.
    fn role(&self, id: ContainerId) -> Option<ContainerRole> {
        let directory = self.0.join(id.to_string());
        ["config.json", "userdata/config.json"].iter().find_map(|name| read(&directory.join(name)))
    }
}

fn read(path: &Path) -> Option<ContainerRole> {
    let mut text = String::new();
    File::open(path).ok()?.take(LARGEST).read_to_string(&mut text).ok()?;
    parse(&text)
}

fn parse(text: &str) -> Option<ContainerRole> {
    let Annotations { containerd_type, containerd_name, crio_type, crio_name } =
        serde_json::from_str::<Spec>(text).ok()?.annotations;
    match containerd_type.or(crio_type)?.as_str() {
        "sandbox" => Some(ContainerRole::Sandbox),
        "container" => containerd_name.or(crio_name).map(ContainerRole::Container),
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
                Some(ContainerRole::Container("worker".into())),
            ),
            (
                r#"{"annotations":{"io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.sandbox-name":"pod"}}"#,
                Some(ContainerRole::Sandbox),
            ),
            (
                r#"{"annotations":{"io.kubernetes.cri-o.ContainerType":"container","io.kubernetes.container.name":"worker"}}"#,
                Some(ContainerRole::Container("worker".into())),
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

    #[test]
    fn a_bundle_is_found_by_the_id_of_its_container() {
        let root = std::env::temp_dir().join(format!("herder-bundles-{}", std::process::id()));
        let id = |letter: char| letter.to_string().repeat(64);
        for (letter, role, file) in
            [('a', "container", "config.json"), ('f', "sandbox", "userdata/config.json")]
        {
            let file = root.join(id(letter)).join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            let text = format!(
                r#"{{"annotations":{{"io.kubernetes.cri.container-type":"{role}","io.kubernetes.cri.container-name":"worker"}}}}"#
            );
            std::fs::write(file, text).unwrap();
        }
        let bundles = Bundles::new(root.clone());
        let role = |letter| bundles.role(ContainerId::parse(&id(letter)).unwrap());
        assert_eq!(role('a'), Some(ContainerRole::Container("worker".into())));
        assert_eq!(role('f'), Some(ContainerRole::Sandbox));
        assert_eq!(role('c'), None);
        std::fs::remove_dir_all(root).unwrap();
    }
}
