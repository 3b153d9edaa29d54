//! Whether all kills were told, by the kernel's own counts, and what the next agent
//! has to know for that.

use super::Core;
use crate::{
    cgroup::CgroupId,
    enforce::Counted,
    oom::OomKill,
    probe::monotonic_now,
    report::Unseen,
    state::{State, StateError, StateFile},
};
use std::time::Duration;
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, timeout},
};

/// How long after a change the state is saved.
const SOON: Duration = Duration::from_millis(500);

/// How long the last state may take to be saved.
const AT_THE_END: Duration = Duration::from_secs(1);

/// The state file, and what is yet to be written to it.
#[derive(Debug)]
pub struct Leaving {
    file: Option<StateFile>,
    changed: Option<Instant>,
    saving: Option<JoinHandle<Result<(), StateError>>>,
}

impl Leaving {
    /// Without a file nothing is left.
    pub fn new(file: Option<StateFile>) -> Self {
        Leaving { file, changed: None, saving: None }
    }

    fn touch(&mut self) {
        if self.file.is_some() {
            self.changed.get_or_insert_with(Instant::now);
        }
    }

    /// When the state is to be saved.
    pub(super) fn due(&self) -> Option<Instant> {
        self.changed.filter(|_| self.saving.is_none()).map(|changed| changed + SOON)
    }

    /// Saves in the background: a disk may be slow.
    fn save(&mut self, state: State) {
        self.changed = None;
        self.saving = self.file.clone().map(|file| spawn_blocking(move || file.save(&state)));
    }

    /// Waits until the state is saved; for ever if it is not being saved.
    pub(super) async fn saved(&mut self) {
        let Some(saving) = &mut self.saving else { return std::future::pending().await };
        let result = saving.await;
        self.saving = None;
        if let Ok(Err(error)) = result {
            tracing::warn!(%error, "Cannot leave the state to the next agent.");
        }
    }
}

impl Core {
    /// Takes what the kernel counted.
    pub(super) fn take_counts(&mut self) {
        if self.enforcer.take_leaves_changed() {
            self.leaving.touch();
        }
        let counted = self.enforcer.take_counted();
        if counted.is_empty() {
            return;
        }
        let now = monotonic_now();
        for Counted { id, oom_kills, earlier } in counted {
            if self.reconciler.count(id) != Some(oom_kills) {
                self.leaving.touch();
            }
            let meanwhile = self.reconciler.read(id, oom_kills, earlier, now);
            if meanwhile > 0 {
                self.tell_unseen(Unseen::AgentDown, id, meanwhile);
            }
        }
    }

    /// The victims of a kill that is being told.
    pub(super) fn count_told(&mut self, kill: &OomKill) {
        let now = monotonic_now();
        for (number, victim) in kill.victims.iter().enumerate() {
            let twice = number == 0 && kill.group != Some(false);
            self.reconciler.told(victim.cgroup, 1, twice, now);
        }
    }

    /// Compares the counts that are due.
    pub(super) fn settle_counts(&mut self) {
        for (id, processes) in self.reconciler.settle(monotonic_now()) {
            self.tell_unseen(Unseen::Missed, id, processes);
        }
    }

    fn tell_unseen(&self, reason: Unseen, id: CgroupId, processes: u64) {
        let path = self.tree.path(id);
        self.reporter.unseen(reason, path, processes);
    }

    /// Saves what is to be left to the next agent.
    pub(super) fn save_state(&mut self) {
        let mut state = self.enforcer.leaves();
        for (id, left) in &mut state {
            left.oom_kills = self.reconciler.count(*id).or(left.oom_kills);
        }
        self.leaving.save(state);
    }

    /// Saves the last state, unless the disk is too slow.
    pub(super) async fn save_last_state(&mut self) {
        let all = async {
            if self.leaving.saving.is_some() {
                self.leaving.saved().await;
            }
            if self.leaving.file.is_some() {
                self.save_state();
                self.leaving.saved().await;
            }
        };
        if timeout(AT_THE_END, all).await.is_err() {
            tracing::warn!("The last state was not saved in time.");
        }
    }
}
