//! Which parts of the hierarchy a walk could not look at.
//!
//! Any user may make an own delegated cgroup unreadable, and as many of them as the user likes. That
//! must not say anything about the rest of the node.

use super::CgroupPath;

/// Paths that are kept. Beyond that, the deepest are replaced by the cgroups above them.
const MOST: usize = 64;

/// What lies at or below some paths, none of which lies below another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unknown(Vec<CgroupPath>);

impl Unknown {
    /// Nothing could be looked at.
    pub fn everything() -> Self {
        Unknown(vec![CgroupPath::root()])
    }

    /// A cgroup could not be read.
    pub fn add(&mut self, path: CgroupPath) {
        if self.contains(&path) {
            return;
        }
        self.0.retain(|kept| !kept.is_within(&path));
        self.0.push(path);
        while self.0.len() > MOST {
            self.widen();
        }
    }

    fn widen(&mut self) {
        let deepest = self.0.iter().map(CgroupPath::levels).max().unwrap_or(0);
        let is_deepest = |path: &mut CgroupPath| path.levels() == deepest;
        let below: Vec<_> = self.0.extract_if(.., is_deepest).collect();
        for path in below {
            self.add(path.parent().unwrap_or(path));
        }
    }

    /// Whether it is not known what has become of this one.
    pub fn contains(&self, path: &CgroupPath) -> bool {
        self.0.iter().any(|unread| path.is_within(unread))
    }

    /// All could be looked at: what was not found is not there.
    pub fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> CgroupPath {
        CgroupPath::parse(text.as_bytes()).unwrap()
    }

    fn of(paths: impl IntoIterator<Item = String>) -> Unknown {
        let mut unknown = Unknown::default();
        paths.into_iter().for_each(|text| unknown.add(path(&text)));
        unknown
    }

    #[test]
    fn what_lies_at_or_below_an_unread_cgroup_is_unknown() {
        let unknown = of(["/a/b", "/a/b/c", "/a", "/d/e"].map(str::to_owned));
        assert_eq!(unknown, Unknown(vec![path("/a"), path("/d/e")]), "none lies below another");
        for (text, expected) in [
            ("/", false),
            ("/a", true),
            ("/a/x", true),
            ("/ab", false),
            ("/d", false),
            ("/d/e/f", true),
        ] {
            assert_eq!(unknown.contains(&path(text)), expected, "{text}");
        }
        assert!(Unknown::everything().contains(&path("/x")) && !Unknown::everything().is_nothing());
        assert!(Unknown::default().is_nothing() && !Unknown::default().contains(&path("/")));
    }

    /// A user with any number of unreadable cgroups makes the own part unknown, and not others'.
    #[test]
    fn many_make_what_is_above_them_unknown_and_nothing_else() {
        let own = "/user.slice/user-1000.slice/user@1000.service";
        let others = ["/kubepods.slice/pod1/c/own", "/user.slice/user-1001.slice/x"];
        let table: [(&str, Vec<String>); 3] = [
            ("in one", (0..10_000).map(|number| format!("{own}/{number}")).collect()),
            ("each in its own", (0..10_000).map(|number| format!("{own}/{number}/x/y")).collect()),
            (
                "at all depths",
                (0..500).map(|deep| format!("{own}/{deep}{}", "/x".repeat(deep % 90))).collect(),
            ),
        ];
        for (name, paths) in table {
            let unknown = of(others.map(str::to_owned).into_iter().chain(paths.clone()));
            assert!(unknown.0.len() <= MOST, "{name}");
            assert!(paths.iter().all(|text| unknown.contains(&path(text))), "{name}");
            assert!(others.iter().all(|text| unknown.contains(&path(text))), "{name}");
            for known in [
                "/kubepods.slice/pod1/d",
                "/kubepods.slice/pod2",
                "/system.slice",
                "/user.slice/user-1001.slice/y",
            ] {
                assert!(!unknown.contains(&path(known)), "{name}: {known}");
            }
        }
        let everywhere = of((0..100).map(|number| format!("/{number}")));
        assert_eq!(everywhere, Unknown::everything());
    }
}
