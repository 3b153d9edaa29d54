//! The cgroup that this process is in.

use herder_model::cgroup::CgroupId;
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Where a process finds the cgroups that its own namespace shows.
const MOUNT: &str = "/sys/fs/cgroup";

/// Its id; none where the namespace's own mount is not at the usual place.
pub fn id() -> Option<CgroupId> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    Some(CgroupId(fs::metadata(directory(&text, Path::new(MOUNT))?).ok()?.ino()))
}

/// The path of `0::/path` begins where the namespace does, as the mount's does.
fn directory(text: &str, mount: &Path) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // A namespace may be entered from outside of its root.
    (!path.starts_with("..")).then(|| mount.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_version_2_counts() {
        let mount = Path::new("/m");
        let table = [
            ("0::/system.slice/a.service\n", Some("/m/system.slice/a.service")),
            ("12:cpu:/x\n0::/\n", Some("/m/")),
            ("0::/../other\n", None),
            ("1:name=systemd:/a\n", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(directory(text, mount), expected.map(PathBuf::from), "{text:?}");
        }
    }
}
