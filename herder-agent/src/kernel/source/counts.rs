//! The kernel's own counts of killed processes, by inotify.
//!
//! Two watches for each cgroup: one on its directory reports cgroups that are made and
//! removed below it, one on its `memory.events.local` that a count has changed
//! (`cgroup_file_notify()`, kernel/cgroup/cgroup.c). The second also keeps the file's inode
//! in memory, without which the kernel would send no notification.

use super::{ContainerOf, Descriptors, Polled, Queue, Source};
use crate::kernel::cgroupfs::{CgroupFs, dir::EVENTS};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    clock::Monotonic,
    oom::{
        deduce::{CountAssembler, Counts, Place},
        event::{Base, CgroupEvent, Event, Means},
    },
};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::{
    collections::{HashMap, HashSet},
    fs, io, iter,
    mem::{self, MaybeUninit},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::DirEntryExt},
    },
    path::{Path, PathBuf},
};

/// Why the counts cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MemoryEventsError {
    #[error("{0} has no memory controller of cgroup v2")]
    NoController(PathBuf),
    #[error("no inotify instance: {0}; raise the sysctl fs.inotify.max_user_instances")]
    Inotify(#[from] io::Error),
}

/// Notifications of inotify.
#[derive(Default)]
struct Changes {
    /// Cgroups that were made and removed.
    cgroups: Vec<Event>,
    /// Cgroups whose count may have changed.
    counts: HashSet<CgroupId>,
    /// Some of it is lost, and all is to be looked at.
    overflow: bool,
    /// Not all notifications are read.
    more: bool,
    /// How often the kernel's queue overflowed.
    overflows: u64,
}

/// A cgroup's path, and its watches on the directory and on the file of counts.
struct Watched {
    path: CgroupPath,
    on: [Option<i32>; 2],
}

/// Cgroups that are watched. Each takes some 2 KiB with what the kernel keeps for it.
const MOST_WATCHED: usize = 8192;

/// Cgroups that are handed over at once, about.
const MOST_CHANGES: usize = 1024;

/// The watches, and the kills that the counts amount to.
pub struct MemoryEvents {
    /// What was counted.
    assembler: CountAssembler,
    files: CgroupFs,
    inotify: OwnedFd,
    directories: HashMap<i32, (CgroupId, CgroupPath)>,
    files_watched: HashMap<i32, CgroupId>,
    watches: HashMap<CgroupId, Watched>,
    ids: HashMap<CgroupPath, CgroupId>,
    below: Vec<Event>,
    /// Some of what was in directories is lost.
    overflow: bool,
    /// It was logged that there are no more watches.
    reported_short: bool,
    replaces_ebpf: bool,
}

impl MemoryEvents {
    /// For the hierarchy that is mounted there.
    pub fn new(root: &Path) -> Result<Self, MemoryEventsError> {
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        if !controllers.split_whitespace().any(|name| name == "memory") {
            return Err(MemoryEventsError::NoController(root.to_path_buf()));
        }
        let inotify =
            inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(io::Error::from)?;
        Ok(MemoryEvents {
            assembler: CountAssembler::default(),
            files: CgroupFs::new(root.to_path_buf()),
            inotify,
            directories: HashMap::new(),
            files_watched: HashMap::new(),
            watches: HashMap::new(),
            ids: HashMap::new(),
            below: Vec::new(),
            overflow: false,
            reported_short: false,
            replaces_ebpf: false,
        })
    }

    /// The same, taken because the kernel refused the eBPF programs.
    pub(super) fn in_place_of_ebpf(mut self) -> Self {
        self.replaces_ebpf = true;
        self
    }

    /// Watches a cgroup, as far as it is not watched yet. Its count is to be read
    /// afterwards.
    fn watch(&mut self, id: CgroupId, path: &CgroupPath) {
        if self.watches.get(&id).is_some_and(|watched| watched.on[1].is_some()) {
            return;
        }
        if self.watches.len() >= MOST_WATCHED && !self.watches.contains_key(&id) {
            self.short("there are too many cgroups");
            return;
        }
        let directory = self.files.directory(path);
        let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::ONLYDIR;
        let on_directory = self.add_watch(&directory, flags);
        let on_file = self.add_watch(&directory.join(EVENTS), WatchFlags::MODIFY);
        self.directories.extend(on_directory.map(|watch| (watch, (id, path.clone()))));
        self.files_watched.extend(on_file.map(|watch| (watch, id)));
        let watched = Watched { path: path.clone(), on: [on_directory, on_file] };
        self.watches.insert(id, watched);
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

    fn add_watch(&mut self, path: &Path, flags: WatchFlags) -> Option<i32> {
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
        if !mem::replace(&mut self.reported_short, true) {
            tracing::warn!(
                why,
                "Some cgroups are not watched: kills there are reported only at the next resync, or counted as unseen."
            );
        }
    }

    /// Takes what is there to read.
    fn changes(&mut self) -> Changes {
        let overflow = mem::take(&mut self.overflow);
        let cgroups = mem::take(&mut self.below);
        let mut changes = Changes { cgroups, overflow, ..Changes::default() };
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        while let Ok(event) = events.next() {
            let is = |flag| event.events().contains(flag);
            if is(ReadFlags::QUEUE_OVERFLOW) {
                changes.overflow = true;
                changes.overflows += 1;
            } else if let Some(id) = self.files_watched.get(&event.wd()) {
                changes.counts.insert(*id);
            } else if let Some((_, path)) = self.directories.get(&event.wd())
                && is(ReadFlags::ISDIR)
                && let Some(Ok(path)) = event.file_name().map(|name| path.child(name.to_bytes()))
            {
                changes.cgroups.push(if is(ReadFlags::CREATE) {
                    Event::CgroupMade(CgroupEvent { id: None, path, base: Base::Mount })
                } else {
                    // Another one may have its name by now, and be watched already.
                    let is_gone = |id: &CgroupId| self.files.id(&path) != Some(*id);
                    let id = self.ids.get(&path).copied().filter(is_gone);
                    Event::CgroupRemoved(CgroupEvent { id, path, base: Base::Mount })
                });
            }
            if changes.cgroups.len() >= MOST_CHANGES && events.is_buffer_empty() {
                changes.more = true;
                break;
            }
        }
        changes
    }

    /// Reads what is counted of a cgroup, and of those above it, which say whose limit was
    /// hit.
    fn read_counts(&mut self, path: &CgroupPath, now: Monotonic, container_of: ContainerOf<'_>) {
        for path in iter::once(path.clone()).chain(path.ancestors()) {
            self.read_count(&path, now, container_of);
        }
    }

    fn read_count(&mut self, path: &CgroupPath, now: Monotonic, container_of: ContainerOf<'_>) {
        let (Some(id), Some(counts)) = (self.ids.get(path).copied(), self.counts(path)) else {
            return;
        };
        let container = container_of(path);
        let inside = |path: &CgroupPath| path.is_within(&container);
        let upwards = iter::once(path.clone()).chain(path.ancestors()).take_while(inside);
        let group = upwards.filter(|path| self.files.oom_group(path) == Some(true)).last();
        let oom_group = group.as_ref().and_then(|path| Some((*self.ids.get(path)?, path)));
        let container_id = self.ids.get(&container).copied();
        let place = Place { id, path, container: &container, container_id, oom_group };
        self.assembler.read(place, counts, now);
    }

    /// What is counted of a cgroup; none if it is gone, or counts nothing.
    fn counts(&self, path: &CgroupPath) -> Option<Counts> {
        Counts::parse(&self.files.read(path, EVENTS)?)
    }

    /// Cgroups, and what is counted of those whose counts have changed.
    fn poll_cgroups(&mut self, now: Monotonic, container_of: ContainerOf<'_>) -> Polled {
        let Changes { mut cgroups, counts, overflow, more, overflows } = self.changes();
        for id in counts {
            if let Some(path) = self.watches.get(&id).map(|watched| watched.path.clone()) {
                self.read_counts(&path, now, container_of);
            }
        }
        // What a directory was found to contain is mostly known by then.
        cgroups.retain(|event| match event {
            Event::CgroupMade(made) => made.id.is_none_or(|id| !self.watches.contains_key(&id)),
            _ => true,
        });
        // What is watched from now on may contain others.
        let more = more || !cgroups.is_empty();
        Polled { events: cgroups, cgroups_unseen: overflow, overflows, more, ..Polled::default() }
    }

    /// The kills that are known well enough.
    fn poll_kills(
        &mut self,
        until: Monotonic,
        now: Monotonic,
        container_of: ContainerOf<'_>,
    ) -> Polled {
        if self.assembler.deadline().is_none_or(|due| due > until) {
            return Polled::default();
        }
        for container in self.assembler.open().cloned().collect::<Vec<_>>() {
            self.read_counts(&container, now, container_of);
        }
        let files = &self.files;
        // A container without any process, in it or below it, has ended; one that is gone, or that
        // another has the name of, all the more.
        let ended = |id: Option<CgroupId>, container: &CgroupPath| {
            let is_another = id.is_some_and(|id| files.id(container) != Some(id));
            is_another || files.is_populated(container) != Some(true)
        };
        Polled { kills: self.assembler.settle(until, ended), ..Polled::default() }
    }
}

impl Source for MemoryEvents {
    fn name(&self) -> &'static str {
        "memory-events"
    }

    fn only_counts(&self) -> bool {
        true
    }

    fn means(&self) -> Means {
        Means::Counts
    }

    fn replaces_ebpf(&self) -> bool {
        self.replaces_ebpf
    }

    fn descriptors(&self) -> Descriptors<'_> {
        Descriptors { kills: None, cgroups: Some(self.inotify.as_fd()) }
    }

    fn poll(&mut self, queue: Queue, now: Monotonic, container_of: ContainerOf<'_>) -> Polled {
        match queue {
            Queue::Kills { until } => self.poll_kills(until, now, container_of),
            Queue::Cgroups => self.poll_cgroups(now, container_of),
        }
    }

    fn deadline(&self) -> Option<Monotonic> {
        // Nothing becomes readable for what a directory was found to contain.
        if self.below.is_empty() { self.assembler.deadline() } else { Some(Monotonic::ZERO) }
    }

    fn made(
        &mut self,
        id: CgroupId,
        path: &CgroupPath,
        has_past: bool,
        now: Monotonic,
        container_of: ContainerOf<'_>,
    ) {
        self.watch(id, path);
        if has_past && let Some(counts) = self.counts(path) {
            self.assembler.begin(id, counts);
        }
        self.read_count(path, now, container_of);
    }

    fn will_end(
        &mut self,
        id: CgroupId,
        path: &CgroupPath,
        now: Monotonic,
        container_of: ContainerOf<'_>,
    ) {
        self.read_counts(path, now, container_of);
        if self.files.is_populated(path) == Some(true) {
            self.assembler.survived(id);
        }
    }

    fn removed(&mut self, id: CgroupId) {
        self.assembler.removed(id);
        let Some(Watched { path, on }) = self.watches.remove(&id) else { return };
        // Another one may have its name by now.
        if self.ids.get(&path) == Some(&id) {
            self.ids.remove(&path);
        }
        for watch in on.into_iter().flatten() {
            self.directories.remove(&watch);
            self.files_watched.remove(&watch);
            // The kernel has removed the watch itself if the cgroup is gone.
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
    }
}
