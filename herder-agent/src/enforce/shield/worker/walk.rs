//! One walk over the node's processes for all containers at once: it finds inits, and restores
//! what was forked exempt unseen.
//!
//! It goes some processes at a time, because on a large node it takes longer than the ring buffer
//! of forks has room for.

use super::{
    super::{
        init::Init,
        search::{self, Candidates},
    },
    SEARCH_EVERY, SEARCHES, Worker,
};
use crate::kernel::{host_proc::ProcessError, probe::forks::ForkSource};
use herder_model::{
    cgroup::{CgroupId, CgroupPath, counters::parse_oom_kill},
    clock::Monotonic,
    shield::{Attempt, Seen},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    time::{Duration, Instant},
};

/// Processes that are looked at before forks get their turn; each takes some tens of microseconds.
const PROCESSES_AT_ONCE: usize = 64;

/// Two walks that only restore are at least so far apart.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A walk that is under way.
pub(super) struct Walk {
    pids: Box<dyn Iterator<Item = io::Result<u32>>>,
    /// All containers, so that what is in a container within another is that one's.
    containers: HashMap<CgroupPath, CgroupId>,
    /// Those in which exempt processes are given their value back.
    swept: BTreeSet<CgroupId>,
    /// Those whose init is looked for.
    sought: BTreeMap<CgroupId, Candidates>,
    /// Those with an exempt process whose value cannot be written.
    refused: BTreeSet<CgroupId>,
    /// All of the processes could be read until now.
    all_read: bool,
}

impl Walk {
    /// Whether exempt processes of this container are given their value back.
    pub(super) fn sweeps(&self, id: CgroupId) -> bool {
        self.swept.contains(&id)
    }
}

impl<F: ForkSource> Worker<F> {
    /// The OOM killer found nothing to kill for the limit of this cgroup.
    pub(super) fn no_victim(&mut self, domain: CgroupId, at: Monotonic) {
        let path_around = |init: &Init| {
            let (_, path) = init.around.iter().find(|(id, _)| *id == domain)?;
            init.shield.own().is_some().then(|| path.clone())
        };
        let inits = self.inits.iter();
        let concerned: BTreeMap<_, _> =
            inits.filter_map(|(id, init)| Some((*id, path_around(init)?))).collect();
        // It is the same for all of them.
        let Some(path) = concerned.values().next() else { return };
        let events = self.tools.files.read(path, "memory.events");
        let kills = events.as_deref().and_then(parse_oom_kill).unwrap_or_default();
        self.tools.listener.no_victim();
        // A process may be exempt only because its fork was not seen. The walk is over long before
        // the state machine loses patience.
        self.sweep(concerned.keys().copied());
        for id in concerned.into_keys() {
            let Some(init) = self.inits.get_mut(&id) else { continue };
            let action = init.shield.step(Seen::NoVictim(Attempt { at, domain, kills }));
            self.act(id, Some(action));
        }
    }

    /// What is exempt in these containers, but for the init, is to be given the init's own value.
    pub(super) fn sweep(&mut self, ids: impl IntoIterator<Item = CgroupId>) {
        self.to_sweep.extend(ids);
        self.start_walk(false);
    }

    pub(super) fn sweep_all(&mut self) {
        self.sweep(self.inits.keys().chain(self.leaving.keys()).copied().collect::<Vec<_>>());
    }

    /// Whether [`Self::walk_some`] has something to do.
    pub(in super::super) fn is_walking(&self) -> bool {
        self.walk.is_some()
    }

    /// Starts a walk if there is a reason, and none is under way.
    pub(super) fn start_walk(&mut self, seek: bool) {
        if self.is_walking() {
            return;
        }
        let sought = if seek { self.choose_sought() } else { BTreeMap::new() };
        let may_sweep = self.swept.is_none_or(|swept| swept.elapsed() >= SWEEP_EVERY);
        if sought.is_empty() && (self.to_sweep.is_empty() || !may_sweep) {
            return;
        }
        let pids = match self.tools.processes.pids() {
            Ok(pids) => Box::new(pids),
            Err(error) => return tracing::warn!(%error, "Cannot list the node's processes."),
        };
        let swept = std::mem::take(&mut self.to_sweep);
        if !swept.is_empty() {
            self.swept = Some(Instant::now());
        }
        let leaving = self.leaving.iter().map(|(id, it)| (it.path.clone(), *id));
        let inits = self.inits.iter().map(|(id, init)| (init.protect.path.clone(), *id));
        let containers = leaving.chain(inits).collect();
        self.walk = Some(Walk {
            pids,
            containers,
            swept,
            sought,
            refused: BTreeSet::new(),
            all_read: true,
        });
    }

    /// Looks at some processes. Returns whether there are more.
    pub(in super::super) fn walk_some(&mut self) -> bool {
        let Some(mut walk) = self.walk.take() else { return false };
        for _ in 0..PROCESSES_AT_ONCE {
            let Some(pid) = walk.pids.next() else {
                self.conclude(walk);
                return false;
            };
            match pid.map(|pid| self.visit(&mut walk, pid)) {
                Ok(Ok(()) | Err(ProcessError::Gone)) => {}
                // What the kernel forbids it will forbid again.
                Ok(Err(ProcessError::Refused(_))) => walk.all_read = false,
                // Such as that no descriptor is left, or that the list of processes ends too early.
                Ok(Err(ProcessError::Other(_))) | Err(_) => {
                    walk.all_read = false;
                    self.to_sweep.extend(&walk.swept);
                }
            }
        }
        self.walk = Some(walk);
        true
    }

    fn visit(&self, walk: &mut Walk, pid: u32) -> Result<(), ProcessError> {
        let process = self.tools.processes.process(pid)?;
        let path = process.cgroup()?.and_then(|text| self.tools.paths.resolve(&text));
        let id = path.and_then(|path| search::container_of(&path, &walk.containers));
        let Some(id) = id else { return Ok(()) };
        let swept = match walk.sweeps(id) {
            true => self.restore_child(id, &process, &mut walk.refused),
            false => Ok(()),
        };
        if let Some(candidates) = walk.sought.get_mut(&id)
            && let Some(Init { protect, .. }) = self.inits.get(&id)
        {
            candidates.consider(process, protect, &self.tools.processes, &self.tools.paths);
        }
        swept
    }

    fn conclude(&mut self, Walk { sought, refused, all_read, .. }: Walk) {
        refused.into_iter().for_each(|id| self.child_refused(id));
        if !sought.is_empty() {
            self.say_whether_all_are_read(all_read);
        }
        for (id, candidates) in sought {
            let Some(init) = self.inits.get_mut(&id) else { continue };
            init.searched = init.searched.saturating_add(1);
            if init.process.is_none() {
                init.process = candidates.certain(all_read);
                self.surround(id);
            }
        }
        self.begin();
    }

    fn say_whether_all_are_read(&mut self, all_read: bool) {
        if std::mem::replace(&mut self.all_read, all_read) && !all_read {
            tracing::warn!(
                "Not all processes of the node can be read: the init of a container is known only if its runtime has reported it."
            );
        }
    }

    /// The containers whose init is to be looked for, as far as there is room for it.
    fn choose_sought(&mut self) -> BTreeMap<CgroupId, Candidates> {
        let held = self.inits.values().filter(|init| init.process.is_some()).count();
        let mut room = self.tools.most.saturating_sub(held);
        let mut sought = BTreeMap::new();
        let left = &self.left;
        let unknown = |id: &CgroupId, init: &Init| {
            init.process.is_none() && !init.released && !left.contains_key(id)
        };
        for (id, init) in self.inits.iter_mut().filter(|(id, init)| unknown(id, init)) {
            if init.searched >= SEARCHES && !init.searched.is_multiple_of(SEARCH_EVERY) {
                init.searched = init.searched.saturating_add(1);
                continue;
            }
            init.too_many = room == 0;
            if room > 0 {
                room -= 1;
                sought.insert(*id, Candidates::default());
            }
        }
        sought
    }
}
