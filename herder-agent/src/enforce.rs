//! Keeps `memory.oom.group` at the value of a rule, on exactly the cgroups that
//! a rule matched.
//!
//! Level-triggered: whoever changes the value (the runtime at creation and at an
//! update, systemd at a reload, a person), inotify tells of it, the value is read
//! again, and written if it is not what the rule says; twenty times a second at
//! most if somebody changes it without end. A slow resync covers what inotify could not.
//!
//! Owned by one task. All of its file operations are on one small kernel file
//! and take microseconds, so they are done in place.

mod container;
mod left;
mod listener;
mod news;
mod obstacle;
mod pace;
mod states;
mod survey;
mod watch;

pub use container::ContainerState;
pub use listener::Listener;
pub use news::{News, What};
pub use obstacle::{may_be_stopped, stopping_policy};
pub use states::{StateKey, States, StatesRequest};

use crate::kernel::cgroupfs::dir::{CgroupRoot, DirError};
use container::{Container, Context};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    enforcement::Obstacle,
    owner::Owner,
    rules::matching::Target,
    saved::SavedCgroups,
};
use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet, VecDeque},
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use watch::Watches;

/// How to enforce.
#[derive(Clone, Debug)]
pub struct Options {
    /// Write nothing; report what would be written.
    pub dry_run: bool,
    /// Give the first values back at the end.
    pub restore_on_exit: bool,
    /// The first number that no container's descriptor may have: those from there on
    /// are for all else.
    pub descriptors: i32,
    /// Where systemd keeps the unit files of transient scopes.
    pub systemd_transient: PathBuf,
    /// How long a cgroup may be without the memory controller before that is told:
    /// [`BUILT_WITHIN`].
    pub built_within: Duration,
}

/// Runtimes make a cgroup first and enable its controllers a while later: crun took 0.06 to
/// 0.5 s, on a node with little to do.
pub const BUILT_WITHIN: Duration = Duration::from_secs(5);

/// Where a container is.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// Its cgroup.
    pub path: &'a CgroupPath,
    /// The scope around it, if crun has made this cgroup in it and a rule matches both.
    pub scope: Option<CgroupPath>,
}

/// How a cgroup came to be known, and so what its first value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was just made: its 0 is the kernel's, and the runtime has yet to write.
    Made,
    /// It was there before, with the value that it has.
    Existing,
    /// It gets our value from its runtime, which was asked for it in place of this one.
    Adjusted(bool),
}

/// The matched containers and what is done to them.
pub struct Enforcer {
    context: Context,
    containers: HashMap<CgroupId, Container>,
    watches: Watches,
    /// Whose value, watch and surroundings are to be looked at.
    unsurveyed: VecDeque<CgroupId>,
    /// Whose value somebody changes without end, and when it is corrected next.
    resting: VecDeque<(Instant, CgroupId)>,
    /// Counts of killed processes that nobody has taken yet.
    counted: Vec<Counted>,
    /// What an earlier agent left, until its cgroups are known.
    left: SavedCgroups,
    /// Matched, but there are too many.
    beyond: HashSet<CgroupId>,
    /// Those of which not even that is known.
    not_kept: u64,
}

/// How many processes the kernel has killed in a matched cgroup.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// Which cgroup.
    pub id: CgroupId,
    /// The kernel's count.
    pub oom_kills: u64,
}

/// Containers that are governed: many times what a kubelet starts on a node. Each takes a
/// descriptor and two watches, some 5 KiB with what the kernel keeps for it.
const MOST: usize = 4096;

impl Enforcer {
    /// Without a root (no cgroup v2) nothing is enforced, and each matched
    /// container is reported as not enforceable. Without inotify it is told of
    /// each container, and the resync is what corrects.
    pub fn new(root: Option<CgroupRoot>, options: Options, listener: Arc<dyn Listener>) -> Self {
        Enforcer {
            context: Context {
                root,
                options,
                listener,
                news: Cell::new(false),
                leaves: Cell::new(false),
                inner: RefCell::default(),
                built: RefCell::default(),
            },
            containers: HashMap::new(),
            watches: Watches::new(),
            unsurveyed: VecDeque::new(),
            resting: VecDeque::new(),
            counted: Vec::new(),
            left: SavedCgroups::new(),
            beyond: HashSet::new(),
            not_kept: 0,
        }
    }

    /// What the kernel counted since the last call, of cgroups where that may have
    /// changed.
    pub fn take_counted(&mut self) -> Vec<Counted> {
        std::mem::take(&mut self.counted)
    }

    /// Whether what is to be left has changed since the last call.
    pub fn take_leaves_changed(&self) -> bool {
        self.context.leaves.replace(false)
    }

    fn count(&mut self, id: CgroupId) {
        let count = self.containers.get(&id).and_then(Container::oom_kills);
        self.counted.extend(count.map(|oom_kills| Counted { id, oom_kills }));
    }

    /// Whether there is a v2 mount to enforce on.
    pub fn has_root(&self) -> bool {
        self.context.root.is_some()
    }

    /// Readable when [`Self::changed`] has something to do; none if there is no
    /// inotify instance to be had.
    pub fn inotify(&self) -> Option<BorrowedFd<'_>> {
        self.watches.descriptor()
    }

    /// Whether a cgroup is under a rule and is there; what keeps it from being opened
    /// (no free descriptor) is an obstacle, and tried again.
    pub fn governs(&self, id: CgroupId) -> bool {
        self.containers.contains_key(&id) || self.beyond.contains(&id)
    }

    /// Those that are matched and not governed, since there are too many; to be tried again.
    pub fn take_beyond(&mut self) -> HashSet<CgroupId> {
        std::mem::take(&mut self.beyond)
    }

    /// How many containers' cgroups there are that nobody keeps track of.
    pub fn not_kept(&mut self, containers: u64) {
        self.not_kept = containers;
        self.report_obstacles();
    }

    /// What is in the way of a container's value.
    pub fn obstacle(&self, id: CgroupId) -> Option<Obstacle> {
        self.containers.get(&id).and_then(Container::obstacle)
    }

    /// Where systemd keeps the unit files of transient scopes.
    pub fn systemd_transient(&self) -> &Path {
        &self.context.options.systemd_transient
    }

    /// What is new about containers whose names are known.
    pub fn take_news(&mut self) -> Vec<News> {
        // Most of the time there is none, and there may be a thousand containers.
        if !self.context.news.replace(false) {
            return Vec::new();
        }
        self.containers.values_mut().flat_map(Container::take_news).collect()
    }

    /// Brings a cgroup under a rule, or under another one. A cgroup that cannot
    /// be opened because it is gone, or is not there yet, is left out.
    pub fn govern(
        &mut self,
        id: CgroupId,
        place: Place<'_>,
        origin: Origin,
        target: Target,
        owner: Owner,
    ) {
        let seen = Instant::now();
        if let Some(container) = self.containers.get_mut(&id) {
            if container.take_over(place.scope, target, owner, &self.context) {
                self.correct(id, seen);
                self.unsurveyed.push_back(id);
            }
            return;
        }
        if self.containers.len() >= MOST {
            if self.beyond.is_empty() {
                tracing::warn!(cgroup = %place.path, rule = &*target.rule, "Rules match more than {MOST} cgroups; this one and further ones are not enforceable.");
            }
            self.beyond.insert(id);
            return;
        }
        let opened = Container::open(id, place, origin, target, owner, &self.context);
        let Ok(mut container) = opened else { return };
        let left = self.left.remove(&id);
        if let Some(value) = left.and_then(|left| left.give_back) {
            container.inherit(value);
        }
        // The watch comes before the first read, so that no change between the
        // two is missed.
        container.watch(&mut self.watches, &self.context);
        if container.correct(&self.context, seen) {
            self.containers.insert(id, container);
            self.count(id);
            // What is around it can wait until no value has to be corrected.
            self.unsurveyed.push_back(id);
        } else {
            container.end(&mut self.watches, &self.context);
        }
    }

    /// No rule matches any more: the first value comes back.
    pub fn release(&mut self, id: CgroupId) {
        self.beyond.remove(&id);
        if let Some(mut container) = self.containers.remove(&id) {
            container.restore(&self.context);
            self.context.leaves.set(true);
            self.end(container);
        }
    }

    /// The cgroup was removed.
    pub fn removed(&mut self, id: CgroupId) {
        self.beyond.remove(&id);
        if let Some(container) = self.containers.remove(&id) {
            self.end(container);
        }
    }

    fn end(&mut self, mut container: Container) {
        self.resting.retain(|(_, id)| *id != container.id());
        container.end(&mut self.watches, &self.context);
        self.show_other(container.owner());
        self.report_obstacles();
    }

    /// A value of an owner is gone. When a container is started again, its new cgroup may be
    /// there before the old one is removed, and a scope is there without crun's cgroup in it.
    fn show_other(&self, owner: &Owner) {
        let other = |it: &&Container| it.can_show_for(owner, &self.context);
        if let Some(other) = self.containers.values().find(other) {
            other.show_again(&self.context);
        }
    }

    /// Takes some of what inotify told, and corrects each changed value once:
    /// whoever writes for ever gets one correction for each turn of the loop and
    /// cannot keep it from its other work. Tells whether all was taken.
    pub fn changed(&mut self) -> bool {
        let seen = Instant::now();
        let (changes, all) = self.watches.changes();
        for id in changes.values {
            let Some(container) = self.containers.get_mut(&id) else { continue };
            if container.is_answered(seen) {
                self.correct(id, seen);
            } else {
                container.rest(&mut self.watches, &self.context);
                self.resting.push_back((seen + pace::REST, id));
            }
        }
        if changes.overflow {
            let ids: Vec<_> = self.containers.keys().copied().collect();
            for id in ids {
                if self.containers.get_mut(&id).is_some_and(|it| it.is_answered_unheard(seen)) {
                    self.correct(id, seen);
                }
            }
            // The counts too, when there is time.
            self.resync();
        }
        for id in changes.events {
            self.count(id);
        }
        for id in changes.lost {
            if let Some(container) = self.containers.get_mut(&id) {
                container.doubt_watch();
                self.unsurveyed.push_back(id);
            }
        }
        all
    }

    fn correct(&mut self, id: CgroupId, seen: Instant) {
        let Some(container) = self.containers.get_mut(&id) else { return };
        let had_value = container.has_value();
        let is_there = container.correct(&self.context, seen);
        if !is_there {
            self.removed(id);
        } else if had_value && !container.has_value() {
            let owner = container.owner().clone();
            self.show_other(&owner);
        }
    }

    /// When [`Self::correct_due`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        let built = self.context.built.borrow().front().map(|(until, _)| *until);
        self.resting.front().map(|(until, _)| *until).into_iter().chain(built).min()
    }

    /// Corrects what has rested since somebody changed it too often, and looks again at
    /// what had no memory controller.
    pub fn correct_due(&mut self) {
        let now = Instant::now();
        self.correct_rested(now);
        let due = || self.context.built.borrow_mut().pop_front_if(|(until, _)| *until <= now);
        let built: Vec<_> = std::iter::from_fn(due).map(|(_, id)| id).collect();
        for id in &built {
            self.correct(*id, now);
        }
        if !built.is_empty() {
            self.report_obstacles();
        }
    }

    fn correct_rested(&mut self, now: Instant) {
        while let Some((_, id)) = self.resting.pop_front_if(|(until, _)| *until <= now) {
            if let Some(container) = self.containers.get_mut(&id) {
                container.wake();
                container.watch(&mut self.watches, &self.context);
                // Whoever has taken its watch meanwhile must not end its corrections.
                if !container.is_watched() {
                    self.resting.push_back((now + pace::REST, id));
                }
                self.correct(id, now);
            }
        }
    }

    /// The agent ends.
    pub fn shutdown(&mut self) {
        if self.context.options.restore_on_exit {
            for container in self.containers.values_mut() {
                container.restore(&self.context);
            }
        }
    }
}

/// What stands in the way, from what went wrong; nothing if the cgroup is gone.
fn obstacle_of(error: &DirError) -> Option<Obstacle> {
    match error {
        DirError::Gone => None,
        DirError::NoController => Some(Obstacle::NoMemoryController),
        DirError::ReadOnly { .. } => Some(Obstacle::ReadOnly),
        DirError::Value(_) | DirError::Other(_) => Some(Obstacle::Error),
    }
}

#[cfg(test)]
mod tests;
