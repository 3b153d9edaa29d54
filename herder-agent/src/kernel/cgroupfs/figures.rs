//! What the files of a cgroup say of its memory right after a kill.

use super::files::CgroupFs;
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    scene::figures::{Figures, Stat},
};

impl CgroupFs {
    /// Memory of a cgroup; none if it is gone, or another one has its path by now.
    pub fn figures(&self, path: &CgroupPath, id: Option<CgroupId>) -> Option<Figures> {
        let stat = Stat::parse(&self.read(path, "memory.stat")?);
        let figures = Figures {
            cgroup: path.clone(),
            current: self.current(path),
            peak: self.number(path, "memory.peak"),
            swap: self.number(path, "memory.swap.current"),
            pids: self.number(path, "pids.current"),
            stat,
        };
        // Looked at last, so that all of it is of this cgroup.
        id.is_none_or(|id| self.id(path) == Some(id)).then_some(figures)
    }

    /// What is charged to a cgroup now.
    pub fn current(&self, path: &CgroupPath) -> Option<u64> {
        self.number(path, "memory.current")
    }

    pub(super) fn number(&self, path: &CgroupPath, file: &str) -> Option<u64> {
        self.read(path, file)?.trim().parse().ok()
    }
}

/// All memory of this machine, bytes.
pub fn node_memory() -> u64 {
    let system = rustix::system::sysinfo();
    system.totalram.saturating_mul(system.mem_unit.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_there_is_read_and_the_rest_is_none() {
        let root = std::env::temp_dir().join(format!("herder-figures-{}", std::process::id()));
        let files = CgroupFs::new(root.clone());
        let path = CgroupPath::parse(b"/c").unwrap();
        assert_eq!(files.figures(&path, None), None, "gone");
        fs::create_dir_all(root.join("c")).unwrap();
        for (file, text) in [
            ("memory.stat", "anon 4096\nfile 12288\nshmem 8192\n"),
            ("memory.current", "20480\n"),
            ("pids.current", "7\n"),
        ] {
            fs::write(root.join("c").join(file), text).unwrap();
        }
        let id = files.id(&path);
        let found = files.figures(&path, id).unwrap();
        assert_eq!((found.current, found.pids, found.peak), (Some(20480), Some(7), None));
        assert_eq!((found.stat.anon, found.stat.cache()), (Some(4096), Some(4096)));
        assert_eq!(files.figures(&path, Some(CgroupId(u64::MAX))), None, "another one");
        fs::remove_dir_all(&root).unwrap();
    }
}
