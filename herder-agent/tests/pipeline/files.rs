//! The hierarchy as the kernel would show it: directories and files.

use herder_model::cgroup::{CgroupId, OOM_GROUP};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A directory that is removed at the end.
pub(super) struct Root(pub(super) PathBuf);

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn make(root: &Path, path: &str) -> u64 {
    fs::create_dir_all(root.join(path.trim_start_matches('/'))).unwrap();
    for (file, text) in [
        ("cgroup.procs", ""),
        ("cgroup.events", "populated 1\n"),
        ("memory.events.local", "oom_kill 0\n"),
        ("memory.max", "1048576\n"),
        (OOM_GROUP, "0\n"),
    ] {
        write(root, path, file, text);
    }
    id(root, path)
}

pub(super) fn write(root: &Path, path: &str, file: &str, text: &str) {
    fs::write(root.join(path.trim_start_matches('/')).join(file), text).unwrap();
}

pub(super) fn id(root: &Path, path: &str) -> u64 {
    CgroupId(fs::metadata(root.join(path.trim_start_matches('/'))).unwrap().ino()).0
}
