//! Cgroups by id and by path.

pub mod counters;
mod name;
pub mod tree;
pub mod unknown;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::{
    borrow::Cow,
    ffi::{OsStr, OsString},
    fmt,
    os::unix::ffi::{OsStrExt, OsStringExt},
    sync::Arc,
};

/// The file that the agent enforces.
pub const OOM_GROUP: &str = "memory.oom.group";

/// A cgroup's kernfs node id, which is its directory's inode number
/// (`cgroup_id()`, include/linux/cgroup.h).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct CgroupId(pub u64);

/// A cgroup's path on the v2 hierarchy, as the kernel writes it: absolute, `/`
/// for the root of the mount, without the mount point. Names may be any bytes; each
/// has a text of its own (`name`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupPath(Arc<str>);

/// Why some bytes are no cgroup path: no leading slash, an empty component, `.` or
/// `..`, or a NUL.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("cgroup path {0:?} is not absolute and plain")]
pub struct PathError(String);

impl CgroupId {
    /// The root of the hierarchy: the first node of its kernfs (`kernfs_create_root()`).
    pub const HIERARCHY_ROOT: Self = CgroupId(1);
}

impl CgroupPath {
    pub fn root() -> Self {
        CgroupPath(Arc::from("/"))
    }

    /// Takes a path as the kernel or a directory walk gives it.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        let text = name::to_text(bytes);
        let plain = text == "/"
            || text.strip_prefix('/').is_some_and(|rest| {
                rest.split('/').all(|name| !matches!(name, "" | "." | "..") && !name.contains('\0'))
            });
        let refused = || PathError(String::from_utf8_lossy(bytes).into_owned());
        plain.then(|| CgroupPath(Arc::from(text))).ok_or_else(refused)
    }

    pub fn child(&self, name: &[u8]) -> Result<Self, PathError> {
        let above = name::to_bytes(self.0.trim_end_matches('/'));
        Self::parse(&[above.as_ref(), b"/", name].concat())
    }

    /// The path as text, to compare and to match. People are shown it by `Display`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The path as it is seen from the cgroup so many levels below the root that is on
    /// it; none if there is none.
    pub fn from_level(&self, level: usize) -> Option<Self> {
        let names = self.0.trim_start_matches('/').split('/').filter(|name| !name.is_empty());
        let has_left = names.clone().nth(level).is_some();
        let path = names.clone().skip(level).fold(String::new(), |path, name| path + "/" + name);
        match has_left {
            true => Some(CgroupPath(Arc::from(path))),
            false => (names.count() == level).then(Self::root),
        }
    }

    /// How many levels it lies below the root.
    pub fn levels(&self) -> usize {
        if self.as_str() == "/" { 0 } else { self.as_str().matches('/').count() }
    }

    /// The path one level up; none for the root.
    pub fn parent(&self) -> Option<Self> {
        match self.0.rsplit_once('/')? {
            ("", "") => None,
            ("", _) => Some(Self::root()),
            (parent, _) => Some(CgroupPath(Arc::from(parent))),
        }
    }

    /// The path itself, and then its ancestors.
    pub fn upwards(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.clone()), Self::parent)
    }

    /// The ancestors, nearest first, the root last, without the path itself.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        self.upwards().skip(1)
    }

    /// Whether this is `ancestor` or lies below it.
    pub fn is_within(&self, ancestor: &Self) -> bool {
        ancestor.as_str() == "/"
            || self
                .0
                .strip_prefix(ancestor.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The path relative to the root, to be opened: without the leading slash, `.` for
    /// the root.
    pub fn relative(&self) -> Cow<'_, OsStr> {
        let relative = match self.0.trim_start_matches('/') {
            "" => ".",
            relative => relative,
        };
        match name::to_bytes(relative) {
            Cow::Borrowed(bytes) => Cow::Borrowed(OsStr::from_bytes(bytes)),
            Cow::Owned(bytes) => Cow::Owned(OsString::from_vec(bytes)),
        }
    }
}

impl Serialize for CgroupPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CgroupPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(String::deserialize(deserializer)?.as_bytes()).map_err(D::Error::custom)
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        name::show(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> CgroupPath {
        CgroupPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn bad_paths_are_refused() {
        for bad in ["", "a", "a/b", "//", "/a//b", "/a/", "/../a", "/a/./b", "/a\0"] {
            assert!(CgroupPath::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    /// Shown without what would move a cursor or is no text, opened by its bytes, and
    /// within what it is below.
    #[test]
    fn names_may_be_any_bytes() {
        let longest = [&b"/c"[..], &[b'/'; 1], &[0xff; 255]].concat();
        let table: [(&[u8], &str); 5] = [
            (b"/c/\xff", "/c/\\xff"),
            (b"/c/a\xc3\x28\x80", "/c/a\\xc3(\\x80"),
            (b"/c/\x1b[31m\t", "/c/\\x1b[31m\\x09"),
            (b"/c/serial\\x2dgetty.slice", "/c/serial\\x2dgetty.slice"),
            (&longest, &format!("/c/{}", "\\xff".repeat(255))),
        ];
        for (bytes, shown) in table {
            let odd = CgroupPath::parse(bytes).unwrap();
            assert_eq!((odd.to_string(), odd.parent()), (shown.to_owned(), Some(path("/c"))));
            assert!(odd.is_within(&path("/c")));
            assert_eq!(odd.relative().as_bytes(), &bytes[1..]);
            assert_eq!(path("/c").child(&bytes[3..]), Ok(odd));
        }
    }

    #[test]
    fn parents_end_at_the_root() {
        let ancestors: Vec<_> = path("/a/b/c").ancestors().collect();
        assert_eq!(ancestors, [path("/a/b"), path("/a"), path("/")]);
        assert_eq!(path("/").parent(), None);
        assert_eq!(path("/a/b").name(), "b");
        assert_eq!(
            (path("/").relative(), path("/a/b").relative()),
            (OsStr::new(".").into(), OsStr::new("a/b").into())
        );
    }

    #[test]
    fn a_mount_shows_the_rest_of_a_path() {
        let table =
            [(0, Some("/a/b/c")), (1, Some("/b/c")), (2, Some("/c")), (3, Some("/")), (4, None)];
        for (level, seen) in table {
            assert_eq!(path("/a/b/c").from_level(level), seen.map(path), "{level}");
        }
        assert_eq!((path("/").from_level(0), path("/").from_level(1)), (Some(path("/")), None));
    }

    #[test]
    fn within_is_by_component() {
        assert!(path("/a/b").is_within(&path("/a")));
        assert!(path("/a").is_within(&path("/a")));
        assert!(path("/a").is_within(&path("/")));
        assert!(!path("/ab").is_within(&path("/a")));
        assert!(!path("/a").is_within(&path("/a/b")));
    }
}
