//! Names from the OCI bundle, which is there before the container is.
//!
//! The API server learns a container's ID with the kubelet's next status update,
//! seconds after its start. The runtime writes the same names into the bundle's
//! `config.json` before it makes the cgroup: containerd below
//! `/run/containerd/io.containerd.runtime.v2.task/k8s.io/ID`
//! (pkg/cri/annotations), CRI-O below `…/overlay-containers/ID/userdata`
//! (pkg/annotations). Optional: the directory has to be mounted, read-only.

use herder_model::{naming::ContainerRole, owner::id::ContainerId};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use serde::Deserialize;
use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

/// Largest `config.json` that is read, bytes. Those of real pods have some tens
/// of KiB; the environment of a container can make it larger.
const LARGEST: u64 = 4 << 20;

/// The longest name that a container may have (`IsDNS1123Label()`, apimachinery).
const LONGEST_NAME: usize = 63;

/// What a look at a container's bundle gave.
#[derive(Debug)]
pub enum Looked {
    Role(ContainerRole),
    /// The bundle, or all of it, may come yet.
    NotYet,
    /// Bundles are not mounted, or this one says nothing of the kind: it is not a pod's.
    Nothing,
    /// It is there and cannot be read, now or later.
    Unreadable(BundleError),
}

/// Why a bundle that is there cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{0} is not a regular file")]
    NotRegular(PathBuf),
    #[error("{path} is not what a runtime writes: {source}")]
    Malformed { path: PathBuf, source: serde_json::Error },
    #[error("{0} has more than {size} MiB", size = LARGEST >> 20)]
    TooLarge(PathBuf),
}

#[derive(Clone, Debug)]
pub struct Bundles(PathBuf);

/// Whose bundle it is, by the place of its file. Only this runtime's annotations count there: CRI-O
/// copies those of the pod, which may have containerd's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Containerd,
    CriO,
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

    /// Reads the bundle of a container. Its ID is only hexadecimal digits, so it cannot lead
    /// elsewhere.
    pub fn look(&self, id: ContainerId) -> Looked {
        let directory = self.0.join(id.to_string());
        let files = [("config.json", Layout::Containerd), ("userdata/config.json", Layout::CriO)];
        for (name, layout) in files {
            match read(&directory.join(name), layout) {
                Ok(None) => {}
                Ok(Some(looked)) => return looked,
                Err(error) => return Looked::Unreadable(error),
            }
        }
        if self.0.is_dir() { Looked::NotYet } else { Looked::Nothing }
    }
}

/// Reads one file, if it is there.
fn read(path: &Path, layout: Layout) -> Result<Option<Looked>, BundleError> {
    let failed = |source| BundleError::Read { path: path.to_path_buf(), source };
    // To open something else than a file may take for ever.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed(error.into())),
    };
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(BundleError::NotRegular(path.to_path_buf()));
    }
    if about.len() > LARGEST {
        return Err(BundleError::TooLarge(path.to_path_buf()));
    }
    match parse(BufReader::new(file.take(LARGEST)), layout) {
        Ok(looked) => Ok(Some(looked)),
        // It is being written.
        Err(error) if error.is_eof() => Ok(Some(Looked::NotYet)),
        Err(source) => Err(BundleError::Malformed { path: path.to_path_buf(), source }),
    }
}

/// Piece by piece, since nothing but the annotations is wanted of it.
fn parse(text: impl Read, layout: Layout) -> Result<Looked, serde_json::Error> {
    let Spec { annotations } = serde_json::from_reader(text)?;
    let Annotations { containerd_type, containerd_name, crio_type, crio_name } = annotations;
    let (role, name) = match layout {
        Layout::Containerd => (containerd_type, containerd_name),
        Layout::CriO => (crio_type, crio_name),
    };
    Ok(match role.as_deref() {
        Some("sandbox") => Looked::Role(ContainerRole::Sandbox),
        Some("container") => name
            .filter(|name| name.len() <= LONGEST_NAME)
            .map_or(Looked::Nothing, |name| Looked::Role(ContainerRole::Container(name.into()))),
        _ => Looked::Nothing,
    })
}

#[cfg(test)]
mod tests;
