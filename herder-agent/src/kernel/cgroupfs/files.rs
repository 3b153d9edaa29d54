//! What the files of cgroups say, read by path. Nothing here has to be there: a kill is often
//! the last thing that happens in a cgroup.

use super::dir::EVENTS;
use herder_model::cgroup::{CgroupId, CgroupPath, OOM_GROUP, counters::parse_oom_kill};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Reads below one directory: the cgroup mount, or a part of it.
#[derive(Clone, Debug)]
pub struct CgroupFs {
    root: PathBuf,
}

impl CgroupFs {
    pub fn new(root: PathBuf) -> Self {
        CgroupFs { root }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn directory(&self, path: &CgroupPath) -> PathBuf {
        self.root.join(path.relative())
    }

    pub fn read(&self, path: &CgroupPath, file: &str) -> Option<String> {
        fs::read_to_string(self.directory(path).join(file)).ok()
    }

    pub fn id(&self, path: &CgroupPath) -> Option<CgroupId> {
        Some(CgroupId(fs::metadata(self.directory(path)).ok()?.ino()))
    }

    /// Whose it is.
    pub fn owner_uid(&self, path: &CgroupPath) -> Option<u32> {
        Some(fs::metadata(self.directory(path)).ok()?.uid())
    }

    /// Whether its processes are killed together.
    pub fn oom_group(&self, path: &CgroupPath) -> Option<bool> {
        Some(self.read(path, OOM_GROUP)?.trim() == "1")
    }

    /// Whether there are processes in it or below it; none if that cannot be read.
    pub fn is_populated(&self, path: &CgroupPath) -> Option<bool> {
        Some(self.read(path, "cgroup.events")?.lines().any(|line| line == "populated 1"))
    }

    /// Where the kernel counts what is killed in a cgroup: the nearest that counts, from the
    /// cgroup upwards. One that is threaded, or was made for itself by a container, may have no
    /// memory controller.
    pub fn nearest_that_counts(&self, path: &CgroupPath) -> Option<CgroupId> {
        self.id(&path.upwards().find(|path| self.directory(path).join(EVENTS).exists())?)
    }

    /// Processes that the kernel has killed on this node; none if it does not say. Where the mount
    /// begins at the hierarchy's root, that is `oom_kill` of `/proc/vmstat`. A node that is a
    /// container shares that file with others. But what its own cgroup counts in `memory.events`
    /// includes all cgroups below it, also those that are gone.
    pub fn node_kills(&self, begins_at: CgroupId) -> Option<u64> {
        let file = match begins_at {
            CgroupId::HIERARCHY_ROOT => PathBuf::from("/proc/vmstat"),
            _ => self.root.join("memory.events"),
        };
        parse_oom_kill(&fs::read_to_string(file).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threaded cgroups, those without the controller, and those that are gone again.
    #[test]
    fn kills_are_counted_in_the_nearest_cgroup_that_counts() {
        let root = std::env::temp_dir().join(format!("herder-counts-{}", std::process::id()));
        fs::create_dir_all(root.join("c/own")).unwrap();
        fs::create_dir_all(root.join("c/plain/deep")).unwrap();
        for counts in ["c", "c/own"] {
            fs::write(root.join(counts).join(EVENTS), "oom_kill 0\n").unwrap();
        }
        let files = CgroupFs::new(root.clone());
        let inode = |path: &str| Some(CgroupId(fs::metadata(root.join(path)).unwrap().ino()));
        let table = [
            ("/c", inode("c")),
            ("/c/own", inode("c/own")),
            ("/c/plain/deep", inode("c")),
            ("/c/gone/deep", inode("c")),
            ("/", None),
        ];
        for (path, expected) in table {
            let found = files.nearest_that_counts(&CgroupPath::parse(path.as_bytes()).unwrap());
            assert_eq!(found, expected, "{path}");
        }
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn what_cannot_be_read_is_neither_yes_nor_no() {
        let root = std::env::temp_dir().join(format!("herder-files-{}", std::process::id()));
        fs::create_dir_all(root.join("c")).unwrap();
        let files = CgroupFs::new(root.clone());
        let path = CgroupPath::parse(b"/c").unwrap();
        assert_eq!((files.oom_group(&path), files.is_populated(&path)), (None, None));
        for (value, expected) in [("0\n", false), ("1\n", true)] {
            fs::write(root.join("c").join(OOM_GROUP), value).unwrap();
            fs::write(root.join("c/cgroup.events"), format!("populated {value}frozen 1\n"))
                .unwrap();
            assert_eq!(files.oom_group(&path), Some(expected));
            assert_eq!(files.is_populated(&path), Some(expected));
        }
        fs::write(root.join("memory.events"), "oom 9\noom_kill 7\n").unwrap();
        assert_eq!(files.node_kills(CgroupId(5)), Some(7));
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(files.id(&path), None);
    }
}
