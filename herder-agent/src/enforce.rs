//! Enforces `memory.oom.group` on exactly the cgroups that a rule matched.
//!
//! Level-triggered: when something changes the value (the runtime at creation and at an
//! update, systemd at a reload, a person), inotify reports it, the value is read
//! again, and written if it is not what the rule says. In a loop of changes that happens at
//! most twenty times a second. A slow resync covers what inotify missed.
//!
//! Owned by one task. All of its file operations are on one small kernel file
//! and take microseconds, so they are done in place.

mod container;
mod corrections;
mod effect;
mod left;
mod news;
mod obstacle;
mod options;
mod pace;
mod restart;
mod restored;
pub mod shield;
mod state;
mod states;
mod survey;
mod watch;

pub use container::{ContainerState, EscalationState};
pub use effect::{Counted, Effect};
pub use news::{Change, EnforcementEvent};
pub use obstacle::{may_be_stopped, stopping_policy};
pub use options::{BUILT_WITHIN, Options, Origin, Place};
pub use restart::{
    RestartError, RestartRequest, RestartRequests, RestartWriter, Restarted,
    channel as restart_channel,
};
pub use states::{StateKey, States};

use crate::kernel::{cgroupfs::dir::CgroupRoot, clock::Clock};
use container::Container;
use effect::Effects;
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    clock::Monotonic,
    enforcement::Obstacle,
    owner::Owner,
    rules::matching::Target,
    saved::SavedCgroups,
};
use left::Unrestored;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    os::fd::BorrowedFd,
    path::Path,
};
use watch::Watches;

/// What all containers share and none changes.
struct Context {
    root: Option<CgroupRoot>,
    options: Options,
}

/// What all containers share and each may change.
#[derive(Default)]
struct Shared {
    dry_run: bool,
    clock: Clock,
    effects: Effects,
    /// Scopes in which crun has made the cgroup whose value counts.
    inner: HashMap<CgroupPath, CgroupId>,
    /// When cgroups without the memory controller are looked at again.
    built: VecDeque<(Monotonic, CgroupId)>,
}

/// The matched containers and what is done to them.
pub struct Enforcer {
    context: Context,
    shared: Shared,
    /// Boxed, because half of a hash table is room for more.
    containers: HashMap<CgroupId, Box<Container>>,
    watches: Watches,
    /// Whose value, watch and surroundings are to be looked at.
    unsurveyed: VecDeque<CgroupId>,
    /// Containers whose value something changes in a loop, and when it is corrected next.
    backed_off: VecDeque<(Monotonic, CgroupId)>,
    /// What an earlier agent left, until its cgroups are known, and what could not be restored.
    left: SavedCgroups,
    /// Those of them that a walk has tried to restore.
    unrestored: HashMap<CgroupId, Unrestored>,
    /// Matched, but there are too many.
    beyond: HashSet<CgroupId>,
    /// Those of which not even that is known.
    not_kept: u64,
    /// What stood in the way of the last containers that were removed with an obstacle: a kill may
    /// be read after that.
    removed_with: VecDeque<(CgroupId, Obstacle)>,
}

/// Containers that are governed: many times what a kubelet starts on a node. Each takes a
/// descriptor and two watches, some 5 KiB with what the kernel keeps for it.
const MOST: usize = 4096;

/// Removed containers whose obstacle is remembered.
const MOST_REMOVED: usize = 64;

impl Enforcer {
    /// Without a root (no cgroup v2) nothing is enforced, and each matched
    /// container is reported as not enforceable. Without inotify each container is reported
    /// too, and only the resync corrects.
    pub fn new(root: Option<CgroupRoot>, options: Options, clock: Clock) -> Self {
        Enforcer {
            shared: Shared { dry_run: options.dry_run, clock, ..Shared::default() },
            context: Context { root, options },
            containers: HashMap::new(),
            watches: Watches::new(),
            unsurveyed: VecDeque::new(),
            backed_off: VecDeque::new(),
            left: SavedCgroups::new(),
            unrestored: HashMap::new(),
            beyond: HashSet::new(),
            not_kept: 0,
            removed_with: VecDeque::new(),
        }
    }

    /// What was done and found since the last call, in its order. What the owner of a container
    /// should know stays with the container until that has a name.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        for id in self.shared.effects.take_noteworthy() {
            let Some(container) = self.containers.get_mut(&id) else { continue };
            for event in container.take_events() {
                self.shared.effects.add(Effect::Notice(event));
            }
        }
        self.shared.effects.take()
    }

    fn container(&self, id: CgroupId) -> Option<&Container> {
        self.containers.get(&id).map(Box::as_ref)
    }

    fn all(&self) -> impl Iterator<Item = &Container> {
        self.containers.values().map(Box::as_ref)
    }

    fn count(&mut self, id: CgroupId) {
        let count = self.container(id).and_then(Container::oom_kills);
        if let Some(oom_kills) = count {
            self.shared.effects.add(Effect::Counted(Counted { id, oom_kills }));
        }
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

    /// How many containers' cgroups there are that the agent does not keep.
    pub fn not_kept(&mut self, containers: u64) {
        self.not_kept = containers;
        self.report_obstacles();
    }

    /// The obstacle to a container's value, if there is one, or was when it was removed.
    pub fn obstacle(&self, id: CgroupId) -> Option<Obstacle> {
        let removed = || {
            let mut newest_first = self.removed_with.iter().rev();
            newest_first.find(|(removed, _)| *removed == id).map(|(_, obstacle)| *obstacle)
        };
        self.container(id).map_or_else(removed, Container::obstacle)
    }

    /// Where systemd keeps the unit files of transient scopes.
    pub fn systemd_transient(&self) -> &Path {
        &self.context.options.systemd_transient
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
        let seen = self.shared.clock.now();
        if let Some(container) = self.containers.get_mut(&id) {
            if container.take_over(place.scope, target, owner, &mut self.shared) {
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
        let opened = Container::open(id, place, origin, target, owner, &self.context, seen);
        let Ok(mut container) = opened else { return };
        let left = self.take_left(id);
        if let Some(value) = left.and_then(|left| left.original_value) {
            container.inherit(value);
        }
        // The watch comes before the first read, so that no change between the
        // two is missed.
        container.watch(&mut self.watches, &self.context, &mut self.shared);
        if container.correct(&self.context, &mut self.shared, seen) {
            self.containers.insert(id, Box::new(container));
            self.count(id);
            // What is around it can wait until no value has to be corrected.
            self.unsurveyed.push_back(id);
        } else {
            container.end(&mut self.watches, &mut self.shared);
        }
    }

    /// No rule matches any more: the original value comes back, or is kept until it can.
    pub fn release(&mut self, id: CgroupId) {
        self.beyond.remove(&id);
        if let Some(mut container) = self.containers.remove(&id) {
            let restored = container.restore(&self.context, &mut self.shared);
            self.keep_unrestored(id, container.saved(), restored);
            self.report_unrestored();
            self.shared.effects.add(Effect::Saved);
            self.end(container);
        }
    }

    pub fn removed(&mut self, id: CgroupId) {
        self.beyond.remove(&id);
        self.take_left(id);
        if let Some(container) = self.containers.remove(&id) {
            if let Some(obstacle) = container.obstacle() {
                if self.removed_with.len() == MOST_REMOVED {
                    self.removed_with.pop_front();
                }
                self.removed_with.push_back((id, obstacle));
            }
            self.end(container);
        }
    }

    fn end(&mut self, mut container: Box<Container>) {
        self.backed_off.retain(|(_, id)| *id != container.id());
        container.end(&mut self.watches, &mut self.shared);
        self.show_other(container.owner());
        self.report_obstacles();
    }

    /// A value of an owner is gone. When a container is started again, its new cgroup may be
    /// there before the old one is removed, and a scope is there without crun's cgroup in it.
    fn show_other(&mut self, owner: &Owner) {
        let other = |it: &&Container| it.can_show_for(owner, &self.shared);
        if let Some(other) = self.containers.values().map(Box::as_ref).find(other) {
            other.show_again(&mut self.shared);
        }
    }

    /// The agent ends. What cannot be restored is left to the next agent.
    pub fn shutdown(&mut self) {
        if self.context.options.restore_on_exit {
            for container in self.containers.values_mut() {
                let restored = container.restore(&self.context, &mut self.shared);
                left::report(&container.saved(), &restored, None, &mut self.shared);
            }
        }
    }
}

#[cfg(test)]
mod tests;
