//! The kernel's own counts of killed processes, by inotify.
//!
//! Two watches for each cgroup: one on its directory tells of cgroups that are made and
//! removed below it, one on its `memory.events.local` that a count has changed
//! (`cgroup_file_notify()`, kernel/cgroup/cgroup.c). The second also keeps the kernel
//! from forgetting the file's inode, without which it would tell nobody.

use crate::kernel::cgroupfs::dir::EVENTS;
use herder_model::{
    cgroup::{CgroupId, CgroupPath, OOM_GROUP},
    clock::Monotonic,
    oom::{
        OomKill,
        deduce::{CountAssembler, Counts},
        event::{Base, CgroupEvent, Event},
    },
};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::{
    collections::{HashMap, HashSet},
    fs, io,
    mem::{self, MaybeUninit},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::DirEntryExt},
    },
    path::{Path, PathBuf},
};

/// Why the counts cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MemoryEventsError {
    /// No v2 hierarchy, or none with the memory controller.
    #[error("{0} has no memory controller of cgroup v2")]
    NoController(PathBuf),
    /// No inotify instance.
    #[error("no inotify instance: {0}; raise the sysctl fs.inotify.max_user_instances")]
    Inotify(#[from] io::Error),
}

/// What inotify told.
#[derive(Default)]
pub struct Changes {
    /// Cgroups that were made and removed.
    pub cgroups: Vec<Event>,
    /// Cgroups whose count may have changed.
    pub counts: HashSet<CgroupId>,
    /// Some of it is lost, and all is to be looked at.
    pub overflow: bool,
}

/// Cgroups that are watched. Each takes some 2 KiB with what the kernel keeps for it.
const MOST_WATCHED: usize = 8192;

/// Cgroups that are told of at once, about.
const MOST_CHANGES: usize = 1024;

/// The watches, and the kills that the counts amount to.
pub struct MemoryEvents {
    /// What was counted.
    pub deducer: CountAssembler,
    root: PathBuf,
    inotify: OwnedFd,
    directories: HashMap<i32, (CgroupId, CgroupPath)>,
    files: HashMap<i32, CgroupId>,
    watches: HashMap<CgroupId, [Option<i32>; 2]>,
    ids: HashMap<CgroupPath, CgroupId>,
    below: Vec<Event>,
    /// Some of what was in directories is lost.
    overflow: bool,
    /// What was told is not all read.
    more: bool,
    /// It was told that there are no more watches.
    told_short: bool,
}

impl MemoryEvents {
    /// For the hierarchy that is mounted there.
    ///
    /// # Errors
    /// When it has no memory controller, or there is no inotify instance.
    pub fn new(root: &Path) -> Result<Self, MemoryEventsError> {
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        if !controllers.split_whitespace().any(|name| name == "memory") {
            return Err(MemoryEventsError::NoController(root.to_path_buf()));
        }
        let inotify =
            inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(io::Error::from)?;
        Ok(MemoryEvents {
            deducer: CountAssembler::default(),
            root: root.to_path_buf(),
            inotify,
            directories: HashMap::new(),
            files: HashMap::new(),
            watches: HashMap::new(),
            ids: HashMap::new(),
            below: Vec::new(),
            overflow: false,
            more: false,
            told_short: false,
        })
    }

    /// Readable when [`Self::changes`] has something to tell.
    pub fn inotify(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Watches a cgroup, as far as it is not watched yet. Its count is to be read
    /// afterwards.
    pub fn made(&mut self, id: CgroupId, path: &CgroupPath) {
        if self.watches.get(&id).is_some_and(|[_, on_file]| on_file.is_some()) {
            return;
        }
        if self.watches.len() >= MOST_WATCHED && !self.watches.contains_key(&id) {
            self.short("there are too many cgroups");
            return;
        }
        let directory = self.root.join(path.relative());
        let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::ONLYDIR;
        let on_directory = self.watch(&directory, flags);
        let on_file = self.watch(&directory.join(EVENTS), WatchFlags::MODIFY);
        self.directories.extend(on_directory.map(|watch| (watch, (id, path.clone()))));
        self.files.extend(on_file.map(|watch| (watch, id)));
        self.watches.insert(id, [on_directory, on_file]);
        self.ids.insert(path.clone(), id);
        // What was made in it before it was watched.
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir())
                && let Ok(path) = path.child(entry.file_name().as_bytes())
            {
                if self.below.len() >= MOST_CHANGES {
                    self.overflow = true;
                    break;
                }
                let id = Some(CgroupId(entry.ino()));
                self.below.push(Event::CgroupMade(CgroupEvent { id, path, base: Base::Mount }));
            }
        }
    }

    fn watch(&mut self, path: &Path, flags: WatchFlags) -> Option<i32> {
        match inotify::add_watch(&self.inotify, path, flags) {
            Ok(watch) => Some(watch),
            // Gone again; or the root, which counts nothing.
            Err(rustix::io::Errno::NOENT) => None,
            Err(error) => {
                self.short(&format!("{error}; raise the sysctl fs.inotify.max_user_watches"));
                None
            }
        }
    }

    /// Not everything can be watched.
    fn short(&mut self, why: &str) {
        if !mem::replace(&mut self.told_short, true) {
            tracing::warn!(
                why,
                "Some cgroups are not watched: kills there are told by the slow resync only, or counted as not seen."
            );
        }
    }

    /// The cgroup of this path, as far as it is watched.
    pub fn id(&self, path: &CgroupPath) -> Option<CgroupId> {
        self.ids.get(path).copied()
    }

    /// A cgroup is gone.
    pub fn removed(&mut self, id: CgroupId, path: &CgroupPath) {
        self.deducer.removed(id);
        // Another one may have its name by now.
        if self.id(path) == Some(id) {
            self.ids.remove(path);
        }
        for watch in self.watches.remove(&id).into_iter().flatten().flatten() {
            self.directories.remove(&watch);
            self.files.remove(&watch);
            // The kernel has removed the watch itself if the cgroup is gone.
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
    }

    /// Takes what is there to read.
    pub fn changes(&mut self) -> Changes {
        let overflow = mem::take(&mut self.overflow);
        let cgroups = mem::take(&mut self.below);
        let mut changes = Changes { cgroups, overflow, ..Changes::default() };
        self.more = false;
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        while let Ok(event) = events.next() {
            let is = |flag| event.events().contains(flag);
            if is(ReadFlags::QUEUE_OVERFLOW) {
                changes.overflow = true;
            } else if let Some(id) = self.files.get(&event.wd()) {
                changes.counts.insert(*id);
            } else if let Some((_, path)) = self.directories.get(&event.wd())
                && is(ReadFlags::ISDIR)
                && let Some(Ok(path)) = event.file_name().map(|name| path.child(name.to_bytes()))
            {
                changes.cgroups.push(if is(ReadFlags::CREATE) {
                    Event::CgroupMade(CgroupEvent { id: None, path, base: Base::Mount })
                } else {
                    Event::CgroupRemoved(CgroupEvent {
                        id: self.ids.get(&path).copied(),
                        path,
                        base: Base::Mount,
                    })
                });
            }
            if changes.cgroups.len() >= MOST_CHANGES && events.is_buffer_empty() {
                self.more = true;
                break;
            }
        }
        changes
    }

    /// Whether [`Self::changes`] has left something to read.
    pub fn has_more(&self) -> bool {
        self.more
    }

    /// What is counted of a cgroup; none if it is gone, or counts nothing.
    pub fn counts(&self, path: &CgroupPath) -> Option<Counts> {
        Counts::parse(&self.read(path, EVENTS)?)
    }

    /// Whether its processes are killed together.
    pub fn oom_group(&self, path: &CgroupPath) -> bool {
        self.read(path, OOM_GROUP).is_some_and(|text| text.trim() == "1")
    }

    /// The kills that are known well enough.
    pub fn settle(&mut self, now: Monotonic) -> Vec<OomKill> {
        let root = &self.root;
        self.deducer.settle(now, |container| {
            // A container without any process, in it or below it, has ended; one that is
            // gone all the more.
            read(root, container, "cgroup.events").is_none_or(|text| text.contains("populated 0"))
        })
    }

    fn read(&self, path: &CgroupPath, file: &str) -> Option<String> {
        read(&self.root, path, file)
    }
}

fn read(root: &Path, path: &CgroupPath, file: &str) -> Option<String> {
    fs::read_to_string(root.join(path.relative()).join(file)).ok()
}
