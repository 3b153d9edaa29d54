//! Kills that are under way: their marks are put together, their losses counted once, their names
//! and their containers' fates waited for.

use super::{
    Core, arguments, describe::Surroundings, fates::Fates, losses::Losses, scene::Scenes,
    waiting::Waiting,
};
use crate::kernel::source::Queue;
use herder_agent_ebpf::Loss;
use herder_model::{
    cgroup::CgroupPath,
    clock::Monotonic,
    kill::KillReport,
    oom::{
        Kind, OomKill,
        assemble::{Assembler, Outcome},
        event::{Event, Lineage, Traced},
        exiting::Exiting,
        levels::Levels,
        over_limit::OverLimit,
        reasons::{Lost, NoKill, Unattributed},
    },
};
use std::collections::HashSet;

/// All that a kill goes through until nothing more becomes known of it.
pub(super) struct Kills {
    pub(super) assembler: Assembler,
    losses: Losses,
    pub(super) waiting: Waiting,
    pub(super) fates: Fates,
    pub(super) scenes: Scenes,
    pub(super) arguments: arguments::Waiting,
    /// The latest victims.
    exiting: Exiting,
    /// Where no program can say whose limit was hit.
    pub(super) over_limit: Option<OverLimit>,
    /// What belongs to the next mark.
    pub(super) levels: Option<Levels>,
}

impl Kills {
    pub(super) fn new(traced: Traced, is_blind: bool) -> Self {
        Kills {
            assembler: Assembler::new(traced),
            losses: Losses::default(),
            waiting: Waiting::default(),
            fates: Fates::default(),
            scenes: Scenes::default(),
            arguments: arguments::Waiting::default(),
            exiting: Exiting::default(),
            over_limit: is_blind.then(OverLimit::default),
            levels: None,
        }
    }

    /// When a part of a kill, its name, or its container's fate was waited for long enough.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        let parts = [self.assembler.deadline(), self.waiting.deadline(), self.fates.deadline()];
        parts.into_iter().flatten().min()
    }

    /// How many victims were still exiting when the kernel chose an init
    /// ([`KillReport::exiting`]).
    fn exiting(&mut self, report: &KillReport, container: &CgroupPath) -> usize {
        let init = report.kill.victims.first().filter(|_| report.kind == Kind::Init);
        let count = init.map_or(0, |init| self.exiting.beside(init, container));
        self.exiting.add(&report.kill, container);
        count
    }

    /// Takes what the programs have lost, and gives what is to be counted.
    fn lost(&mut self, new: &[(Loss, u64)], now: Monotonic) -> Vec<(Lost, u64)> {
        let lost = self.losses.settle(new);
        if self.losses.take_ends() {
            self.assembler.records_lost(now);
        }
        lost
    }
}

impl Core {
    /// Takes what the kernel has reported about victims, and what is settled until then.
    pub(super) fn take_kills(&mut self, until: Monotonic) {
        let polled = self.poll(Queue::Kills { until });
        // A victim's cgroup was made before the victim died. So once the kill is read, the other
        // ring buffer has the cgroup's path already.
        self.take_cgroups();
        self.take_arguments(polled.arguments, polled.arguments_lost);
        if !polled.events.is_empty() || !polled.kills.is_empty() {
            self.take_events(polled.events, polled.kills);
        }
        self.drop_arguments();
    }

    fn take_events(&mut self, events: Vec<Event>, kills: Vec<OomKill>) {
        let now = self.clock.now();
        for event in events {
            match event {
                Event::Marked(mark) => {
                    self.kills.assembler.marked(mark.clone(), now);
                    self.infer(&mark);
                }
                Event::Decided(decision) => self.kills.assembler.decided(decision, now),
                Event::Exited { tgid, after } => {
                    self.report_kills();
                    // A task that was dying anyway has been marked, but not killed.
                    if self.kills.assembler.has_killed(tgid) {
                        self.reporter.victim_exited(tgid, after);
                    }
                }
                Event::Candidates(candidates) => {
                    self.kills.assembler.chose_between(candidates, now);
                }
                Event::Lineage(Lineage { cgroup, above }) => {
                    self.cgroups.tree.lies_below(cgroup, &above);
                }
                Event::Levels(levels) => self.take_levels(levels),
                Event::CgroupMade(_) | Event::CgroupRemoved(_) | Event::CgroupOutside => {}
            }
        }
        self.report_kills();
        for kill in kills {
            self.report_kill(kill);
        }
        self.count_losses();
    }

    /// Gives up waiting for parts of kills that are overdue.
    pub(super) fn expire_kills(&mut self, now: Monotonic) {
        self.kills.assembler.expire(now);
        self.report_kills();
        self.count_losses();
    }

    fn report_kills(&mut self) {
        for outcome in self.kills.assembler.outcomes() {
            match outcome {
                Outcome::Kill(kill) => {
                    let kill = self.of_this_node(kill);
                    self.report_kill(kill);
                }
                Outcome::NoKill(reason, victim) => {
                    self.reporter.no_kill(reason, victim.tgid, victim.tid);
                }
                Outcome::Missing(victims) => self.kills.losses.missing(victims),
            }
        }
    }

    /// A kill without those of its victims that the mount does not show.
    fn of_this_node(&self, mut kill: OomKill) -> OomKill {
        for victim in kill.victims.extract_if(.., |victim| victim.is_outside) {
            self.reporter.no_kill(NoKill::OutsideMount, victim.tgid, victim.tid);
        }
        kill
    }

    fn report_kill(&mut self, kill: OomKill) {
        if kill.victims.is_empty() {
            return;
        }
        let around =
            Surroundings { cgroups: &self.cgroups, subjects: &self.subjects, files: &self.files };
        let counts_groups_twice = !self.source.only_counts();
        self.audit.reported(&kill, &around, counts_groups_twice, self.clock.now());
        let counted_in = |victim| around.counted_in(victim, |id| self.enforcer.is_left(id));
        let counted: HashSet<_> = kill.victims.iter().map(counted_in).collect();
        counted.into_iter().for_each(|id| self.enforcer.count_left(id));
        let Some(mut report) = around.report(kill) else { return };
        if let Some(cgroup) = &report.cgroup {
            let container = self.subjects.container_of(cgroup);
            report.exiting = self.kills.exiting(&report, &container);
        }
        if report.cgroup.is_none() {
            self.reporter.unattributed(Unattributed::UnknownCgroup);
        }
        self.begin_scene(&mut report);
        // After the report, so that log and journal have the kill before what follows from it.
        let loss = self.loss(&report);
        self.report_when_named(report);
        loss.into_iter().for_each(|loss| self.escalate(loss));
    }

    /// Counts what was lost on the way.
    pub(super) fn count_losses(&mut self) {
        let new = self.source.losses();
        for (lost, times) in self.kills.lost(&new, self.clock.now()) {
            self.reporter.lost(lost, times);
        }
        if self.kills.losses.take_unseen_cgroups() {
            self.cgroups.unseen();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use herder_model::oom::Domain;
    use herder_model::oom::event::Decision;
    use std::time::Duration;

    fn end(decision: u64, marks: u32) -> Decision {
        Decision {
            decision,
            domain: Domain::Node,
            group: false,
            group_cgroup: None,
            kills: marks,
            marks,
        }
    }

    #[test]
    fn a_lost_end_shortens_what_is_waited_for() {
        let now = Monotonic(9);
        let mut kills = Kills::new(Traced { at_exit: true, ..Traced::default() }, false);
        kills.assembler.decided(end(5, 1), now);
        let long = kills.deadline().unwrap();
        kills.lost(&[(Loss::ExitRingFull, 1)], now);
        assert_eq!(kills.deadline(), Some(long));
        kills.lost(&[(Loss::DecisionRingFull, 1)], now);
        assert_eq!(kills.deadline(), Some(now + Duration::from_secs(1)));
        assert!(long > now + Duration::from_secs(1));
    }
}
