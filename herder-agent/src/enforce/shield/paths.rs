//! Which cgroup the text is that a procfs has for a process. Pure.
//!
//! It is relative to the reader's cgroup namespace: an agent in a container reads of the others
//! `/../../kubepods.slice/…`.

use herder_model::cgroup::CgroupPath;

/// Where this process's cgroup namespace begins.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    /// None if that is the root.
    begins_at: Option<CgroupPath>,
}

impl Paths {
    /// One that begins there.
    pub(super) fn beginning_at(path: CgroupPath) -> Self {
        Paths { begins_at: Some(path).filter(|path| path.as_str() != "/") }
    }

    /// Whether a text shows that the namespace does not begin at the root: that of the node's
    /// first process, which is outside of every container.
    pub(super) fn is_relative(first: &str) -> bool {
        first == "/.." || first.starts_with("/../")
    }

    /// The cgroup that a text means.
    pub(super) fn resolve(&self, text: &str) -> Option<CgroupPath> {
        let mut rest = text.strip_prefix('/')?;
        let own = self.begins_at.as_ref().map_or("", CgroupPath::as_str);
        let mut base: Vec<&str> = own.split('/').filter(|name| !name.is_empty()).collect();
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
        let paths = Paths::beginning_at(path("/kubepods/podA/agent"));
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
        for paths in [Paths::default(), Paths::beginning_at(path("/"))] {
            assert_eq!(paths.resolve("/a/b"), Some(path("/a/b")));
            assert_eq!(paths.resolve("/"), Some(path("/")));
            assert_eq!(paths.resolve("/../a"), None);
        }
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
