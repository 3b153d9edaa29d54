//! A directory below another one, reached through no link and on no other file system.
//!
//! `openat2()` does that in one call, which sandboxes refuse: systemd's `RestrictSUIDSGID=` and
//! `DynamicUser=` answer ENOSYS, since a filter cannot look into the call's structure, and older
//! seccomp profiles of container runtimes answer EPERM, since they do not know it. A mount below
//! the root, as `ReadWritePaths=` makes them, is refused by `NO_XDEV` even if it shows the same
//! file system. Then one component is opened after the other.

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2},
    io::Errno,
};
use std::{
    ffi::OsStr,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
};

const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a directory by its relative path, which has no `..`.
pub(super) fn open(root: BorrowedFd<'_>, path: &OsStr) -> Result<OwnedFd, Errno> {
    open_or_walk(root, path, at_once)
}

/// A way to open a directory.
type Way = fn(BorrowedFd<'_>, &OsStr) -> Result<OwnedFd, Errno>;

fn open_or_walk(root: BorrowedFd<'_>, path: &OsStr, at_once: Way) -> Result<OwnedFd, Errno> {
    match at_once(root, path) {
        // These are about the path.
        result @ (Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::NODEV | Errno::LOOP)) => result,
        // Any other may be about the call, with whatever number a filter answers.
        Err(_) => walk(root, path),
    }
}

fn at_once(root: BorrowedFd<'_>, path: &OsStr) -> Result<OwnedFd, Errno> {
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(root, path, DIRECTORY, Mode::empty(), inside)
}

/// One component at a time. Only `O_PATH` opens what may be a link without following it, and
/// changes nothing whatever it is.
fn walk(root: BorrowedFd<'_>, path: &OsStr) -> Result<OwnedFd, Errno> {
    let device = fstat(root)?.st_dev;
    let mut reached = openat(root, ".", DIRECTORY, Mode::empty())?;
    let names = path.as_bytes().split(|byte| *byte == b'/');
    for name in names.filter(|name| *name != b".") {
        let any = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = openat(&reached, name, any, Mode::empty())?;
        let found = fstat(&next)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory if found.st_dev == device => reached = next,
            FileType::Directory => return Err(Errno::XDEV),
            FileType::Symlink => return Err(Errno::LOOP),
            _ => return Err(Errno::NOTDIR),
        }
    }
    Ok(reached)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        os::{fd::AsFd, unix::fs::MetadataExt},
        path::PathBuf,
    };

    /// The ways to be refused, and the call as it is.
    const WAYS: [Way; 6] = [
        at_once,
        |_, _| Err(Errno::NOSYS),
        |_, _| Err(Errno::PERM),
        |_, _| Err(Errno::ACCESS),
        |_, _| Err(Errno::INVAL),
        |_, _| Err(Errno::XDEV),
    ];

    fn tree(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("herder-below-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::write(root.join("a/file"), "").unwrap();
        std::os::unix::fs::symlink("b", root.join("a/link")).unwrap();
        std::os::unix::fs::symlink("/", root.join("a/out")).unwrap();
        root
    }

    #[test]
    fn however_the_call_is_refused_the_same_is_opened() {
        let root = tree("same");
        let directory = fs::File::open(&root).unwrap();
        let table = [
            (".", Ok("")),
            ("a", Ok("a")),
            ("a/b/c", Ok("a/b/c")),
            ("a/gone", Err(Errno::NOENT)),
            ("a/gone/c", Err(Errno::NOENT)),
            ("a/file", Err(Errno::NOTDIR)),
            ("a/file/c", Err(Errno::NOTDIR)),
            ("a/link", Err(Errno::LOOP)),
            ("a/link/c", Err(Errno::LOOP)),
            ("a/out", Err(Errno::LOOP)),
            ("a/out/etc", Err(Errno::LOOP)),
        ];
        for (path, expected) in table {
            let expected = expected.map(|path| fs::metadata(root.join(path)).unwrap().ino());
            for (way, at_once) in WAYS.into_iter().enumerate() {
                let opened = open_or_walk(directory.as_fd(), path.as_ref(), at_once);
                let inode = opened.map(|opened| fstat(opened).unwrap().st_ino);
                // A link at the end is no directory, and one on the way is a loop.
                let inode = inode.map_err(|error| match (error, path) {
                    (Errno::NOTDIR, "a/link" | "a/out") => Errno::LOOP,
                    (error, _) => error,
                });
                assert_eq!(inode, expected, "{path}, way {way}");
            }
        }
        fs::remove_dir_all(root).unwrap();
    }

    /// `/proc` is a mount of its own wherever this runs.
    #[test]
    fn another_file_system_is_not_entered() {
        let root = fs::File::open("/").unwrap();
        for at_once in WAYS {
            let opened = open_or_walk(root.as_fd(), "proc/self".as_ref(), at_once);
            assert!(matches!(opened, Err(Errno::XDEV | Errno::LOOP)), "{opened:?}");
            let opened = open_or_walk(root.as_fd(), "proc".as_ref(), at_once);
            assert!(matches!(opened, Err(Errno::XDEV)), "{opened:?}");
        }
    }

    /// Descriptors that have run out are no refusal, and the walk says so itself.
    #[test]
    fn what_the_walk_says_counts() {
        let root = fs::File::open("/").unwrap();
        let opened = open_or_walk(root.as_fd(), "nowhere".as_ref(), |_, _| Err(Errno::MFILE));
        assert_eq!(opened.unwrap_err(), Errno::NOENT);
    }
}
