//! What is done to all processes of a container at once, and when the OOM killer finds none.

use super::{
    super::{
        Written,
        forks::ForkSource,
        init::{Init, give},
        search,
    },
    Worker,
};
use herder_model::{
    cgroup::{CgroupId, CgroupPath, counters::parse_oom_kill},
    clock::Monotonic,
    shield::{EXEMPT, Seen},
};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Two sweeps of one container are at least so far apart.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

impl<F: ForkSource> Worker<F> {
    pub(super) fn no_victim(&mut self, domain: CgroupId, time: Monotonic) {
        let concerned: Vec<_> = self
            .inits
            .iter()
            .filter(|(_, init)| init.shield.own().is_some() && init.around.contains(&domain))
            .map(|(id, _)| *id)
            .collect();
        for id in concerned {
            // Somebody may be exempt only because its fork was not seen.
            self.sweep(id);
            let Some(init) = self.inits.get_mut(&id) else { continue };
            let events = self.tools.files.read(&init.protect.path, "memory.events");
            let kills = events.as_deref().and_then(parse_oom_kill).unwrap_or_default();
            let action = init.shield.step(Seen::NoVictim(time, kills));
            self.act(id, Some(action));
        }
    }

    pub(super) fn sweep_all(&mut self) {
        for id in self.inits.keys().copied().collect::<Vec<_>>() {
            self.sweep(id);
        }
    }

    /// Gives all processes of a container but its init its own value back, if they are exempt.
    pub(super) fn sweep(&mut self, id: CgroupId) {
        let Some(init) = self.inits.get_mut(&id) else { return };
        let Some(own) = init.shield.own() else { return };
        if init.swept.is_some_and(|swept| swept.elapsed() < SWEEP_EVERY) {
            return;
        }
        init.swept = Some(Instant::now());
        let path = init.protect.path.clone();
        self.give_back_all(id, &path, own);
    }

    pub(super) fn give_back_all(&self, id: CgroupId, path: &CgroupPath, own: i16) {
        let containers = HashMap::from([(path, id)]);
        search::each(&self.tools.processes, &self.tools.paths, &containers, |_, process, _| {
            let is_init = |init: &Init| {
                let init = init.process.as_ref().filter(|_| init.shield.own().is_some());
                init.is_some_and(|init| init.pid() == process.pid())
            };
            if process.score() == Ok(EXEMPT) && !self.inits.values().any(is_init) {
                let result = give(&process, own);
                self.tools.listener.wrote(path, process.pid(), Written::GaveBack, &result);
            }
        });
    }
}
