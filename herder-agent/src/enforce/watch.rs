//! inotify on the directories of matched cgroups.
//!
//! A watch on the directory sees writes to its files by any process, through any
//! mount of the hierarchy (facts measured on 5.10 to 7.2). It also sees that the
//! kernel counted something in `memory.events.local`, if that file was opened a
//! while ago (`kernfs_notify_workfn()`, fs/kernfs/file.c). Changes of other files
//! are passed over.

use crate::cgroup::{
    CgroupId,
    dir::{CgroupDir, EVENTS, OOM_GROUP},
};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
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
    /// The kernel's queue overflowed: any of all.
    pub(super) overflow: bool,
}

/// An inotify instance and whose watches it holds.
pub(super) struct Watches {
    inotify: io::Result<OwnedFd>,
    cgroups: HashMap<i32, CgroupId>,
}

impl Watches {
    pub(super) fn new() -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        let inotify = inotify.map_err(|error| {
            let advice = "raise the sysctl fs.inotify.max_user_instances, and start the agent anew";
            io::Error::other(format!("there is no inotify instance: {error}; {advice}"))
        });
        Watches { inotify, cgroups: HashMap::new() }
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().ok().map(AsFd::as_fd)
    }

    /// Watches a cgroup, and gives the number of the watch.
    pub(super) fn add(&mut self, id: CgroupId, directory: &CgroupDir) -> io::Result<i32> {
        let inotify = self.inotify.as_ref().map_err(|error| io::Error::other(error.to_string()))?;
        let flags = WatchFlags::MODIFY | WatchFlags::ONLYDIR;
        let watch = inotify::add_watch(inotify, directory.proc_path(), flags)?;
        self.cgroups.insert(watch, id);
        Ok(watch)
    }

    pub(super) fn remove(&mut self, watch: i32) {
        if self.cgroups.remove(&watch).is_some()
            && let Ok(inotify) = &self.inotify
        {
            // The kernel has removed the watch itself if the directory is gone.
            let _ = inotify::remove_watch(inotify, watch);
        }
    }

    /// Takes a buffer full of what is there to read, and tells whether that was
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
                self.cgroups.remove(&event.wd());
            } else if let Some(name) = event.file_name()
                && let Some(id) = self.cgroups.get(&event.wd())
            {
                if name.to_bytes() == OOM_GROUP.as_bytes() {
                    changes.values.insert(*id);
                } else if name.to_bytes() == EVENTS.as_bytes() {
                    changes.events.insert(*id);
                }
            }
            if events.is_buffer_empty() {
                all = false;
                break;
            }
        }
        (changes, all)
    }
}
