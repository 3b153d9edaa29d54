//! From marks to kills: one [`OomKill`] for one decision of the kernel.
//!
//! A mark is not a kill. One kill may mark many processes (a group), several
//! threads of one process, or one process twice; and a mark may be no kill at
//! all, when the task was dying anyway (`task_will_free_mem()`, mm/oom_kill.c;
//! common since Linux 6.16). Where the calls of `oom_kill_process()` are traced,
//! the kernel reports all of this. Where they are not, a signal before the mark
//! shows that it is a kill, a kill that is no group's has one victim, and marks that one
//! trigger makes within [`INFERENCE_WINDOW`] in one group are taken for one decision.

use super::{Domain, OomKill, Trigger, Victim, candidates::Candidates};
use crate::{
    clock::Monotonic,
    oom::{
        event::{Decision, Mark, Traced},
        levels::{Inferred, Levels},
        reasons::NoKill,
    },
};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

/// A mark without a decision, of the trigger itself or without a signal, is still a kill if it
/// comes this soon after the programs were attached: its decision may have begun before.
const START_GRACE: Duration = Duration::from_secs(1);

/// Marks of one trigger that are closer together than this are one decision, if
/// decisions are not traced. All marks of a group kill are made in one loop.
pub const INFERENCE_WINDOW: Duration = Duration::from_millis(200);

/// How long a decision waits for victims that are described at their exit, which
/// takes as long as their memory is large.
pub const EXIT_WAIT: Duration = Duration::from_secs(60);

/// How long a decision whose end does not come is kept after its last mark: its
/// end was lost, and no later decision has shown so. Long, because the kernel
/// writes a line to its console for each victim, and a console may be slow.
const END_WAIT: Duration = Duration::from_secs(30);

/// The same, if it is known that an end was lost.
const LOST_END_WAIT: Duration = Duration::from_secs(1);

/// How long a killed process is remembered, so that a late mark of another of
/// its threads is known to be a repetition, and its exit to be a victim's. Process
/// ids are reused much later, and the start time distinguishes such a process.
const REMEMBER: Duration = Duration::from_secs(60);

/// What came of the marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Kill(OomKill),
    /// A mark that is no kill of its own.
    NoKill(NoKill, Victim),
    /// A decision killed, but so many of its victims' records never came.
    Missing(u32),
}

/// Puts marks and decisions together. Owned by one task; does no IO and takes
/// the time from its caller.
#[derive(Debug)]
pub struct Assembler {
    traced: Traced,
    decided: BTreeMap<u64, Open>,
    inferred: HashMap<u32, Open>,
    killed: HashMap<u32, Killed>,
    outcomes: Vec<Outcome>,
}

#[derive(Debug)]
struct Open {
    victims: Vec<Victim>,
    trigger: Option<Trigger>,
    seen: u32,
    end: Option<Decision>,
    candidates: Option<Box<Candidates>>,
    /// What was inferred, if no end of a decision will say it.
    inferred: Option<Inferred>,
    last_mark: Monotonic,
    deadline: Monotonic,
}

#[derive(Debug)]
struct Killed {
    start_boottime: u64,
    marked: Monotonic,
    is_outside: bool,
}

impl Open {
    fn new() -> Self {
        Open {
            victims: Vec::new(),
            trigger: None,
            seen: 0,
            end: None,
            candidates: None,
            inferred: None,
            last_mark: Monotonic::ZERO,
            deadline: Monotonic::END,
        }
    }
}

impl Assembler {
    /// For programs of which these are attached.
    pub fn new(traced: Traced) -> Self {
        Assembler {
            traced,
            decided: BTreeMap::new(),
            inferred: HashMap::new(),
            killed: HashMap::new(),
            outcomes: Vec::new(),
        }
    }

    pub fn marked(&mut self, mark: Mark, now: Monotonic) {
        let decision = mark.decision;
        let no_kill = if self.is_of_the_dying(&mark) {
            Some(NoKill::AlreadyDying)
        } else if self.is_repeated(&mark.victim) {
            Some(NoKill::Duplicate)
        } else {
            None
        };
        // What is no kill still counts among the marks of its decision.
        if decision.is_some() || no_kill.is_none() {
            let open = self.open_for(&mark, now);
            open.seen += 1;
            open.last_mark = mark.victim.time;
            if no_kill.is_none() {
                open.victims.push(mark.victim.clone());
                open.trigger.get_or_insert(mark.trigger);
            }
        }
        match no_kill {
            Some(reason) => self.outcomes.push(Outcome::NoKill(reason, mark.victim)),
            None => {
                let Victim { tgid, start_boottime, time, is_outside, .. } = mark.victim;
                let killed = Killed { start_boottime, marked: time, is_outside };
                self.killed.insert(tgid, killed);
            }
        }
        if let Some(decision) = decision {
            self.settle(decision);
        }
    }

    /// Whether a process was killed a short while ago, so that its exit is that of a
    /// reported victim.
    pub fn has_killed(&self, tgid: u32) -> bool {
        self.killed.get(&tgid).is_some_and(|killed| !killed.is_outside)
    }

    /// Whether nothing is inferred yet of the kill that this thread has begun, and no record
    /// will say it.
    pub fn wants_inferred(&self, trigger: u32) -> bool {
        self.inferred.get(&trigger).is_some_and(|open| open.inferred.is_none())
    }

    /// Says what is inferred of it. A group's victims are marked one after the other; the first
    /// answer counts. What is no group is complete with its only victim.
    pub fn set_inferred(&mut self, trigger: u32, inferred: Inferred) {
        let Some(open) = self.inferred.get_mut(&trigger) else { return };
        if open.inferred.get_or_insert(inferred).group == Some(false)
            && let Some(open) = self.inferred.remove(&trigger)
        {
            self.close(open);
        }
    }

    /// The next victim of this thread is charged to these cgroups. The group that it has begun
    /// to kill is complete, if that is none of them.
    pub fn begins_within(&mut self, levels: &Levels) {
        let group = self.inferred.get(&levels.trigger).and_then(|open| open.inferred?.group_cgroup);
        if group.is_some_and(|group| !levels.are_within(group))
            && let Some(open) = self.inferred.remove(&levels.trigger)
        {
            self.close(open);
        }
    }

    fn is_repeated(&self, victim: &Victim) -> bool {
        // Without a start time only marks at the same moment are surely of one
        // process.
        self.killed.get(&victim.tgid).is_some_and(|killed| {
            killed.start_boottime == victim.start_boottime
                && (victim.start_boottime != 0
                    || victim.time.abs_diff(killed.marked) < INFERENCE_WINDOW)
        })
    }

    /// A task that was dying anyway is marked to let it use the reserves. Inside
    /// of a decision no signal is sent for it (`oom_kill_process()`); outside of
    /// one it is the trigger itself (`out_of_memory()`), and any other mark there
    /// is a kill whose decision was not seen to begin. Where decisions are not traced,
    /// the signal itself may be.
    fn is_of_the_dying(&self, mark: &Mark) -> bool {
        match (mark.decision, self.traced.decisions_since) {
            (Some(_), _) => self.traced.kills && !mark.killed,
            (None, Some(since)) => {
                mark.victim.tid == mark.trigger.tid && mark.victim.time > since + START_GRACE
            }
            (None, None) => self
                .traced
                .signals_since
                .is_some_and(|since| !mark.killed && mark.victim.time > since + START_GRACE),
        }
    }

    fn open_for(&mut self, mark: &Mark, now: Monotonic) -> &mut Open {
        let Some(decision) = mark.decision else {
            let trigger = mark.trigger.tid;
            // Another decision of the same trigger, although it comes so soon.
            let other = self
                .inferred
                .get(&trigger)
                .is_some_and(|open| mark.victim.time.abs_diff(open.last_mark) > INFERENCE_WINDOW);
            if other && let Some(open) = self.inferred.remove(&trigger) {
                self.close(open);
            }
            let open = self.inferred.entry(trigger).or_insert_with(Open::new);
            open.deadline = now + INFERENCE_WINDOW;
            return open;
        };
        self.close_before(decision);
        let wait = if self.traced.at_exit { EXIT_WAIT } else { END_WAIT };
        let open = self.decided.entry(decision).or_insert_with(Open::new);
        open.deadline = now + wait;
        open
    }

    /// `oom_lock` lets one decision run at a time, so what belongs to a later one
    /// shows that all before it have ended, whatever was lost of them. Victims
    /// that are described at their exit may still come.
    fn close_before(&mut self, decision: u64) {
        if self.traced.at_exit {
            return;
        }
        while let Some(earlier) = self.decided.keys().next().copied().filter(|it| *it < decision) {
            self.close_decision(earlier);
        }
    }

    pub fn decided(&mut self, end: Decision, now: Monotonic) {
        self.close_before(end.decision);
        let open = self.decided.entry(end.decision).or_insert_with(Open::new);
        open.deadline = now + EXIT_WAIT;
        open.end = Some(end);
        self.settle(end.decision);
    }

    /// Takes what a decision chose between, which comes right before its end.
    pub fn chose_between(&mut self, candidates: Box<Candidates>, now: Monotonic) {
        let decision = candidates.decision;
        self.close_before(decision);
        let open = self.decided.entry(decision).or_insert_with(Open::new);
        open.deadline = open.deadline.min(now + EXIT_WAIT);
        open.candidates = Some(candidates);
    }

    /// The end of some decision was lost, or a victim: what is missing of those
    /// that are open is not waited for much longer.
    pub fn records_lost(&mut self, now: Monotonic) {
        for open in self.decided.values_mut() {
            open.deadline = open.deadline.min(now + LOST_END_WAIT);
        }
    }

    /// Gives up waiting for what is overdue.
    pub fn expire(&mut self, now: Monotonic) {
        while let Some(decision) = first_due(&self.decided, now) {
            self.close_decision(decision);
        }
        while let Some(trigger) = first_due(&self.inferred, now) {
            if let Some(open) = self.inferred.remove(&trigger) {
                self.close(open);
            }
        }
        self.killed.retain(|_, killed| now < killed.marked + REMEMBER);
    }

    /// When [`Self::expire`] has something to do next.
    pub fn deadline(&self) -> Option<Monotonic> {
        self.decided.values().chain(self.inferred.values()).map(|open| open.deadline).min()
    }

    /// What has been found out since the last call.
    pub fn outcomes(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.outcomes)
    }

    /// Ends a decision when its end is known and no victim can follow. The ring
    /// buffer keeps the order, so victims come before the end unless they are
    /// described at their exit.
    fn settle(&mut self, decision: u64) {
        let Some(open) = self.decided.get(&decision) else {
            return;
        };
        let Some(end) = open.end else { return };
        if !self.traced.at_exit || open.seen >= end.marks {
            self.close_decision(decision);
        }
    }

    fn close_decision(&mut self, decision: u64) {
        if let Some(open) = self.decided.remove(&decision) {
            self.close(open);
        }
    }

    fn close(&mut self, open: Open) {
        let expected = open
            .end
            .map_or(0, |end| if end.kills == 0 && self.traced.kills { 0 } else { end.marks });
        if expected > open.seen {
            self.outcomes.push(Outcome::Missing(expected - open.seen));
        }
        let Some(trigger) = open.trigger else { return };
        let end = open.end.filter(|_| self.traced.groups);
        let inferred = open.inferred.filter(|_| open.end.is_none());
        let domain = open.end.map(|end| end.domain).or(inferred.map(|it| it.domain));
        self.outcomes.push(Outcome::Kill(OomKill {
            victims: open.victims,
            trigger: Some(trigger),
            domain: domain.unwrap_or(Domain::Unknown),
            group: end.map(|end| end.group).or(inferred.and_then(|it| it.group)),
            group_cgroup: end.map_or(inferred.and_then(|it| it.group_cgroup), |it| it.group_cgroup),
            ended: None,
            candidates: open.candidates,
        }));
    }
}

fn first_due<'a, K: Copy + 'a>(
    open: impl IntoIterator<Item = (&'a K, &'a Open)>,
    now: Monotonic,
) -> Option<K> {
    open.into_iter().find(|(_, open)| open.deadline <= now).map(|(key, _)| *key)
}

#[cfg(test)]
mod tests;
