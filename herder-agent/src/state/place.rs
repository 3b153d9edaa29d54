//! Reads and replaces the state file without following links, blocking on, or overwriting files
//! of other users.
//!
//! Other users may write in the directory, if the operator chose one like `/tmp`. So a file counts
//! only if it is a regular file of the agent's own user that begins as a state does, or is empty,
//! as a crash may leave it. Anything else in its place is left unchanged, and logged.

use super::StateError;
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, renameat, statat, unlinkat},
    io::Errno,
    process::geteuid,
};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    path::Path,
};

/// No agent's state is larger. A wrong path must not fill the memory.
pub(super) const MOST_BYTES: u64 = 8 << 20;

/// How each state begins: the first field that is written.
pub(super) const BEGINS: &[u8] = b"{\"boot_id\":";

/// A file's name in an open directory.
pub(super) struct Place<'a> {
    path: &'a Path,
    directory: OwnedFd,
    name: &'a OsStr,
}

/// What stands at a name.
enum Found {
    Nothing,
    /// A file of ours, with so many bytes at most.
    Ours(Vec<u8>),
}

impl<'a> Place<'a> {
    /// The directory is opened anew for each use, since it may be made anew. It may be a link of
    /// root or of our own user, as `DynamicUser=` makes it, and of no other user.
    pub(super) fn open(path: &'a Path) -> Result<Self, StateError> {
        let foreign = |what: &str| StateError::Foreign { path: path.into(), what: what.into() };
        let name = path.file_name().ok_or_else(|| foreign("no name of a file"))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let failed = |error: Errno| StateError::Io { path: parent.into(), source: error.into() };
        let link = statat(CWD, parent, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if is(&link, FileType::Symlink) && ![0, geteuid().as_raw()].contains(&link.st_uid) {
            return Err(foreign(&format!("in a directory that is a link of uid {}", link.st_uid)));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, parent, flags, Mode::empty()).map_err(failed)?;
        Ok(Place { path, directory, name })
    }

    /// The file's content; nothing if there is none.
    pub(super) fn read(&self) -> Result<Vec<u8>, StateError> {
        match self.look(self.name, MOST_BYTES + 1)? {
            Found::Nothing => Ok(Vec::new()),
            Found::Ours(bytes) if bytes.len() as u64 > MOST_BYTES => {
                Err(StateError::Large(self.path.into()))
            }
            Found::Ours(bytes) => Ok(bytes),
        }
    }

    /// Puts this content in the place of the one before, as a whole.
    pub(super) fn replace(&self, content: &[u8]) -> Result<(), StateError> {
        if content.len() as u64 > MOST_BYTES {
            return Err(StateError::Large(self.path.into()));
        }
        let mut new = OsString::from(self.name);
        new.push(".new");
        // An agent that was killed while it wrote has left one.
        if let Found::Ours(_) = self.look(&new, BEGINS.len() as u64)? {
            self.remove(&new)?;
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.directory, &new, flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(file.map_err(|error| self.failed(&new, error))?);
        let written = file.write_all(content).and_then(|()| file.sync_data());
        let moved = written
            .map_err(|source| StateError::Io { path: self.path.with_file_name(&new), source })
            .and_then(|()| self.look(self.name, BEGINS.len() as u64).map(drop))
            .and_then(|()| {
                renameat(&self.directory, &new, &self.directory, self.name)
                    .map_err(|error| self.failed(self.name, error))
            });
        if moved.is_err() {
            // It is ours, and the next file needs its name. The reason was logged already.
            let _ = self.remove(&new);
        }
        moved
    }

    fn remove(&self, name: &OsStr) -> Result<(), StateError> {
        unlinkat(&self.directory, name, AtFlags::empty()).map_err(|error| self.failed(name, error))
    }

    /// Opens nothing that is not a regular file: a pipe would wait, and a device may act.
    fn look(&self, name: &OsStr, most: u64) -> Result<Found, StateError> {
        let failed = |error| self.failed(name, error);
        match statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            Err(error) => return Err(failed(error)),
            Ok(found) => self.own(name, &found)?,
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&self.directory, name, flags, Mode::empty()).map_err(failed)?;
        // It may have become another one in between.
        self.own(name, &fstat(&file).map_err(failed)?)?;
        let mut bytes = Vec::new();
        let read = File::from(file).take(most).read_to_end(&mut bytes);
        read.map_err(|source| StateError::Io { path: self.path.with_file_name(name), source })?;
        let begun = bytes.len().min(BEGINS.len());
        if bytes.get(..begun) == BEGINS.get(..begun) {
            Ok(Found::Ours(bytes))
        } else {
            Err(self.foreign(name, "not an agent's state file".into()))
        }
    }

    fn own(&self, name: &OsStr, found: &Stat) -> Result<(), StateError> {
        if is(found, FileType::Symlink) {
            Err(self.foreign(name, "a symbolic link, and is not followed".into()))
        } else if !is(found, FileType::RegularFile) {
            Err(self.foreign(name, "not a regular file".into()))
        } else if found.st_uid != geteuid().as_raw() {
            Err(self.foreign(name, format!("a file of uid {}", found.st_uid)))
        } else {
            Ok(())
        }
    }

    fn foreign(&self, name: &OsStr, what: String) -> StateError {
        StateError::Foreign { path: self.path.with_file_name(name), what }
    }

    fn failed(&self, name: &OsStr, error: Errno) -> StateError {
        StateError::Io { path: self.path.with_file_name(name), source: error.into() }
    }
}

fn is(found: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(found.st_mode) == kind
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        os::unix::fs::{MetadataExt, symlink},
        path::PathBuf,
        time::Duration,
    };

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("herder-place-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Directory(path)
        }

        fn file(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn fifo(&self, name: &str) {
            let mode = Mode::RUSR | Mode::WUSR;
            rustix::fs::mknodat(CWD, self.file(name), FileType::Fifo, mode, 0).unwrap();
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const STATE: &[u8] = b"{\"boot_id\":\"1\"}";
    const NEXT: &[u8] = b"{\"boot_id\":\"2\"}";

    fn read(path: &Path) -> Result<Vec<u8>, String> {
        let read = Place::open(path).and_then(|place| place.read());
        read.map_err(|error| error.to_string())
    }

    fn replace(path: &Path) -> Result<(), String> {
        let replaced = Place::open(path).and_then(|place| place.replace(NEXT));
        replaced.map_err(|error| error.to_string())
    }

    /// Something else in the place of the state file, or of the next one, is reported with its
    /// path, without blocking, and left unchanged.
    #[test]
    fn what_others_wrote_is_left_as_it_is() {
        type Put = fn(&Directory, &str);
        let table: [(&str, Put, &str); 6] = [
            ("link", |to, name| symlink(to.file("precious"), to.file(name)).unwrap(), "link"),
            ("dangling", |to, name| symlink(to.file("none"), to.file(name)).unwrap(), "link"),
            (
                "hard",
                |to, name| fs::hard_link(to.file("precious"), to.file(name)).unwrap(),
                "not an agent's state file",
            ),
            (
                "content",
                |to, name| fs::write(to.file(name), "{\"boot\"").unwrap(),
                "not an agent's state file",
            ),
            ("fifo", |to, name| to.fifo(name), "not a regular file"),
            ("directory", |to, name| fs::create_dir(to.file(name)).unwrap(), "not a regular file"),
        ];
        for name in ["state.json", "state.json.new"] {
            for (case, put, why) in &table {
                let directory = Directory::new(&format!("{case}-{name}"));
                fs::write(directory.file("precious"), "precious").unwrap();
                put(&directory, name);
                let path = directory.file("state.json");
                let before = fs::symlink_metadata(directory.file(name)).unwrap();
                let error = within_a_second(move || replace(&path)).unwrap_err();
                assert!(error.contains(name) && error.contains(why), "{case}: {error}");
                if name == "state.json" {
                    let path = directory.file(name);
                    let error = within_a_second(move || read(&path)).unwrap_err();
                    assert!(error.contains(why), "{case}: {error}");
                    assert!(!directory.file("state.json.new").exists(), "{case}: a leftover");
                }
                let after = fs::symlink_metadata(directory.file(name)).unwrap();
                assert_eq!((before.ino(), before.len()), (after.ino(), after.len()), "{case}");
                let precious = fs::read_to_string(directory.file("precious"));
                assert_eq!(precious.unwrap(), "precious", "{case}");
                assert!(!directory.file("none").exists(), "{case}");
            }
        }
    }

    fn within_a_second<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, end) = std::sync::mpsc::channel();
        std::thread::spawn(move || drop(done.send(what())));
        end.recv_timeout(Duration::from_secs(1)).expect("it does not wait")
    }

    /// Of another user only root can make a file.
    #[test]
    fn a_file_of_another_user_is_not_taken() {
        if !geteuid().is_root() {
            return;
        }
        let directory = Directory::new("user");
        let path = directory.file("state.json");
        for name in ["state.json", "state.json.new"] {
            fs::write(directory.file(name), STATE).unwrap();
            std::os::unix::fs::chown(directory.file(name), Some(1234), None).unwrap();
            let error = replace(&path).unwrap_err();
            assert!(error.contains(name) && error.contains("uid 1234"), "{error}");
            assert_eq!(fs::read(directory.file(name)).unwrap(), STATE);
            fs::remove_file(directory.file(name)).unwrap();
        }
        let elsewhere = Directory::new("user-elsewhere");
        let link = directory.file("link");
        symlink(&elsewhere.0, &link).unwrap();
        replace(&link.join("state.json")).unwrap();
        std::os::unix::fs::lchown(&link, Some(1234), None).unwrap();
        let error = replace(&link.join("state.json")).unwrap_err();
        assert!(error.contains("link of uid 1234"), "{error}");
    }

    #[test]
    fn what_a_crash_has_left_is_no_hindrance() {
        for left in [&b""[..], b"{\"boo", STATE] {
            let directory = Directory::new("crash");
            let path = directory.file("state.json");
            fs::write(&path, left).unwrap();
            fs::write(directory.file("state.json.new"), left).unwrap();
            replace(&path).unwrap();
            assert_eq!(read(&path).unwrap(), NEXT);
            let names: Vec<_> = fs::read_dir(&directory.0).unwrap().collect();
            assert_eq!(names.len(), 1, "{names:?}");
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn names_of_any_form_are_kept_apart() {
        let directory = Directory::new("names");
        for name in ["state", "state.new", "state.json", "state.yaml"] {
            replace(&directory.file(name)).unwrap();
            assert_eq!(read(&directory.file(name)).unwrap(), NEXT, "{name}");
        }
        assert!(read(Path::new("/")).unwrap_err().contains("no name of a file"));
        assert!(replace(Path::new("/nowhere/state")).unwrap_err().contains("/nowhere"));
    }

    /// A file may have any length without taking any room.
    #[test]
    fn not_more_is_read_than_a_state_has() {
        let directory = Directory::new("large");
        let path = directory.file("state.json");
        fs::write(&path, STATE).unwrap();
        fs::File::options().append(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(read(&path).unwrap_err().contains("larger than any state"));
        let large = vec![b' '; usize::try_from(MOST_BYTES).unwrap() + 1];
        let error = Place::open(&path).unwrap().replace(&large).unwrap_err().to_string();
        assert!(error.contains("larger than any state"), "{error}");
    }
}
