//! Checks by the kernel's own counts whether every kill was reported, and keeps what the next agent
//! has to know for that.

use super::{Core, describe::Surroundings, state_writer::StateWriter};
use crate::{enforce::Counted, state::State};
use herder_model::{
    cgroup::CgroupId,
    clock::Monotonic,
    escalation::node::Raised,
    oom::{OomKill, reasons::Unseen},
    reconcile::Reconciler,
    saved::SavedCgroups,
    shield::SavedInits,
};
use std::{collections::VecDeque, time::Duration};
use tokio::time::timeout;

/// Cgroups that are counted again before anything else gets a turn; each takes some tens
/// of microseconds.
const RECOUNTED_AT_ONCE: usize = 8;

/// How long the last state may take to be saved.
const AT_THE_END: Duration = Duration::from_secs(1);

/// What the kernel has counted, beside what was reported.
pub(super) struct Audit {
    reconciler: Reconciler,
    /// What the node had counted before the source was attached, until that is compared.
    node_before: Option<u64>,
    pub(super) writer: StateWriter,
    /// Cgroups whose kills are to be counted again, without eBPF.
    uncounted: VecDeque<CgroupId>,
}

impl Audit {
    pub(super) fn new(
        reported_within: Duration,
        node_before: Option<u64>,
        writer: StateWriter,
    ) -> Self {
        let reconciler = Reconciler::new(reported_within);
        Audit { reconciler, node_before, writer, uncounted: VecDeque::new() }
    }

    /// When counts are to be compared, or saved.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.reconciler.deadline().into_iter().chain(self.writer.deadline()).min()
    }

    /// When counts are to be compared.
    pub(super) fn reconciler_deadline(&self) -> Option<Monotonic> {
        self.reconciler.deadline()
    }

    /// Takes what the kernel has counted in a matched cgroup.
    pub(super) fn counted(&mut self, Counted { id, oom_kills }: Counted, now: Monotonic) {
        if self.reconciler.count(id) != Some(oom_kills) {
            self.writer.touch(now);
        }
        self.reconciler.read(id, oom_kills, now);
    }

    /// Takes what the kernel has counted of the node as a whole.
    pub(super) fn node_counted(&mut self, oom_kills: u64, now: Monotonic) {
        match self.node_before.take() {
            Some(before) => self.reconciler.begin_node(before, oom_kills, now),
            None => self.reconciler.read_node(oom_kills, now),
        }
    }

    /// Takes the victims of a kill that is being reported. The kernel may count the first victim of
    /// a group twice. A kill that was deduced from counts has as many victims as the counts say.
    pub(super) fn reported(
        &mut self,
        kill: &OomKill,
        around: &Surroundings<'_>,
        counts_groups_twice: bool,
        now: Monotonic,
    ) {
        for (number, victim) in kill.victims.iter().enumerate() {
            let twice = number == 0 && kill.group != Some(false) && counts_groups_twice;
            let is_counted = |id| self.reconciler.count(id).is_some();
            let id = around.counted_in(victim, is_counted);
            self.reconciler.reported(id, twice, victim.time, now);
        }
        self.writer.touch(now);
    }

    /// The cgroup was removed, or is matched no more.
    pub(super) fn removed(&mut self, id: CgroupId) {
        self.reconciler.removed(id);
    }

    /// Compares the counts that are due. Returns how many processes of which cgroups were killed
    /// and not reported, and why.
    pub(super) fn settle(&mut self, now: Monotonic) -> Vec<(Unseen, Option<CgroupId>, u64)> {
        let mut unseen = Vec::new();
        let unheard = self.reconciler.settle_starting(now);
        if unheard > 0 {
            unseen.push((Unseen::AgentDown, None, unheard));
        }
        let missed = self.reconciler.settle(now);
        unseen.extend(missed.into_iter().map(|(id, missed)| (Unseen::Missed, id, missed)));
        if !unseen.is_empty() {
            self.writer.touch(now);
        }
        unseen
    }

    /// Whether [`Core::recount_some`] has something to do.
    pub(super) fn recounts(&self) -> bool {
        !self.uncounted.is_empty()
    }

    /// What the next agent has to know.
    fn state(&self, begins_at: CgroupId, mut cgroups: SavedCgroups, inits: SavedInits) -> State {
        for (id, saved) in &mut cgroups {
            // Else it is under no rule yet, and has what was counted for it before.
            saved.oom_kills = self.reconciler.accounted(*id).or(saved.oom_kills);
        }
        State { begins_at, oom_kills: self.reconciler.node_accounted(), cgroups, inits }
    }
}

impl Core {
    /// Reads what the kernel counted of the node as a whole.
    pub(super) fn count_node(&mut self) {
        if let Some(oom_kills) = self.files.node_kills(self.cgroups.begins_at) {
            self.audit.node_counted(oom_kills, self.clock.now());
        }
    }

    /// Compares the counts that are due.
    pub(super) fn settle_counts(&mut self, now: Monotonic) {
        for (why, id, processes) in self.audit.settle(now) {
            if id.is_none() {
                self.enforcer.doubt_left_counts();
            }
            let path = id.and_then(|id| self.cgroups.tree.path(id));
            self.reporter.unseen(why, path, processes);
        }
    }

    /// The safety net without eBPF: what could not be watched before is watched, and all counts
    /// are read, some at a time ([`Self::recount_some`]).
    pub(super) fn recount(&mut self) {
        if self.source.only_counts() {
            self.audit.uncounted = self.cgroups.tree.living().map(|(id, _)| id).collect();
        }
    }

    /// Counts some cgroups again: thousands at once would keep corrections waiting.
    pub(super) fn recount_some(&mut self) {
        for _ in 0..RECOUNTED_AT_ONCE {
            let Some(id) = self.audit.uncounted.pop_front() else { return };
            if let Some(path) = self.cgroups.living(id).cloned() {
                self.count_cgroup(id, &path, self.cgroups.existed(id));
            }
        }
    }

    /// Saves what is to be left to the next agent.
    pub(super) fn save_state(&mut self) {
        self.count_node();
        let mut left = self.enforcer.leaves();
        for (id, saved) in &mut left {
            // Before it has a name, it may be under another rule than the one that raised it.
            let raised = self.escalations.saved(*id);
            // In a dry run only what an earlier agent has raised is.
            let is_only_wanted =
                self.enforcer.is_dry_run() && self.enforcer.value(*id) == Some(false);
            if let Some(Raised { rule, last }) = raised.filter(|_| !is_only_wanted) {
                (saved.rule, saved.escalated) = (Some(rule), Some(last));
            }
        }
        let inits = self.shields.begin_saving();
        let state = self.audit.state(self.cgroups.begins_at, left, inits);
        self.audit.writer.save(state);
    }

    /// Saves the last state, unless the disk is too slow.
    pub(super) async fn save_last_state(&mut self) {
        let all = async {
            if self.audit.writer.is_saving() {
                self.audit.writer.saved().await;
            }
            if self.audit.writer.has_file() {
                self.save_state();
                self.audit.writer.saved().await;
            }
        };
        if timeout(AT_THE_END, all).await.is_err() {
            tracing::warn!("The last state was not saved in time.");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else a node would show again, at each start, what the agent before it has counted.
    #[test]
    fn what_was_not_seen_is_counted_once_and_left_to_the_next_agent() {
        let id = CgroupId(3);
        let (start, within) = (Monotonic(1_000), Duration::from_secs(5));
        let writer = StateWriter::new(None, start);
        let mut audit = Audit::new(within, Some(10), writer);
        audit.node_counted(12, start);
        audit.counted(Counted { id, oom_kills: 4 }, start);
        assert_eq!(audit.settle(start), []);
        audit.counted(Counted { id, oom_kills: 6 }, start);
        assert_eq!(audit.deadline(), Some(start + within));
        assert_eq!(audit.settle(start + within), [(Unseen::Missed, Some(id), 2)]);
        let end = start + within * 2;
        assert_eq!(audit.settle(end), [(Unseen::AgentDown, None, 2)]);
        assert_eq!(audit.settle(end), []);
        let saved = herder_model::saved::SavedCgroup {
            path: None,
            oom_kills: None,
            original_value: Some(true),
            rule: None,
            escalated: None,
        };
        let state = audit.state(id, SavedCgroups::from([(id, saved)]), SavedInits::new());
        assert_eq!(state.cgroups[&id].oom_kills, Some(6));
        assert_eq!(state.cgroups[&id].original_value, Some(true));
    }
}
