//! All protected inits, and what is done with them in turn.

mod sweep;

use super::{
    Found, Listener, Protect, ScoreWrite, Wanted, Written,
    forks::ForkSource,
    init::{Init, SETTLED, give},
    paths::Paths,
    search,
};
use crate::kernel::{
    cgroupfs::CgroupFs,
    host_proc::{HostProc, ticks, ticks_now},
    probe::forks::ForkEvent,
};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    shield::{Action, EXEMPT, MOST, SavedInits, Seen},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

/// Records that are taken before anything else gets a turn.
const RECORDS_AT_ONCE: usize = 256;

/// How often it is looked whether an init still has what it was given.
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
}

/// A container whose init has its own value again.
struct Leaving {
    until: Instant,
    path: CgroupPath,
    own: i16,
}

pub(super) struct Worker<F> {
    pub(super) tools: Tools<F>,
    inits: BTreeMap<CgroupId, Init>,
    leaving: BTreeMap<CgroupId, Leaving>,
    found: Found,
    looked: Instant,
}

impl<F: ForkSource> Worker<F> {
    pub(super) fn new(tools: Tools<F>) -> Self {
        Worker {
            tools,
            inits: BTreeMap::new(),
            leaving: BTreeMap::new(),
            found: Found::default(),
            looked: Instant::now(),
        }
    }

    /// Takes what an earlier agent left. What is not exempt any more is nobody's business.
    pub(super) fn inherit(&mut self, left: SavedInits) {
        for (id, saved) in left {
            let Ok(process) = self.tools.processes.process(saved.pid) else { continue };
            if process.start() != saved.start || process.score() != Ok(EXEMPT) {
                continue;
            }
            let protect = Protect { path: saved.path, rule: "unknown".into(), init: None };
            let init = Init::inherited(protect, process, saved.score);
            self.tools.forks.watch(id);
            self.inits.insert(id, init);
            self.surround(id);
            // Whatever it started while no agent ran.
            self.sweep(id);
        }
    }

    /// Takes what is wanted now.
    pub(super) fn take_wanted(&mut self, wanted: &Wanted) {
        for (id, protect) in &wanted.containers {
            match self.inits.get_mut(id) {
                Some(init) => init.protect = protect.clone(),
                None => drop(self.inits.insert(*id, Init::new(protect.clone()))),
            }
        }
        let is_wanted =
            |id: &CgroupId| wanted.containers.contains_key(id) || wanted.keep.contains(id);
        let released: Vec<_> = self.inits.extract_if(.., |id, _| !is_wanted(id)).collect();
        for (id, mut init) in released {
            if let Action::Restore(own) = init.shield.step(Seen::Released) {
                init.restore(own, &*self.tools.listener);
                self.leaves(id, &init.protect.path, own);
            }
        }
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
        let is_saved = |init: &&mut Init| init.saved_in.is_some_and(|needed| needed <= version);
        let ids: Vec<_> =
            self.inits.iter_mut().filter_map(|(id, init)| is_saved(&init).then_some(*id)).collect();
        for id in ids {
            let Some(init) = self.inits.get_mut(&id) else { continue };
            init.saved_in = None;
            let action = init.look(Seen::Saved);
            self.act(id, action);
        }
    }

    /// How long it is until the next [`Self::tick`].
    pub(super) fn pause(&self) -> Duration {
        let awaited = |init: &Init| match init.process {
            Some(_) => init.is_new(),
            None => init.searched < SEARCHES,
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
            self.looked = Instant::now();
            for id in self.inits.keys().copied().collect::<Vec<_>>() {
                self.look_again(id);
                self.surround(id);
            }
        }
        let now = Instant::now();
        for (id, _) in self.leaving.extract_if(.., |_, it| it.until <= now) {
            self.tools.forks.forget(id);
        }
        self.search();
    }

    /// The agent ends: nothing may stay exempt that no agent looks after.
    pub(super) fn end(&mut self) {
        self.take_wanted(&Wanted::default());
        for _ in 0..16 {
            if self.take_records() {
                break;
            }
        }
        // What was being forked meanwhile.
        let leaving: Vec<_> =
            self.leaving.iter().map(|(id, it)| (*id, it.path.clone(), it.own)).collect();
        for (id, path, own) in leaving {
            self.give_back_all(id, &path, own);
        }
    }

    /// All that is so, if it has changed since the last call.
    pub(super) fn news(&mut self) -> Option<Found> {
        let mut protected = 0;
        let mut unprotected = BTreeMap::new();
        let mut states = BTreeMap::new();
        for (id, init) in &mut self.inits {
            if let Some(news) = init.news() {
                self.tools.listener.protection(&init.protect.path, &init.protect.rule, news);
            }
            let state = init.unprotected();
            match state {
                None => protected += 1,
                Some(reason) => *unprotected.entry(reason).or_insert(0) += 1,
            }
            states.insert(*id, state);
        }
        let inits: SavedInits =
            self.inits.iter().filter_map(|(id, init)| Some((*id, init.saved()?))).collect();
        let version = self.found.version + u64::from(inits != self.found.inits);
        let found = Found { version, inits, states };
        if found == self.found {
            return None;
        }
        self.tools.listener.protections(protected, &unprotected);
        self.found = found.clone();
        Some(found)
    }

    /// Looks for inits that are not known yet, and begins with those that are old enough.
    fn search(&mut self) {
        let due = |init: &Init| {
            let due = init.searched < SEARCHES || init.searched.is_multiple_of(SEARCH_EVERY);
            init.process.is_none() && init.shield.own().is_none() && due
        };
        for init in self.inits.values_mut().filter(|init| init.process.is_none() && !due(init)) {
            init.searched = init.searched.saturating_add(1);
        }
        let wanted: HashMap<_, _> = self
            .inits
            .iter()
            .filter(|(_, init)| due(init))
            .map(|(id, init)| (*id, &init.protect))
            .collect();
        if !wanted.is_empty() {
            let mut found = search::inits(&self.tools.processes, &self.tools.paths, &wanted);
            let ids: Vec<_> = wanted.into_keys().collect();
            for id in ids {
                let Some(init) = self.inits.get_mut(&id) else { continue };
                init.process = found.remove(&id);
                init.searched = init.searched.saturating_add(1);
                self.surround(id);
            }
        }
        self.begin();
    }

    fn begin(&mut self) {
        let settled = ticks(u64::try_from(SETTLED.as_nanos()).unwrap_or(u64::MAX));
        let now = ticks_now();
        let mut room = MOST
            .saturating_sub(self.inits.values().filter(|init| init.shield.own().is_some()).count());
        let version = self.found.version + 1;
        for init in self.inits.values_mut() {
            let Some(process) = &init.process else { continue };
            if !init.is_new() || process.start().saturating_add(settled) > now {
                continue;
            }
            init.too_many = room == 0;
            if room > 0 && init.look(Seen::Score) == Some(Action::Save) {
                init.saved_in = Some(version);
                room -= 1;
            }
        }
    }

    fn act(&mut self, id: CgroupId, action: Option<Action>) {
        let Some(init) = self.inits.get_mut(&id) else { return };
        match action {
            Some(Action::Save) => init.saved_in = Some(self.found.version + 1),
            // Before the write, so that no fork after it is missed.
            Some(Action::Exempt) if self.tools.forks.watch(id) => {
                self.leaving.remove(&id);
                init.exempt(&*self.tools.listener);
            }
            Some(Action::Exempt) => drop(init.shield.step(Seen::Refused)),
            Some(Action::Restore(own)) => {
                init.restore(own, &*self.tools.listener);
                let path = init.protect.path.clone();
                self.leaves(id, &path, own);
            }
            Some(Action::None) | None => {}
        }
    }

    /// Whether it still has what it was given.
    fn look_again(&mut self, id: CgroupId) {
        let Some(init) = self.inits.get_mut(&id).filter(|init| init.process.is_some()) else {
            return;
        };
        let own = init.shield.own();
        // Of one that is about to be exempt, the next look is after it is saved.
        if init.saved_in.is_some() {
            return;
        }
        let action = init.look(Seen::Score);
        if let (Some(own), None) = (own, init.shield.own()) {
            let path = init.protect.path.clone();
            self.leaves(id, &path, own);
        }
        self.act(id, action);
    }

    /// Notes whose limit concerns an init.
    fn surround(&mut self, id: CgroupId) {
        let Some(init) = self.inits.get_mut(&id) else { return };
        let Some(process) = &init.process else { return };
        let Some(path) = search::cgroup(process, &self.tools.paths) else { return };
        let upwards = std::iter::once(path.clone()).chain(path.ancestors());
        init.around = upwards.filter_map(|path| self.tools.files.id(&path)).collect();
    }

    fn leaves(&mut self, id: CgroupId, path: &CgroupPath, own: i16) {
        let until = Instant::now() + STRAGGLERS;
        self.leaving.insert(id, Leaving { until, path: path.clone(), own });
    }

    fn forked(&mut self, container: CgroupId, pid: u32, start: u64, shares_memory: bool) {
        self.tools.listener.forked();
        let of_init = self
            .inits
            .get(&container)
            .and_then(|init| Some((init.shield.own()?, &init.protect.path)));
        let of_leaving = || self.leaving.get(&container).map(|it| (it.own, &it.path));
        let Some((own, path)) = of_init.or_else(of_leaving) else { return };
        let result = match self.tools.processes.process(pid) {
            Ok(process) if process.start() == start => give(&process, own),
            _ => ScoreWrite::Gone,
        };
        self.tools.listener.wrote(path, pid, Written::GaveBack, &result);
        // Processes that share memory have one score (`__set_oom_adj()`, fs/proc/base.c), but for
        // vfork(): the init may have lost its own.
        if shares_memory {
            self.look_again(container);
        }
    }
}

#[cfg(test)]
mod tests;
