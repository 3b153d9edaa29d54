//! inotify on the files of matched cgroups.
//!
//! A watch on `memory.oom.group` sees writes by any process, through any mount of the
//! hierarchy (facts measured on 5.10 to 7.2). One on `memory.events.local` sees that the
//! kernel counted something, and keeps it from forgetting the file's inode, without which
//! there would be no notification (`kernfs_notify_workfn()`, fs/kernfs/file.c).
//!
//! Not on the directory: a runtime writes some ten other files of each new container, systemd
//! all of them at a reload, and a process that moves others in a loop would wake the core for
//! each move. Only where the two files do not exist yet, because the memory controller is not
//! enabled, the directory is watched, until the resync after they came. A controller that is
//! disabled and enabled again makes new files: before Linux 7.1 only the resync finds those.

use crate::kernel::cgroupfs::dir::{CgroupDir, EVENTS};
use herder_model::cgroup::{CgroupId, OOM_GROUP};
use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    io::Errno,
};
use std::{
    collections::{HashMap, HashSet},
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// What may have changed.
#[derive(Default)]
pub(super) struct Changes {
    /// `memory.oom.group` of these cgroups.
    pub(super) values: HashSet<CgroupId>,
    /// `memory.events.local` of these.
    pub(super) events: HashSet<CgroupId>,
    /// A watched file of these is gone, which kernfs notifies from Linux 7.1 on.
    pub(super) lost: HashSet<CgroupId>,
    /// The kernel's queue overflowed: any of all.
    pub(super) overflow: bool,
}

/// The watches of one cgroup.
#[derive(Default)]
pub(super) struct Watched {
    value: Option<i32>,
    counts: Option<i32>,
    /// Both are on files that are there.
    sure: bool,
}

impl Watched {
    /// The watch for changes of the value.
    pub(super) fn value(&self) -> Option<i32> {
        self.value
    }

    fn has(&self, watch: i32) -> bool {
        [self.value, self.counts].contains(&Some(watch))
    }

    /// The files may be others by now: they go and come with the memory controller.
    pub(super) fn doubt(&mut self) {
        self.sure = false;
    }
}

/// What a watch is for; notifications of one on a directory have names.
#[derive(Clone, Copy)]
enum File {
    Value,
    Counts,
}

impl File {
    fn named(name: &[u8]) -> Option<Self> {
        [File::Value, File::Counts].into_iter().find(|file| file.name().as_bytes() == name)
    }

    fn name(self) -> &'static str {
        match self {
            File::Value => OOM_GROUP,
            File::Counts => EVENTS,
        }
    }
}

fn instance() -> io::Result<OwnedFd> {
    let instance = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
    instance.map_err(|error| {
        let advice = match error {
            Errno::MFILE => {
                "raise the sysctl fs.inotify.max_user_instances; each resync tries again"
            }
            _ => "allow inotify in the seccomp profile; each resync tries again",
        };
        io::Error::other(format!("there is no inotify instance: {error}; {advice}"))
    })
}

/// An inotify instance and whose watches it holds.
pub(super) struct Watches {
    inotify: io::Result<OwnedFd>,
    watches: HashMap<i32, (CgroupId, File)>,
}

impl Watches {
    pub(super) fn new() -> Self {
        Watches { inotify: instance(), watches: HashMap::new() }
    }

    /// Tries again where there was no inotify instance to be had.
    pub(super) fn renew(&mut self) {
        if self.inotify.is_err() {
            self.inotify = instance();
        }
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().ok().map(AsFd::as_fd)
    }

    /// Watches a cgroup, as far as it is not surely watched yet.
    pub(super) fn add(
        &mut self,
        id: CgroupId,
        directory: &CgroupDir,
        watched: &mut Watched,
    ) -> io::Result<()> {
        if watched.sure {
            return Ok(());
        }
        let before = [watched.value, watched.counts];
        let value = self.put(id, directory, File::Value, &mut watched.value);
        let counts = self.put(id, directory, File::Counts, &mut watched.counts);
        // One on the directory may still be needed for the other file.
        for old in before.into_iter().flatten().filter(|old| !watched.has(*old)) {
            self.remove(old);
        }
        watched.sure = *value.as_ref().unwrap_or(&false) && counts.unwrap_or(false);
        value.map(drop)
    }

    /// Returns whether the watch is on the file. For a file that is watched already, the kernel
    /// returns the same watch. With `MASK_ADD` that watch misses no event meanwhile
    /// (`inotify_update_existing_watch()`, fs/notify/inotify/inotify_user.c).
    fn put(
        &mut self,
        id: CgroupId,
        directory: &CgroupDir,
        file: File,
        watch: &mut Option<i32>,
    ) -> io::Result<bool> {
        let inotify = self.inotify.as_ref().map_err(|error| io::Error::other(error.to_string()))?;
        let directory = directory.proc_path();
        let flags = WatchFlags::MODIFY | WatchFlags::MASK_ADD;
        let on_file = flags | WatchFlags::DONT_FOLLOW;
        let (new, on_file) = match inotify::add_watch(inotify, directory.join(file.name()), on_file)
        {
            Err(Errno::NOENT) => {
                let on_directory = flags | WatchFlags::ONLYDIR;
                (inotify::add_watch(inotify, directory, on_directory)?, false)
            }
            added => (added?, true),
        };
        self.watches.insert(new, (id, file));
        *watch = Some(new);
        Ok(on_file)
    }

    /// No changes of the value are notified any more.
    pub(super) fn remove_value(&mut self, watched: &mut Watched) {
        watched.sure = false;
        watched.value.take().into_iter().for_each(|watch| self.remove(watch));
    }

    pub(super) fn remove_all(&mut self, watched: &mut Watched) {
        self.remove_value(watched);
        watched.counts.take().into_iter().for_each(|watch| self.remove(watch));
    }

    fn remove(&mut self, watch: i32) {
        if self.watches.remove(&watch).is_some()
            && let Ok(inotify) = &self.inotify
        {
            // The kernel has removed the watch itself if the file is gone.
            let _ = inotify::remove_watch(inotify, watch);
        }
    }

    /// Reads a buffer full of notifications, and returns whether that was
    /// all. No more at once, since others may write faster than this reads.
    pub(super) fn changes(&mut self) -> (Changes, bool) {
        let mut changes = Changes::default();
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let Ok(inotify) = &self.inotify else { return (changes, true) };
        let mut events = inotify::Reader::new(inotify, &mut buffer);
        let mut all = true;
        while let Ok(event) = events.next() {
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                changes.overflow = true;
            } else if event.events().contains(ReadFlags::IGNORED) {
                let lost = self.watches.remove(&event.wd());
                changes.lost.extend(lost.map(|(id, _)| id));
            } else if let Some((id, file)) = self.watches.get(&event.wd()) {
                match event.file_name().map_or(Some(*file), |name| File::named(name.to_bytes())) {
                    Some(File::Value) => changes.values.insert(*id),
                    Some(File::Counts) => changes.events.insert(*id),
                    None => false,
                };
            }
            if events.is_buffer_empty() {
                all = false;
                break;
            }
        }
        (changes, all)
    }
}
