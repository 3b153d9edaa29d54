//! Which path a cgroup id stands for.
//!
//! Filled by a walk at start and then by the kernel's mkdir and rmdir events. A
//! removed cgroup keeps its name for a while: a kill is often the last thing
//! that happens in a cgroup, and its record may be read after the removal.

use super::{CgroupId, CgroupPath};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs, io,
    os::unix::{ffi::OsStrExt, fs::DirEntryExt, fs::MetadataExt},
    path::Path,
};

/// How long a removed cgroup can still be named, nanoseconds. The records of a
/// kill wait at most a minute (`oom::assemble::EXIT_WAIT`).
pub const KEEP_REMOVED: u64 = 300 * 1_000_000_000;

/// Most removed cgroups that are kept, so that pod churn cannot fill the memory.
const MOST_REMOVED: usize = 4096;

/// The cgroups of the v2 hierarchy by id.
#[derive(Debug, Default)]
pub struct CgroupTree {
    paths: HashMap<CgroupId, Known>,
    removed: VecDeque<(CgroupId, u64)>,
    gone: HashSet<CgroupId>,
}

#[derive(Debug)]
struct Known {
    path: CgroupPath,
    since: u64,
}

impl CgroupTree {
    /// The path of a cgroup, of a removed one too.
    pub fn path(&self, id: CgroupId) -> Option<&CgroupPath> {
        self.paths.get(&id).map(|known| &known.path)
    }

    /// Whether it was removed.
    pub fn is_gone(&self, id: CgroupId) -> bool {
        self.gone.contains(&id)
    }

    /// Cgroups that are there.
    pub fn living(&self) -> impl Iterator<Item = (CgroupId, &CgroupPath)> {
        let living = self.paths.iter().filter(|(id, _)| !self.gone.contains(id));
        living.map(|(id, known)| (*id, &known.path))
    }

    /// Takes a cgroup that was made at a time in nanoseconds. Tells whether it is
    /// new.
    pub fn made(&mut self, id: CgroupId, path: CgroupPath, now: u64) -> bool {
        if self.paths.contains_key(&id) {
            return false;
        }
        self.paths.insert(id, Known { path, since: now });
        true
    }

    /// Takes a removal at a time in nanoseconds. Tells whether it was there.
    pub fn removed(&mut self, id: CgroupId, now: u64) -> bool {
        if !self.paths.contains_key(&id) || !self.gone.insert(id) {
            return false;
        }
        self.removed.push_back((id, now));
        self.forget(now);
        true
    }

    /// Forgets what was removed long ago.
    pub fn forget(&mut self, now: u64) {
        while let Some(&(id, removed)) = self.removed.front() {
            let young = now < removed.saturating_add(KEEP_REMOVED);
            if young && self.removed.len() <= MOST_REMOVED {
                return;
            }
            self.removed.pop_front();
            self.gone.remove(&id);
            self.paths.remove(&id);
        }
    }

    /// Takes what a walk found that began and ended at these times. Tells what
    /// the tree had missed: cgroups that are new to it, and those that are gone.
    /// What was made or removed while the walk went on is left as events told it.
    pub fn compare(&mut self, walk: &Walk, (began, ended): (u64, u64)) -> Missed {
        let living = self.paths.iter().filter(|(id, _)| walk.complete && !self.gone.contains(id));
        let vanished: Vec<CgroupId> = living
            .filter(|(id, known)| known.since < began && !walk.found.contains_key(id))
            .map(|(id, _)| *id)
            .collect();
        for id in &vanished {
            self.removed(*id, ended);
        }
        // Ids are not used again, so what was taken for removed and is there all
        // the same has never gone.
        let gone_before: HashSet<CgroupId> =
            self.removed.iter().filter(|(_, at)| *at < began).map(|(id, _)| *id).collect();
        let mut made = Vec::new();
        for (id, path) in &walk.found {
            let back = gone_before.contains(id) && self.gone.remove(id);
            if back {
                self.removed.retain(|(removed, _)| removed != id);
            }
            if self.made(*id, path.clone(), began) || back {
                made.push((*id, path.clone()));
            }
        }
        Missed { made, vanished }
    }
}

/// What a walk of the hierarchy found.
#[derive(Debug, Default)]
pub struct Walk {
    /// Paths of the cgroups that are there.
    pub found: HashMap<CgroupId, CgroupPath>,
    /// Nothing was passed over: what was not found is not there.
    pub complete: bool,
}

/// What a walk found that no event had told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// New cgroups.
    pub made: Vec<(CgroupId, CgroupPath)>,
    /// Removed ones.
    pub vanished: Vec<CgroupId>,
}

/// Walks the hierarchy. A directory that vanishes meanwhile is left out.
///
/// # Errors
/// When the root itself cannot be read.
pub fn walk(root: &Path) -> io::Result<Walk> {
    let mut walk = Walk { found: HashMap::new(), complete: true };
    walk.found.insert(CgroupId(fs::metadata(root)?.ino()), CgroupPath::root());
    walk_below(root, &mut Vec::new(), &mut walk)?;
    Ok(walk)
}

fn walk_below(directory: &Path, name: &mut Vec<u8>, walk: &mut Walk) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // Symbolic links are no directories here, so the walk stays below the root.
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let parent = name.len();
        name.push(b'/');
        name.extend_from_slice(entry.file_name().as_bytes());
        match CgroupPath::parse(name) {
            Ok(path) => drop(walk.found.insert(CgroupId(entry.ino()), path)),
            Err(error) => tracing::debug!(%error, "A cgroup is left out."),
        }
        match walk_below(&entry.path(), name, walk) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                walk.complete = false;
                tracing::warn!(%error, path = %entry.path().display(), "A cgroup cannot be read.");
            }
            _ => {}
        }
        name.truncate(parent);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> CgroupPath {
        CgroupPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_removed_cgroup_keeps_its_name_for_a_while() {
        let mut tree = CgroupTree::default();
        assert!(tree.made(CgroupId(5), path("/a"), 1));
        assert!(!tree.made(CgroupId(5), path("/a"), 2), "an event that repeats the walk");
        assert!(tree.removed(CgroupId(5), 10));
        assert!(!tree.removed(CgroupId(5), 11));
        assert_eq!(tree.living().count(), 0);
        tree.forget(10 + KEEP_REMOVED - 1);
        assert_eq!(tree.path(CgroupId(5)), Some(&path("/a")));
        tree.forget(10 + KEEP_REMOVED);
        assert_eq!(tree.path(CgroupId(5)), None);
    }

    #[test]
    fn churn_is_bounded() {
        let mut tree = CgroupTree::default();
        for id in 0..10_000 {
            tree.made(CgroupId(id), path(&format!("/{id}")), 1);
            tree.removed(CgroupId(id), 1);
        }
        assert_eq!(tree.paths.len(), MOST_REMOVED);
        assert!(tree.path(CgroupId(9_999)).is_some() && tree.path(CgroupId(0)).is_none());
    }

    #[test]
    fn a_walk_tells_what_events_missed() {
        let mut tree = CgroupTree::default();
        tree.made(CgroupId(1), path("/stays"), 1);
        tree.made(CgroupId(2), path("/goes"), 1);
        tree.made(CgroupId(4), path("/made-during-the-walk"), 6);
        tree.made(CgroupId(5), path("/removed-during-the-walk"), 1);
        tree.removed(CgroupId(5), 6);
        let found = HashMap::from([
            (CgroupId(1), path("/stays")),
            (CgroupId(3), path("/comes")),
            (CgroupId(5), path("/removed-during-the-walk")),
        ]);
        let missed = tree.compare(&Walk { found, complete: true }, (5, 7));
        assert_eq!(missed.made, [(CgroupId(3), path("/comes"))]);
        assert_eq!(missed.vanished, [CgroupId(2)]);
        let mut living: Vec<_> = tree.living().map(|(id, _)| id.0).collect();
        living.sort_unstable();
        assert_eq!(living, [1, 3, 4]);
    }

    /// Without a free descriptor a walk passes over whole subtrees.
    #[test]
    fn an_incomplete_walk_removes_nothing() {
        let mut tree = CgroupTree::default();
        tree.made(CgroupId(1), path("/unread"), 1);
        let missed = tree.compare(&Walk::default(), (5, 7));
        assert_eq!(missed, Missed::default());
        assert_eq!(tree.living().count(), 1);
    }

    #[test]
    fn what_a_walk_finds_again_was_never_gone() {
        let mut tree = CgroupTree::default();
        tree.made(CgroupId(1), path("/a"), 1);
        tree.removed(CgroupId(1), 2);
        let found = HashMap::from([(CgroupId(1), path("/a"))]);
        let missed = tree.compare(&Walk { found, complete: true }, (5, 7));
        assert_eq!(missed.made, [(CgroupId(1), path("/a"))]);
        tree.forget(2 + KEEP_REMOVED);
        assert_eq!(tree.living().count(), 1);
    }

    #[test]
    fn a_walk_names_directories_by_their_inode() {
        let root = std::env::temp_dir().join(format!("herder-tree-{}", std::process::id()));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), "").unwrap();
        std::os::unix::fs::symlink("/", root.join("link")).unwrap();
        let found = walk(&root).unwrap();
        let inode = fs::metadata(root.join("a/b")).unwrap().ino();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(found.found.get(&CgroupId(inode)), Some(&path("/a/b")));
        assert!(found.complete && found.found.len() == 3, "the root, a and a/b: {found:?}");
    }
}
