//! What files of a procfs say. Pure: a process may call itself anything.

/// Which process it is among others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// Its parent; 0 if that is not shown.
    pub parent: u32,
    /// Its id in each pid namespace, the outermost first.
    pub pids: Vec<u32>,
}

impl Lineage {
    /// Whether it is the first of a pid namespace of its own.
    pub fn is_first(&self) -> bool {
        matches!(self.pids[..], [_, .., 1])
    }
}

/// From `status`.
pub(super) fn lineage(status: &str) -> Option<Lineage> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let pids = field("NSpid:")?.split_whitespace().map(|pid| pid.parse().ok());
    Some(Lineage {
        parent: field("PPid:")?.trim().parse().ok()?,
        pids: pids.collect::<Option<_>>()?,
    })
}

/// Flags and beginning from `stat`: its ninth and 22nd fields. The second is the name, which may
/// have anything in it.
pub(super) fn flags_and_start(stat: &str) -> Option<(u64, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    // After the name comes the third field.
    let flags = fields.nth(6)?.parse().ok()?;
    Some((flags, fields.nth(12)?.parse().ok()?))
}

/// The path on the v2 hierarchy from `cgroup`.
pub(super) fn v2_path(cgroups: &str) -> Option<&str> {
    cgroups.lines().find_map(|line| line.strip_prefix("0::"))
}

/// Where `mountinfo` has the v2 mount that begins where this cgroup namespace does.
pub(super) fn namespace_mount(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let (about, kind) = line.split_once(" - ")?;
        let mut fields = about.split(' ');
        let (root, path) = (fields.nth(3)?, fields.next()?);
        (kind.starts_with("cgroup2 ") && root == "/").then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_whatever_it_calls_itself() {
        let stat = "17 (a) 1 2 (b) S 1 17 17 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 4711 9 9 18446744073709551615";
        assert_eq!(flags_and_start(stat), Some((4_194_560, 4711)));
        assert_eq!(flags_and_start("17 (a) S 1"), None);
        assert_eq!(flags_and_start(""), None);
    }

    #[test]
    fn the_first_of_a_namespace_is_known_by_its_ids() {
        let of = |ids: &str| lineage(&format!("Name:\tx\nPPid:\t7\nNSpid:\t{ids}\n"));
        for (ids, first) in
            [("4711\t1", true), ("4711\t9\t1", true), ("1", false), ("4711\t1\t9", false)]
        {
            let lineage = of(ids).unwrap();
            assert_eq!((lineage.parent, lineage.is_first()), (7, first), "{ids}");
        }
        assert_eq!((of("x"), lineage("PPid:\t1\n")), (None, None));
    }

    #[test]
    fn the_v2_path_is_found_beside_others() {
        assert_eq!(v2_path("12:memory:/a\n0::/../b\n"), Some("/../b"));
        assert_eq!(v2_path("12:memory:/a\n"), None);
    }

    #[test]
    fn the_mount_of_the_namespace_is_the_one_that_begins_at_it() {
        let mounts = "31 24 0:26 /../../.. /host/cgroup rw - cgroup2 cgroup rw\n\
            32 24 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n\
            33 24 0:5 / /proc rw - proc proc rw\n";
        assert_eq!(namespace_mount(mounts), Some("/sys/fs/cgroup"));
        assert_eq!(namespace_mount("33 24 0:5 / /proc rw - proc proc rw\n"), None);
    }
}
