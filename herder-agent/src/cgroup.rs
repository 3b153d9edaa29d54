//! Cgroups by id and by path.

pub mod dir;
pub mod tree;
pub mod walk;

use serde::{Deserialize, Deserializer, Serialize, de::Error};
use std::{fmt, sync::Arc};

/// A cgroup's kernfs node id, which is its directory's inode number
/// (`cgroup_id()`, include/linux/cgroup.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct CgroupId(pub u64);

/// A cgroup's path on the v2 hierarchy, as the kernel writes it: absolute, `/`
/// for the root, without the mount point.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct CgroupPath(Arc<str>);

/// Why some bytes are no cgroup path.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PathError {
    /// Bytes that are no UTF-8.
    #[error("cgroup path {0:?} is not UTF-8")]
    NotUtf8(String),
    /// No leading slash, an empty component, `.` or `..`, or a NUL.
    #[error("cgroup path {0:?} is not absolute and plain")]
    NotPlain(String),
}

impl CgroupPath {
    /// The root of the hierarchy.
    pub fn root() -> Self {
        CgroupPath(Arc::from("/"))
    }

    /// Takes a path as the kernel or a directory walk gives it.
    ///
    /// # Errors
    /// When it is not UTF-8 or not an absolute path of plain components.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        let lossy = || String::from_utf8_lossy(bytes).into_owned();
        let text = std::str::from_utf8(bytes).map_err(|_| PathError::NotUtf8(lossy()))?;
        let plain = text == "/"
            || text.strip_prefix('/').is_some_and(|rest| {
                rest.split('/').all(|name| !matches!(name, "" | "." | "..") && !name.contains('\0'))
            });
        if plain { Ok(CgroupPath(Arc::from(text))) } else { Err(PathError::NotPlain(lossy())) }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The path one level up; none for the root.
    pub fn parent(&self) -> Option<Self> {
        match self.0.rsplit_once('/')? {
            ("", "") => None,
            ("", _) => Some(Self::root()),
            (parent, _) => Some(CgroupPath(Arc::from(parent))),
        }
    }

    /// The ancestors, nearest first, the root last, without the path itself.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(self.parent(), Self::parent)
    }

    /// Whether this is `ancestor` or lies below it.
    pub fn is_within(&self, ancestor: &Self) -> bool {
        ancestor.as_str() == "/"
            || self
                .0
                .strip_prefix(ancestor.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The path relative to the root: without the leading slash, `.` for the root.
    pub fn relative(&self) -> &str {
        match self.0.trim_start_matches('/') {
            "" => ".",
            relative => relative,
        }
    }
}

impl<'de> Deserialize<'de> for CgroupPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(String::deserialize(deserializer)?.as_bytes()).map_err(D::Error::custom)
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
        assert!(matches!(CgroupPath::parse(b"/\xff"), Err(PathError::NotUtf8(_))));
    }

    #[test]
    fn parents_end_at_the_root() {
        let ancestors: Vec<_> = path("/a/b/c").ancestors().collect();
        assert_eq!(ancestors, [path("/a/b"), path("/a"), path("/")]);
        assert_eq!(path("/").parent(), None);
        assert_eq!(path("/a/b").name(), "b");
        assert_eq!((path("/").relative(), path("/a/b").relative()), (".", "a/b"));
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
