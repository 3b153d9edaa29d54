//! The arguments of victims: which of those that the programs read are kept.
//!
//! A kill waits for nothing: its victims may be delivered their signal a good while after the
//! decision, and their arguments are added to the kill then. It may also be the other way round, as
//! for a kill that waits for its name. Arguments of a container whose rule does not ask for them
//! are dropped as soon as that is known.

use super::{Core, describe::Surroundings, waiting};
use herder_model::{
    arguments::{Arguments, MOST, Missing, ProcessKey, VictimArguments},
    clock::Monotonic,
    kill::KillReport,
    oom::{Victim, assemble::EXIT_WAIT},
    rules::matching::Policy,
};
use std::{collections::VecDeque, time::Duration};

/// The arguments of so many processes wait for their kill: about what the programs' ring buffer
/// holds of usual ones, and at most 0.3 MiB.
const READ: usize = 1024;

/// So many processes wait for their arguments. The oldest goes.
const EXPECTED: usize = 256;

/// How long arguments wait for their kill.
const WAIT: Duration = Duration::from_secs(120);

// A kill may wait for the exits of its victims, and then for its name.
const _: () = assert!(WAIT.as_secs() > EXIT_WAIT.as_secs() + waiting::WAIT.as_secs());

/// How long a kill waits for arguments. A victim is delivered its signal when it next runs.
const DELIVERED_WITHIN: Duration = Duration::from_secs(20);

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// A rule asks for arguments.
    is_wanted: bool,
    /// And cannot have them.
    is_refused: bool,
    /// Read, and of no kill that was reported.
    read: VecDeque<VictimArguments>,
    /// Victims of reported kills.
    expected: VecDeque<(Monotonic, u64, ProcessKey)>,
}

impl Waiting {
    /// Takes what was read of a process.
    fn take(&mut self, of: ProcessKey) -> Option<VictimArguments> {
        let at = self.read.iter().position(|read| read.process == of)?;
        self.read.remove(at)
    }

    /// Takes the kill that waits for this process.
    fn take_expected(&mut self, of: ProcessKey) -> Option<(u64, ProcessKey)> {
        let at = self.expected.iter().position(|(_, _, expected)| *expected == of)?;
        let (_, kill, process) = self.expected.remove(at)?;
        Some((kill, process))
    }

    /// Drops what has waited for its kill long enough, or what there is too much of.
    ///
    /// That is what belongs to no victim that is known, and the oldest of it: any process can make
    /// the kernel kill others, and must not keep victims out. Then the newest victims, because of a
    /// kill the first are kept.
    fn drop_read(&mut self, now: Monotonic, is_victim: impl Fn(ProcessKey) -> bool) {
        while self.read.front().is_some_and(|it| is_over(it.time, WAIT, now)) {
            self.read.pop_front();
        }
        let mut too_many = self.read.len().saturating_sub(READ);
        self.read.retain(|read| {
            let goes = too_many > 0 && !is_victim(read.process);
            too_many -= usize::from(goes);
            !goes
        });
        self.read.truncate(READ);
    }

    /// Takes the victims that have waited for their arguments long enough, or that there are too
    /// many of.
    fn overdue(&mut self, now: Monotonic) -> Vec<(u64, ProcessKey)> {
        let mut overdue = Vec::new();
        while self.expected.len() > EXPECTED
            || self
                .expected
                .front()
                .is_some_and(|(since, ..)| is_over(*since, DELIVERED_WITHIN, now))
        {
            overdue.extend(self.expected.pop_front().map(|(_, kill, process)| (kill, process)));
        }
        overdue
    }
}

fn is_over(since: Monotonic, wait: Duration, now: Monotonic) -> bool {
    now.saturating_duration_since(since) > wait
}

fn known(read: Option<Arguments>) -> Result<Arguments, Missing> {
    read.ok_or(Missing::NotInMemory)
}

impl Core {
    /// Arguments are read as long as a rule asks for them. What is kept goes when its container may
    /// be under no such rule any more. Where the kernel has refused the programs, it is asked again:
    /// what was in their way may be gone.
    pub(super) fn ask_for_arguments(&mut self, before: Option<&Policy>) {
        let policy = &self.subjects.policy;
        if before.is_some_and(|before| !policy.still_asks(before)) {
            self.reporter.forget_arguments();
        }
        let waiting = &mut self.kills.arguments;
        let is_wanted = policy.reads_arguments();
        if is_wanted == waiting.is_wanted && !waiting.is_refused {
            return;
        }
        *waiting = Waiting { is_wanted, ..Waiting::default() };
        if let Err(error) = self.source.read_arguments(is_wanted) {
            waiting.is_refused = is_wanted;
            if is_wanted {
                tracing::warn!(%error, "The arguments of victims are not read.");
            } else {
                tracing::warn!(%error, "The programs that read the arguments of victims stay attached.");
            }
        }
    }

    /// Takes what the programs have read, and how often they had no room for it.
    pub(super) fn take_arguments(&mut self, read: Vec<VictimArguments>, lost: u64) {
        if lost > 0 {
            self.reporter.arguments_lost(lost);
        }
        let waiting = &mut self.kills.arguments;
        let is_wanted = waiting.is_wanted;
        for read in read.into_iter().filter(|_| is_wanted) {
            match waiting.take_expected(read.process) {
                Some((kill, process)) => {
                    self.reporter.arguments_known(kill, process, known(read.read));
                }
                None => waiting.read.push_back(read),
            }
        }
    }

    /// Drops what has waited too long, or what there is too much of: after the kills that were
    /// read together with it are reported, since these take theirs.
    pub(super) fn drop_arguments(&mut self) {
        let now = self.clock.now();
        let (waiting, assembler) = (&mut self.kills.arguments, &self.kills.assembler);
        waiting.drop_read(now, |process| assembler.has_killed(process.tgid));
        for (kill, process) in waiting.overdue(now) {
            self.reporter.arguments_known(kill, process, Err(Missing::NotSeen));
        }
    }

    /// Keeps the arguments of the victims whose rule asks for them, and drops those of others.
    pub(super) fn keep_arguments(&mut self, kill: u64, report: &KillReport) {
        if !self.kills.arguments.is_wanted {
            return;
        }
        let now = self.clock.now();
        let mut kept = Vec::new();
        let victims = report.kill.victims.iter().filter(|victim| victim.is_named());
        for (number, victim) in victims.enumerate() {
            let asks = number < MOST && self.asks_for_arguments(victim, report);
            let process = ProcessKey { tgid: victim.tgid, start_boottime: victim.start_boottime };
            let waiting = &mut self.kills.arguments;
            let read = waiting.take(process);
            if !asks {
                continue;
            }
            let known = match read {
                Some(read) => known(read.read),
                None if waiting.is_refused => Err(Missing::NotAttached),
                None => {
                    waiting.expected.push_back((now, kill, process));
                    Err(Missing::Waiting)
                }
            };
            kept.push((process, known));
        }
        if !kept.is_empty() {
            self.reporter.keep_arguments(kill, kept);
        }
    }

    /// Whether the rule that a victim's container is under asks for arguments: now, because the kill
    /// may have waited while the rules changed. A kill may take processes of several containers.
    fn asks_for_arguments(&self, victim: &Victim, report: &KillReport) -> bool {
        let around =
            Surroundings { cgroups: &self.cgroups, subjects: &self.subjects, files: &self.files };
        let first = report.kill.victims.first().map(|first| first.cgroup);
        let known = report.cgroup.clone().filter(|_| first == Some(victim.cgroup));
        let container = known.or_else(|| around.path(victim.cgroup));
        let container = container.map(|path| self.subjects.container_of(&path));
        let target = container.and_then(|path| self.subjects.wanted(&path));
        target.is_some_and(|target| self.subjects.policy.keeps_arguments(&target.rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tgid: u32) -> ProcessKey {
        ProcessKey { tgid, start_boottime: 7 }
    }

    fn read(tgid: u32, time: u64) -> VictimArguments {
        VictimArguments { time: Monotonic(time), process: key(tgid), read: None }
    }

    #[test]
    fn an_id_that_was_given_again_is_another_process() {
        let mut waiting = Waiting::default();
        waiting.read.push_back(read(5, 1));
        assert!(waiting.take(ProcessKey { tgid: 5, start_boottime: 8 }).is_none());
        // Of a victim of which that is not known they may be another's.
        assert!(waiting.take(ProcessKey { tgid: 5, start_boottime: 0 }).is_none());
        waiting.expected.push_back((Monotonic(1), 1, ProcessKey { tgid: 6, start_boottime: 0 }));
        assert!(waiting.take_expected(key(6)).is_none());
        assert!(waiting.take(key(5)).is_some() && waiting.take(key(5)).is_none());
    }

    #[test]
    fn nothing_waits_for_ever_nor_without_bound() {
        let (mut waiting, now) = (Waiting::default(), Monotonic(1_000));
        for tgid in 0..2000 {
            waiting.read.push_back(read(tgid, 1_000));
            waiting.expected.push_back((now, 1, key(tgid)));
        }
        assert_eq!(waiting.overdue(now).len(), 2000 - EXPECTED);
        waiting.drop_read(now, |_| false);
        assert_eq!((waiting.read.len(), waiting.expected.len()), (READ, EXPECTED));
        let later = now + WAIT + Duration::from_nanos(1);
        assert_eq!(waiting.overdue(later).len(), EXPECTED);
        waiting.drop_read(later, |_| true);
        assert!(waiting.read.is_empty());
    }

    /// What the kernel kills for other reasons takes no place of theirs.
    #[test]
    fn of_too_many_the_first_victims_stay() {
        let (mut waiting, now) = (Waiting::default(), Monotonic(1_000));
        let mut add = |from: u32, until: u32| {
            waiting.read.extend((from..until).map(|tgid| read(tgid, 1_000)));
            waiting.drop_read(now, |process| process.tgid >= 10_000);
        };
        add(0, 1500);
        add(10_000, 10_600);
        add(1500, 2500);
        add(10_600, 12_000);
        let tgids = waiting.read.iter().map(|read| read.process.tgid);
        assert!(tgids.eq((10_000..).take(READ)));
        // Without victims the newest stay.
        let mut waiting = Waiting::default();
        waiting.read.extend((0..1500).map(|tgid| read(tgid, 1_000)));
        waiting.drop_read(now, |_| false);
        assert!(waiting.take(key(0)).is_none() && waiting.take(key(1499)).is_some());
    }
}
