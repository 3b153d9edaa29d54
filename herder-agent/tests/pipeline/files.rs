//! The hierarchy as the kernel would show it: directories and files.

use herder_model::cgroup::{CgroupId, OOM_GROUP};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Mutex,
};

/// The newest id of each hierarchy.
static NEWEST: Mutex<BTreeMap<PathBuf, u64>> = Mutex::new(BTreeMap::new());

/// A directory that is removed at the end.
pub(super) struct Root(pub(super) PathBuf);

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        let _ = fs::remove_dir_all(held(&self.0));
    }
}

/// Where directories are that only keep their ids from coming again.
fn held(root: &Path) -> PathBuf {
    root.with_extension("held")
}

/// Makes a directory. As with cgroups, its id is higher than any before; a file system would give
/// it one that another test has given up.
fn make_newest(root: &Path, directory: &Path) {
    let mut newest = NEWEST.lock().unwrap();
    let newest = newest.entry(root.to_owned()).or_default();
    fs::create_dir_all(held(root)).unwrap();
    let mut number = fs::read_dir(held(root)).unwrap().count();
    loop {
        let made = held(root).join(number.to_string());
        fs::create_dir(&made).unwrap();
        let id = fs::metadata(&made).unwrap().ino();
        if id > *newest {
            *newest = id;
            return fs::rename(made, directory).unwrap();
        }
        number += 1;
    }
}

pub(super) fn make(root: &Path, path: &str) -> u64 {
    let directory = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(directory.parent().unwrap()).unwrap();
    if !directory.exists() {
        make_newest(root, &directory);
    }
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
