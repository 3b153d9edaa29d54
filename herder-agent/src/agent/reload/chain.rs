//! inotify on every directory in which something that leads to the configuration file can be
//! put in another's place.
//!
//! Directories and not the file, since editors and the kubelet (ConfigMap volumes: a symbolic
//! link `..data` is swapped) put a new file in place of the old one. Each symbolic link on the
//! way, of the file or of a directory, leads to a directory that is watched too.

use crate::kernel::readable::Readable;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::OsString,
    fs,
    future::pending,
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

/// Most symbolic links on the way to a file (`MAXSYMLINKS`, include/linux/namei.h).
const MOST_LINKS: usize = 40;

/// The watches, made anew as often as links lead elsewhere.
pub(super) struct ChainWatch {
    paths: Vec<PathBuf>,
    instance: Option<Instance>,
}

struct Instance {
    descriptor: OwnedFd,
    readable: Readable,
    watches: BTreeMap<PathBuf, i32>,
}

impl ChainWatch {
    pub(super) fn new(path: &Path) -> Self {
        ChainWatch { paths: vec![path.to_path_buf()], instance: None }
    }

    /// From the next [`renew`](Self::renew) on it is about these files.
    pub(super) fn follow<'a>(&mut self, paths: impl Iterator<Item = &'a Path>) {
        self.paths = paths.map(Path::to_path_buf).collect();
    }

    /// Watches the directories that lead to the files now.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        let instance = match &mut self.instance {
            Some(instance) => instance,
            none => none.insert(Instance::new()?),
        };
        instance.drain();
        let mut all = BTreeSet::new();
        for path in &self.paths {
            all.append(&mut directories(path)?);
        }
        instance.watch(all)
    }

    /// Waits until something has changed in one of them; for ever if they cannot be watched.
    pub(super) async fn changed(&self) {
        match &self.instance {
            Some(instance) if instance.readable.ready().await.is_ok() => {}
            _ => pending().await,
        }
    }
}

impl Instance {
    fn new() -> io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let readable = Readable::register(descriptor.as_fd())?;
        Ok(Instance { descriptor, readable, watches: BTreeMap::new() })
    }

    /// What changed does not matter: the file is read and compared anyway.
    fn drain(&self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.descriptor, &mut buffer);
        while events.next().is_ok() {}
    }

    /// A directory that is watched already gets the same watch again from the kernel, and one
    /// that was made anew another.
    fn watch(&mut self, directories: BTreeSet<PathBuf>) -> io::Result<()> {
        let changes = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::CREATE
            | WatchFlags::DELETE;
        let mut watches = BTreeMap::new();
        let mut result = Ok(());
        for directory in directories {
            match inotify::add_watch(&self.descriptor, &directory, changes) {
                Ok(watch) => drop(watches.insert(directory, watch)),
                Err(error) => {
                    let text = format!("cannot watch {}: {error}", directory.display());
                    result = Err(io::Error::new(io::Error::from(error).kind(), text));
                }
            }
        }
        let kept: BTreeSet<i32> = watches.values().copied().collect();
        for old in self.watches.values().filter(|old| !kept.contains(old)) {
            // The kernel has removed the watch itself if the directory is gone.
            let _ = inotify::remove_watch(&self.descriptor, *old);
        }
        self.watches = watches;
        result
    }
}

/// The directories in which the file is, and each symbolic link on the way to it.
fn directories(path: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut left: VecDeque<OsString> = names(path);
    let mut at = PathBuf::from(if path.is_absolute() { "/" } else { "." });
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        let next = at.join(&name);
        if name == ".." {
            at = next;
            continue;
        }
        let Ok(metadata) = fs::symlink_metadata(&next) else {
            // It may come back here.
            found.insert(at);
            return Ok(found);
        };
        if metadata.is_symlink() {
            links += 1;
            if links > MOST_LINKS {
                return Err(io::Error::other(format!("{} leads in a circle", path.display())));
            }
            let target = fs::read_link(&next)?;
            found.insert(at.clone());
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            names(&target).into_iter().rev().for_each(|name| left.push_front(name));
        } else if left.is_empty() {
            found.insert(at.clone());
        } else {
            at = next;
        }
    }
    Ok(found)
}

fn names(path: &Path) -> VecDeque<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A ConfigMap volume, and a link to a file elsewhere, by way of a linked directory.
    #[test]
    fn every_link_on_the_way_is_in_a_watched_directory() {
        let root = std::env::temp_dir().join(format!("herder-chain-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for directory in ["map/..2026", "etc", "real/dir", "far"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::write(root.join("map/..2026/herder.yaml"), "").unwrap();
        fs::write(root.join("far/rules"), "").unwrap();
        symlink("..2026", root.join("map/..data")).unwrap();
        symlink("..data/herder.yaml", root.join("map/herder.yaml")).unwrap();
        symlink("../real/dir", root.join("etc/herder")).unwrap();
        symlink(root.join("far/rules"), root.join("real/dir/herder.yaml")).unwrap();
        symlink("circle", root.join("circle")).unwrap();
        let below = |path: &str| -> Vec<String> {
            let found = directories(&root.join(path)).unwrap();
            let text = |path: PathBuf| {
                Some(path.canonicalize().ok()?.strip_prefix(&root).ok()?.display().to_string())
            };
            let mut found: Vec<_> = found.into_iter().filter_map(text).collect();
            found.sort();
            found
        };
        assert_eq!(below("map/herder.yaml"), ["map", "map/..2026"]);
        assert_eq!(below("etc/herder/herder.yaml"), ["etc", "far", "real/dir"]);
        assert_eq!(below("etc/missing.yaml"), ["etc"]);
        assert!(directories(&root.join("circle")).is_err());
        fs::remove_dir_all(&root).unwrap();
    }
}
