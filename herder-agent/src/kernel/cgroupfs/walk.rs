//! Looks at the whole hierarchy, bit by bit.
//!
//! Neither how many cgroups there are nor how deep they lie is in the agent's hand, so a walk
//! keeps nothing but the way to where it is, and hands over what it finds in small parts.

use herder_agent_ebpf::LEVELS;
use herder_model::cgroup::{CgroupId, CgroupPath, unknown::Unknown};
use rustix::{
    fs::{FileType, Mode, OFlags, RawDir, fstat, open, openat},
    io::{Errno, read},
};
use std::{
    io,
    mem::{self, MaybeUninit},
    ops::ControlFlow,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

/// Cgroups that are handed over at once, and bytes of their paths.
const MOST_AT_ONCE: usize = 64;
const MOST_BYTES: usize = 32 << 10;

/// Some cgroups, each after the one that it lies in.
pub type Part = Vec<(CgroupId, CgroupPath)>;

/// What a walk has to say at its end.
#[derive(Debug, Default)]
pub struct Walked {
    /// Cgroups that lie too deep to be handed over.
    pub too_deep: u64,
    /// Directories that could not be read.
    pub unread: u64,
    /// Where they are. What was not found elsewhere is not there.
    pub unknown: Unknown,
    /// The first of them, and why.
    pub first_unread: Option<(String, io::Error)>,
}

/// Walks the hierarchy until the receiver stops. A directory that vanishes
/// meanwhile is left out.
pub fn walk(root: &Path, take: impl FnMut(Part) -> ControlFlow<()>) -> io::Result<Walked> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(root, flags, Mode::empty())?;
    let mut walk =
        Walk { take, part: Part::new(), bytes: 0, path: Vec::new(), walked: Walked::default() };
    let ended = match walk.found(CgroupId(fstat(&root)?.st_ino), CgroupPath::root()) {
        ControlFlow::Continue(()) => walk.below(root.as_fd(), 1)?,
        stopped => stopped,
    };
    if ended.is_continue() {
        // A receiver that takes no more parts needs no last one.
        let _ = walk.hand_over();
    }
    Ok(walk.walked)
}

struct Walk<F> {
    take: F,
    part: Part,
    bytes: usize,
    /// Of the directory that is being read; empty for the root.
    path: Vec<u8>,
    walked: Walked,
}

impl<F: FnMut(Part) -> ControlFlow<()>> Walk<F> {
    fn below(&mut self, directory: BorrowedFd<'_>, level: usize) -> io::Result<ControlFlow<()>> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut entries = RawDir::new(directory, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            // Symbolic links are no directories here, so the walk stays below the root.
            if entry.file_type() != FileType::Directory || [c".", c".."].contains(&name) {
                continue;
            }
            let parent = self.path.len();
            self.path.push(b'/');
            self.path.extend_from_slice(name.to_bytes());
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = || openat(directory, name, flags, Mode::empty());
            let mut step = ControlFlow::Continue(());
            if level > LEVELS {
                let below = opened().ok().and_then(|child| descendants(child.as_fd()));
                self.walked.too_deep += 1 + below.unwrap_or(0);
            } else {
                match CgroupPath::parse(&self.path) {
                    Ok(path) => step = self.found(CgroupId(entry.ino()), path),
                    Err(error) => tracing::debug!(%error, "A cgroup was skipped."),
                }
                if step.is_continue() {
                    let read = opened().map_err(io::Error::from);
                    match read.and_then(|child| self.below(child.as_fd(), level + 1)) {
                        Ok(below) => step = below,
                        Err(error) => self.unread(error),
                    }
                }
            }
            self.path.truncate(parent);
            if step.is_break() {
                return Ok(step);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn found(&mut self, id: CgroupId, path: CgroupPath) -> ControlFlow<()> {
        self.bytes += path.as_str().len();
        self.part.push((id, path));
        if self.part.len() >= MOST_AT_ONCE || self.bytes >= MOST_BYTES {
            return self.hand_over();
        }
        ControlFlow::Continue(())
    }

    fn hand_over(&mut self) -> ControlFlow<()> {
        self.bytes = 0;
        (self.take)(mem::take(&mut self.part))
    }

    fn unread(&mut self, error: io::Error) {
        let gone = [Errno::NOENT, Errno::NODEV].map(Errno::raw_os_error);
        if error.raw_os_error().is_some_and(|error| gone.contains(&error)) {
            return;
        }
        self.walked.unread += 1;
        // What is no path was not handed over either.
        if let Ok(path) = CgroupPath::parse(&self.path) {
            self.walked.unknown.add(path);
        }
        let path = || String::from_utf8_lossy(&self.path).into_owned();
        self.walked.first_unread.get_or_insert_with(|| (path(), error));
    }
}

/// How many cgroups lie below one (`nr_descendants` of `cgroup.stat`).
fn descendants(cgroup: BorrowedFd<'_>) -> Option<u64> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(cgroup, "cgroup.stat", flags, Mode::empty()).ok()?;
    let mut buffer = [0u8; 256];
    let length = read(&file, &mut buffer).ok()?;
    let text = std::str::from_utf8(buffer.get(..length)?).ok()?;
    text.lines().find_map(|line| line.strip_prefix("nr_descendants ")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt},
        path::PathBuf,
    };

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("herder-{name}-{}", std::process::id()));
            fs::create_dir_all(&root).unwrap();
            Tree(root)
        }

        fn walk(&self) -> (Vec<(CgroupId, CgroupPath)>, Walked) {
            let mut found = Vec::new();
            let walked = walk(&self.0, |part| {
                assert!(part.len() <= MOST_AT_ONCE);
                found.extend(part);
                ControlFlow::Continue(())
            });
            (found, walked.unwrap())
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_walk_names_directories_by_their_inode() {
        let tree = Tree::new("walk");
        fs::create_dir_all(tree.0.join("a/b")).unwrap();
        fs::write(tree.0.join("a/file"), "").unwrap();
        std::os::unix::fs::symlink("/", tree.0.join("link")).unwrap();
        let (found, walked) = tree.walk();
        let inode = |path: &str| CgroupId(fs::metadata(tree.0.join(path)).unwrap().ino());
        let path = |text: &str| CgroupPath::parse(text.as_bytes()).unwrap();
        let expected = [(inode("."), "/"), (inode("a"), "/a"), (inode("a/b"), "/a/b")];
        assert_eq!(found, expected.map(|(id, text)| (id, path(text))));
        assert!(walked.unknown.is_nothing() && walked.too_deep == 0);
    }

    /// As one cannot that has no right to read another user's.
    #[test]
    fn what_cannot_be_read_is_named_and_all_else_is_found() {
        let run = || {
            let mut sets = capabilities(None).unwrap();
            let overrides = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
            sets.effective.remove(overrides);
            set_capabilities(None, sets).unwrap();
            let tree = Tree::new("unread");
            for path in ["a/own/below", "a/other", "b"] {
                fs::create_dir_all(tree.0.join(path)).unwrap();
            }
            let own = tree.0.join("a/own");
            fs::set_permissions(&own, fs::Permissions::from_mode(0o000)).unwrap();
            let (found, walked) = tree.walk();
            fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
            let mut paths: Vec<_> = found.iter().map(|(_, path)| path.as_str()).collect();
            paths.sort_unstable();
            assert_eq!(paths, ["/", "/a", "/a/other", "/a/own", "/b"]);
            let path = |text: &str| CgroupPath::parse(text.as_bytes()).unwrap();
            let unknown = |text: &str| walked.unknown.contains(&path(text));
            assert!(walked.unread == 1 && unknown("/a/own/below") && !unknown("/a/other"));
        };
        // Only this thread loses them.
        std::thread::spawn(run).join().unwrap();
    }

    #[test]
    fn many_come_in_small_parts() {
        let tree = Tree::new("parts");
        for number in 0..300 {
            fs::create_dir_all(tree.0.join(format!("{number}/below"))).unwrap();
        }
        let (found, _) = tree.walk();
        assert_eq!(found.len(), 601);
        let mut parts = 0;
        walk(&tree.0, |_| {
            parts += 1;
            ControlFlow::Break(())
        })
        .unwrap();
        assert_eq!(parts, 1, "no more is taken");
    }

    /// Paths of any length: the directories are opened one in the other.
    #[test]
    fn what_lies_too_deep_is_counted() {
        let tree = Tree::new("deep");
        let name = "x".repeat(120);
        let deep = vec![name.as_str(); LEVELS].join("/");
        let mut directory = open(&tree.0, OFlags::RDONLY, Mode::empty()).unwrap();
        for name in deep.split('/').chain(["deeper", "deepest"]) {
            rustix::fs::mkdirat(&directory, name, Mode::RWXU).unwrap();
            directory = openat(&directory, name, OFlags::RDONLY, Mode::empty()).unwrap();
        }
        rustix::fs::mkdirat(&directory, "beside", Mode::RWXU).unwrap();
        fs::write(tree.0.join(&deep).join("deeper/cgroup.stat"), "nr_descendants 2\n").unwrap();
        let (found, walked) = tree.walk();
        assert_eq!(found.last().map(|(_, path)| path.as_str().len()), Some(LEVELS * 121));
        assert_eq!((found.len(), walked.too_deep), (LEVELS + 1, 3));
        assert!(walked.unknown.is_nothing());
    }
}
