//! Names from the OCI bundle, which is there before the container is.
//!
//! The API server learns a container's ID with the kubelet's next status update,
//! seconds after its start. The runtime writes the same names into the bundle's
//! `config.json` before it makes the cgroup: containerd below
//! `/run/containerd/io.containerd.runtime.v2.task/k8s.io/ID`
//! (pkg/cri/annotations), CRI-O below `…/overlay-containers/ID/userdata`
//! (pkg/annotations). Optional: the directory has to be mounted, read-only.

use herder_model::{naming::ContainerRole, owner::id::ContainerId};
use serde::Deserialize;
use std::{
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

/// Largest `config.json` that is read, bytes. Those of real pods have some tens
/// of KiB; the environment of a container can make it larger.
const LARGEST: u64 = 4 << 20;

/// The longest name that a container may have (`IsDNS1123Label()`, apimachinery).
const LONGEST_NAME: usize = 63;

/// What a look at a container's bundle gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looked {
    Role(ContainerRole),
    /// The bundle, or all of it, may come yet.
    NotYet,
    /// Bundles are not mounted, or this one says nothing of the kind: it is not a pod's.
    Nothing,
}

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

    /// Reads the bundle of a container. Its ID is only hexadecimal digits, so it cannot lead
    /// elsewhere.
    pub fn look(&self, id: ContainerId) -> Looked {
        let directory = self.0.join(id.to_string());
        let files = ["config.json", "userdata/config.json"];
        match files.iter().find_map(|name| read(&directory.join(name))) {
            Some(looked) => looked,
            None if self.0.is_dir() => Looked::NotYet,
            None => Looked::Nothing,
        }
    }
}

/// Reads one file, if it is there.
fn read(path: &Path) -> Option<Looked> {
    File::open(path).ok().map(|file| parse(BufReader::new(file.take(LARGEST))))
}

/// Piece by piece, since nothing but the annotations is wanted of it.
fn parse(text: impl Read) -> Looked {
    let Ok(Spec { annotations }) = serde_json::from_reader(text) else { return Looked::NotYet };
    let Annotations { containerd_type, containerd_name, crio_type, crio_name } = annotations;
    match containerd_type.or(crio_type).as_deref() {
        Some("sandbox") => Looked::Role(ContainerRole::Sandbox),
        Some("container") => containerd_name
            .or(crio_name)
            .filter(|name| name.len() <= LONGEST_NAME)
            .map_or(Looked::Nothing, |name| Looked::Role(ContainerRole::Container(name.into()))),
        _ => Looked::Nothing,
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
                Looked::Role(ContainerRole::Container("worker".into())),
            ),
            (
                r#"{"annotations":{"io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.sandbox-name":"pod"}}"#,
                Looked::Role(ContainerRole::Sandbox),
            ),
            (
                r#"{"annotations":{"io.kubernetes.cri-o.ContainerType":"container","io.kubernetes.container.name":"worker"}}"#,
                Looked::Role(ContainerRole::Container("worker".into())),
            ),
            (
                r#"{"annotations":{"io.kubernetes.cri.container-type":"container"}}"#,
                Looked::Nothing,
            ),
            (r#"{"annotations":{"io.kubernetes.cri.container-type":3}}"#, Looked::NotYet),
            (r#"{"ociVersion":"1.1.0"}"#, Looked::Nothing),
            ("{", Looked::NotYet),
            ("", Looked::NotYet),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
        let of_length = |length: usize| {
            let name = "n".repeat(length);
            let text = format!(
                r#"{{"annotations":{{"io.kubernetes.cri.container-type":"container","io.kubernetes.cri.container-name":"{name}"}}}}"#
            );
            parse(text.as_bytes())
        };
        assert!(matches!(of_length(LONGEST_NAME), Looked::Role(_)));
        assert_eq!(of_length(LONGEST_NAME + 1), Looked::Nothing, "it is no container's name");
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
        let look = |letter| bundles.look(ContainerId::parse(&id(letter)).unwrap());
        assert_eq!(look('a'), Looked::Role(ContainerRole::Container("worker".into())));
        assert_eq!(look('f'), Looked::Role(ContainerRole::Sandbox));
        assert_eq!(look('c'), Looked::NotYet);
        std::fs::remove_dir_all(root).unwrap();
        assert_eq!(look('a'), Looked::Nothing, "there is no directory of bundles");
    }
}
