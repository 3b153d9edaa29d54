//! What cgroups' files say of their limits and their use.

use super::files::CgroupFs;
use herder_model::{
    cgroup::CgroupPath,
    oom::limit::{Memory, Parts},
    owner::crun,
};
use std::{fs, path::Path};

/// Most cgroups below one that are looked at. A pod has far fewer. A slice with a limit may have
/// thousands, and corrections wait meanwhile.
const MOST: usize = 64;

impl CgroupFs {
    /// A cgroup's limit; none if it has none, or that cannot be read.
    pub fn limit(&self, path: &CgroupPath) -> Option<u64> {
        limit(&self.directory(path)).flatten()
    }

    /// The limits of the containers directly below a cgroup; none if they cannot be read, or
    /// there are too many.
    pub fn limits_below(&self, path: &CgroupPath) -> Option<Parts> {
        let mut parts = Parts::default();
        let mut seen = 0;
        for entry in fs::read_dir(self.directory(path)).ok()?.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            seen += 1;
            if seen > MOST {
                return None;
            }
            if let Some(bytes) = containers_limit(&entry.path()).flatten() {
                parts.count += 1;
                parts.sum = parts.sum.saturating_add(bytes);
            }
        }
        Some(parts)
    }

    /// Memory of a container; none if it is gone.
    pub fn memory(&self, container: &CgroupPath) -> Option<Memory> {
        let limit = containers_limit(&self.directory(container))?;
        let number = |file| self.number(container, file);
        Some(Memory { limit, current: number("memory.current"), peak: number("memory.peak") })
    }
}

/// A container's limit. crun may give it to the cgroup below, where it puts the processes.
fn containers_limit(directory: &Path) -> Option<Option<u64>> {
    let below = || limit(&directory.join(crun::SUBGROUP)).flatten();
    limit(directory).map(|own| own.or_else(below))
}

/// `memory.max`, which may be none; no answer if it cannot be read.
fn limit(directory: &Path) -> Option<Option<u64>> {
    match fs::read_to_string(directory.join("memory.max")).ok()?.trim() {
        "max" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A pod's directory with such limits in it.
    fn pod(name: &str, limits: &[(&str, &str)]) -> PathBuf {
        let root =
            std::env::temp_dir().join(format!("herder-limits-{name}-{}", std::process::id()));
        for (cgroup, limit) in limits {
            fs::create_dir_all(root.join(cgroup)).unwrap();
            fs::write(root.join(cgroup).join("memory.max"), format!("{limit}\n")).unwrap();
        }
        root
    }

    #[test]
    fn limits_are_read_where_the_runtimes_put_them() {
        let root = pod(
            "layouts",
            &[
                ("pause", "max"),
                ("runc", "100"),
                ("crun", "max"),
                ("crun/container", "30"),
                ("both", "7"),
                ("both/container", "7"),
                ("delegated", "5"),
                ("delegated/sub", "1"),
            ],
        );
        fs::write(root.join("runc/memory.current"), "60\n").unwrap();
        fs::write(root.join("memory.stat"), "no cgroup\n").unwrap();
        let files = CgroupFs::new(root.clone());
        let below = || files.limits_below(&CgroupPath::root());
        assert_eq!(below(), Some(Parts { count: 4, sum: 142 }));
        let of = |name: &str| files.memory(&CgroupPath::root().child(name.as_bytes()).unwrap());
        let limit = |name: &str| of(name).map(|memory| memory.limit);
        assert_eq!(of("runc"), Some(Memory { limit: Some(100), current: Some(60), peak: None }));
        assert_eq!((limit("crun"), limit("pause")), (Some(Some(30)), Some(None)));
        assert_eq!(limit("gone"), None);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(below(), None);
    }

    /// A slice with a limit may have thousands of cgroups below it.
    #[test]
    fn what_has_too_much_below_it_is_not_added_up() {
        let names: Vec<_> = (0..=MOST).map(|number| number.to_string()).collect();
        let limits: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
        let root = pod("many", &limits);
        let below = || CgroupFs::new(root.clone()).limits_below(&CgroupPath::root());
        assert_eq!(below(), None);
        fs::remove_dir_all(root.join("0")).unwrap();
        assert_eq!(below().map(|parts| parts.count), Some(64));
        fs::remove_dir_all(&root).unwrap();
    }
}
