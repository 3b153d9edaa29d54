//! Which cgroup the text is that a procfs has for a process. Pure.
//!
//! It is relative to the reader's cgroup namespace: an agent in a container reads of the others
//! `/../../kubepods.slice/…`.

use herder_model::cgroup::CgroupPath;

/// Where this process's cgroup namespace begins.
#[derive(Clone, Debug)]
pub(super) enum Paths {
    BeginAt(CgroupPath),
    /// It is not known, and so no text means a cgroup.
    Unknown,
}

impl Paths {
    /// That of the node.
    pub(super) fn of_the_node() -> Self {
        Paths::BeginAt(CgroupPath::root())
    }

    /// Whether a text shows that the namespace does not begin at the root: that of the node's
    /// first process, which is outside of every container.
    pub(super) fn is_relative(first: &str) -> bool {
        first == "/.." || first.starts_with("/../")
    }

    /// The cgroup that a text means.
    pub(super) fn resolve(&self, text: &str) -> Option<CgroupPath> {
        let mut rest = text.strip_prefix('/')?;
        let Self::BeginAt(own) = self else { return None };
        let mut base: Vec<&str> = own.as_str().split('/').filter(|name| !name.is_empty()).collect();
        while let Some(below) = rest.strip_prefix("..") {
            base.pop()?;
            rest = match below.strip_prefix('/') {
                Some(below) => below,
                None if below.is_empty() => "",
                // A cgroup whose name begins with two dots.
                None => return None,
            };
        }
        base.extend(rest.split('/').filter(|name| !name.is_empty()));
        CgroupPath::parse(format!("/{}", base.join("/")).as_bytes()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> CgroupPath {
        CgroupPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn from_a_container_all_others_are_seen_upwards() {
        let paths = Paths::BeginAt(path("/kubepods/podA/agent"));
        for (text, expected) in [
            ("/", Some("/kubepods/podA/agent")),
            ("/sub", Some("/kubepods/podA/agent/sub")),
            ("/..", Some("/kubepods/podA")),
            ("/../other", Some("/kubepods/podA/other")),
            ("/../../podB/web/job", Some("/kubepods/podB/web/job")),
            ("/../../../init.scope", Some("/init.scope")),
            ("/../../..", Some("/")),
            ("/../../../..", None),
            ("", None),
            ("relative", None),
        ] {
            assert_eq!(paths.resolve(text), expected.map(path), "{text:?}");
        }
    }

    #[test]
    fn from_the_node_they_are_what_they_say() {
        let paths = Paths::of_the_node();
        assert_eq!(paths.resolve("/a/b"), Some(path("/a/b")));
        assert_eq!(paths.resolve("/"), Some(path("/")));
        assert_eq!(paths.resolve("/../a"), None);
        assert_eq!(Paths::Unknown.resolve("/a/b"), None);
        for (first, relative) in [
            ("/..", true),
            ("/../../init.scope", true),
            ("/init.scope", false),
            ("/", false),
            ("/..a", false),
        ] {
            assert_eq!(Paths::is_relative(first), relative, "{first}");
        }
    }
}
