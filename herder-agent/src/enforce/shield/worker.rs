//! All protected inits, and what is done with them in turn.

mod children;
mod left;
mod walk;

use super::{
    Found, Listener, Wanted,
    init::{Init, SETTLED},
    paths::Paths,
    search,
    unable::Unable,
};
use crate::kernel::{
    cgroupfs::CgroupFs,
    host_proc::{HostProc, ticks, ticks_now},
    probe::forks::{ForkEvent, ForkSource},
};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    shield::{Action, SavedInits, Seen, Unprotected},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};
use walk::Walk;

/// Records that are taken before anything else gets a turn.
const RECORDS_AT_ONCE: usize = 256;

/// How often it is looked whether an init still has what it was given, and what has failed is tried
/// again.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often there is something to do: while an init is awaited, and else.
const SOON: Duration = Duration::from_millis(250);
const SELDOM: Duration = Duration::from_secs(1);

/// A search that found no init is repeated at each tick so often, and then each so many ticks.
const SEARCHES: u32 = 20;
const SEARCH_EVERY: u32 = 30;

/// How long after an init has its own value again a process may still come to light that it had
/// started before.
const STRAGGLERS: Duration = Duration::from_secs(2);

/// What a worker works with.
pub(super) struct Tools<F> {
    pub(super) processes: HostProc,
    pub(super) paths: Paths,
    pub(super) files: CgroupFs,
    pub(super) forks: F,
    pub(super) listener: Arc<dyn Listener>,
    /// Inits that may be known at once; each takes a descriptor.
    pub(super) most: usize,
}

/// A container whose init has its own value again.
struct Leaving {
    until: Instant,
    path: CgroupPath,
    own: i16,
}

pub(super) struct Worker<F> {
    pub(super) tools: Tools<F>,
    /// Then all that is done is to restore what an earlier agent left.
    unable: Option<Unable>,
    wanted: Arc<Wanted>,
    inits: BTreeMap<CgroupId, Init>,
    leaving: BTreeMap<CgroupId, Leaving>,
    /// What an earlier agent left and could not be read yet.
    left: SavedInits,
    found: Found,
    /// Whether it was reported how many are protected.
    counted: bool,
    /// The version that is in the state file.
    saved: u64,
    looked: Instant,
    walk: Option<Walk>,
    /// The last search could read all of the node's processes.
    all_read: bool,
    /// Where processes may be exempt whose fork was not seen, and when that was looked at last.
    to_sweep: BTreeSet<CgroupId>,
    swept: Option<Instant>,
}

impl<F: ForkSource> Worker<F> {
    pub(super) fn new(tools: Tools<F>) -> Self {
        Worker {
            tools,
            unable: None,
            wanted: Arc::default(),
            inits: BTreeMap::new(),
            leaving: BTreeMap::new(),
            left: SavedInits::new(),
            found: Found::default(),
            counted: false,
            saved: 0,
            looked: Instant::now(),
            walk: None,
            all_read: true,
            to_sweep: BTreeSet::new(),
            swept: None,
        }
    }

    /// One that only restores.
    pub(super) fn restoring(tools: Tools<F>, unable: Unable) -> Self {
        Worker { unable: Some(unable), ..Self::new(tools) }
    }

    pub(super) fn take_wanted(&mut self, wanted: Arc<Wanted>) {
        self.wanted = wanted;
        if self.unable.is_none() {
            for (id, protect) in &self.wanted.containers {
                match self.inits.get_mut(id) {
                    Some(init) => init.want(protect.clone()),
                    None => drop(self.inits.insert(*id, Init::new(protect.clone()))),
                }
            }
        }
        self.release_unwanted();
    }

    fn release_unwanted(&mut self) {
        let wanted = self.wanted.clone();
        let is_wanted = |id: &CgroupId| {
            let is_asked_for = wanted.containers.contains_key(id) || wanted.keep.contains(id);
            self.unable.is_none() && is_asked_for
        };
        let is_new = |(id, init): &(&CgroupId, &Init)| !init.released && !is_wanted(id);
        let released: Vec<_> = self.inits.iter().filter(is_new).map(|(id, _)| *id).collect();
        for id in released {
            let Some(init) = self.inits.get_mut(&id) else { continue };
            init.released = true;
            let action = init.shield.step(Seen::Released);
            self.act(id, Some(action));
        }
        self.drop_released();
    }

    /// Forgets released inits that have their own value again.
    fn drop_released(&mut self) {
        self.inits.retain(|_, init| !init.released || init.shield.own().is_some());
    }

    /// Takes what the programs have reported. Returns whether that was all.
    pub(super) fn take_records(&mut self) -> bool {
        for _ in 0..RECORDS_AT_ONCE {
            match self.tools.forks.take() {
                Some(ForkEvent::Forked { container, pid, start_boottime, shares_memory }) => {
                    self.forked(container, pid, ticks(start_boottime), shares_memory);
                }
                Some(ForkEvent::NoVictim { time, domain }) => self.no_victim(domain, time),
                None => return true,
            }
        }
        false
    }

    /// So much is in the state file.
    pub(super) fn saved(&mut self, version: u64) {
        self.saved = version;
        let is_saved = |init: &Init| init.saved_in.is_some_and(|needed| needed <= version);
        let ids: Vec<_> =
            self.inits.iter().filter_map(|(id, init)| is_saved(init).then_some(*id)).collect();
        for id in ids {
            let Some(init) = self.inits.get_mut(&id) else { continue };
            let action = init.look(Seen::Saved);
            // Else it could not be read, and the next tick tries again.
            if action.is_some() {
                init.saved_in = None;
            }
            self.act(id, action);
        }
    }

    /// How long it is until the next [`Self::tick`].
    pub(super) fn pause(&self) -> Duration {
        let awaited = |init: &Init| match init.process {
            Some(_) => init.is_new(),
            None => init.searched < SEARCHES && !init.too_many,
        };
        if self.inits.values().any(awaited) { SOON } else { SELDOM }
    }

    /// What is to be done now and then.
    pub(super) fn tick(&mut self) {
        let lost = self.tools.forks.new_losses();
        if lost > 0 {
            self.tools.listener.forks_lost(lost);
            self.sweep_all();
        }
        if self.looked.elapsed() >= LOOK_EVERY {
            self.look_at_all();
        }
        self.saved(self.saved);
        let now = Instant::now();
        // A walk may take longer than that, and needs the value to the end.
        let awaits_walk = |id: &CgroupId| {
            self.to_sweep.contains(id) || self.walk.as_ref().is_some_and(|walk| walk.sweeps(*id))
        };
        let is_over = |id: &CgroupId, it: &mut Leaving| it.until <= now && !awaits_walk(id);
        for (id, _) in self.leaving.extract_if(.., is_over) {
            self.tools.forks.forget(id);
        }
        self.begin();
        self.start_walk(true);
    }

    /// Whether all still have what they were given. What could not be restored is tried again.
    fn look_at_all(&mut self) {
        self.looked = Instant::now();
        self.inherit_again();
        for id in self.inits.keys().copied().collect::<Vec<_>>() {
            self.look_again(id);
            self.surround(id);
        }
        self.drop_released();
    }

    /// The agent ends: nothing may stay exempt that no agent looks after.
    pub(super) fn end(&mut self) {
        self.take_wanted(Arc::default());
        for _ in 0..16 {
            if self.take_records() {
                break;
            }
        }
        // What could not be restored, and what was being forked meanwhile.
        self.look_at_all();
        (self.walk, self.swept) = (None, None);
        self.sweep_all();
        while self.walk_some() {
            self.take_records();
        }
    }

    /// All that is so, if it has changed since the last call, or this is the first.
    pub(super) fn news(&mut self) -> Option<Found> {
        let states = match &mut self.unable {
            Some(unable) => unable.states(&self.wanted, &*self.tools.listener),
            None => self.states(),
        };
        let inits = self.inits.iter().filter_map(|(id, init)| Some((*id, init.saved()?)));
        let inits: SavedInits = self.left.clone().into_iter().chain(inits).collect();
        let version = self.found.version + u64::from(inits != self.found.inits);
        let unrestored =
            self.inits.iter().filter_map(|(id, init)| Some((*id, init.unrestored()?))).collect();
        let found = Found { version, inits, states, unrestored };
        // At first it may be just what an earlier agent left.
        if std::mem::replace(&mut self.counted, true) && found == self.found {
            return None;
        }
        let mut unprotected = BTreeMap::new();
        for reason in found.states.values().flatten() {
            *unprotected.entry(*reason).or_insert(0) += 1;
        }
        // Those that no rule asks for, too, as long as they are exempt.
        let released = self.inits.values().filter(|init| init.released).count();
        let unread = self.left.keys().filter(|id| !self.inits.contains_key(id)).count();
        let wanted = found.states.values().filter(|state| state.is_none()).count();
        let protected = wanted + released + unread;
        self.tools.listener.protections(protected, &unprotected);
        self.found = found.clone();
        Some(found)
    }

    fn states(&mut self) -> BTreeMap<CgroupId, Option<Unprotected>> {
        let mut states = BTreeMap::new();
        for (id, init) in self.inits.iter_mut().filter(|(_, init)| !init.released) {
            if let Some(news) = init.news() {
                self.tools.listener.protection(&init.protect.path, &init.protect.rule, news);
            }
            states.insert(*id, init.unprotected());
        }
        states
    }

    /// Begins with the inits that are old enough.
    fn begin(&mut self) {
        let settled = ticks(u64::try_from(SETTLED.as_nanos()).unwrap_or(u64::MAX));
        let now = ticks_now();
        let version = self.found.version + 1;
        for init in self.inits.values_mut() {
            let Some(process) = &init.process else { continue };
            if init.released || !init.is_new() || process.start().saturating_add(settled) > now {
                continue;
            }
            if init.look(Seen::Score) == Some(Action::Save) {
                init.saved_in = Some(version);
            }
        }
    }

    fn act(&mut self, id: CgroupId, action: Option<Action>) {
        let Some(init) = self.inits.get_mut(&id) else { return };
        match action {
            Some(Action::Save) => init.saved_in = Some(self.found.version + 1),
            // Before the write, so that no fork after it is missed.
            Some(Action::Exempt) if self.tools.forks.watch(id) => self.exempt(id),
            Some(Action::Exempt) => drop(init.shield.step(Seen::Refused)),
            Some(Action::Restore(own)) => {
                if init.restore(own, &*self.tools.listener) {
                    self.leaves(id, own);
                }
            }
            Some(Action::None) | None => {}
        }
    }

    fn exempt(&mut self, id: CgroupId) {
        let Some(init) = self.inits.get_mut(&id) else { return };
        let before = init.shield.exempt_own();
        init.exempt(&*self.tools.listener);
        if init.shield.own().is_some() {
            self.leaving.remove(&id);
        } else if let Some(own) = before {
            self.leaves(id, own);
        } else if !self.leaving.contains_key(&id) {
            // Nothing of it was ever exempt.
            self.tools.forks.forget(id);
        }
    }

    /// Whether it still has what it was given.
    fn look_again(&mut self, id: CgroupId) {
        let Some(init) = self.inits.get_mut(&id).filter(|init| init.process.is_some()) else {
            return;
        };
        let own = init.shield.exempt_own();
        // Of one that is about to be exempt, the next look is after it is saved.
        if init.saved_in.is_some() {
            return;
        }
        let action = init.look(Seen::Score);
        if let (Some(own), None) = (own, init.shield.own()) {
            self.leaves(id, own);
        }
        self.act(id, action);
    }

    /// Notes whose limit concerns an init.
    fn surround(&mut self, id: CgroupId) {
        let Some(init) = self.inits.get_mut(&id) else { return };
        let Some(process) = &init.process else { return };
        let Some(path) = search::cgroup(process, &self.tools.paths) else { return };
        let files = &self.tools.files;
        init.around = path.upwards().filter_map(|path| Some((files.id(&path)?, path))).collect();
    }

    fn leaves(&mut self, id: CgroupId, own: i16) {
        let Some(init) = self.inits.get(&id) else { return };
        let (path, until) = (init.protect.path.clone(), Instant::now() + STRAGGLERS);
        self.leaving.insert(id, Leaving { until, path, own });
    }
}

#[cfg(test)]
mod tests;
