//! From marks to kills: one [`OomKill`] for one decision of the kernel.
//!
//! A mark is not a kill. One kill may mark many processes (a group), several
//! threads of one process, or one process twice; and a mark may be no kill at
//! all, when the task was dying anyway (`task_will_free_mem()`, mm/oom_kill.c;
//! common since Linux 6.16). Where the calls of `oom_kill_process()` are traced,
//! all of this is told by the kernel. Where they are not, marks that one trigger
//! makes within [`INFERENCE_WINDOW`] are taken for one decision.

use super::{Domain, OomKill, Trigger, Victim};
use crate::{
    probe::{Decision, Mark, Traced},
    report::NoKill,
};
use std::collections::{BTreeMap, HashMap};

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// A mark without a decision is still a kill if it comes this soon after the
/// programs were attached: its decision may have begun before.
const START_GRACE: u64 = SECOND / 20;

/// Marks of one trigger that are closer together than this are one decision, if
/// decisions are not traced. All marks of a group kill are made in one loop.
pub const INFERENCE_WINDOW: u64 = SECOND / 5;

/// How long a decision waits for victims that are described at their exit.
pub const EXIT_WAIT: u64 = 10 * SECOND;

/// How long a decision whose end does not come is kept: its end was lost.
const END_WAIT: u64 = 2 * SECOND;

/// How long a killed process is remembered, so that a late mark of another of
/// its threads is known to be a repetition. Process ids are reused much later,
/// and the start time tells such a process apart.
const REMEMBER: u64 = 30 * SECOND;

/// What came of the marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A kill, complete.
    Kill(OomKill),
    /// A mark that is no kill of its own.
    NoKill(NoKill, Victim),
    /// A decision killed, but so many of its victims' records never came.
    Missing(u32),
}

/// Puts marks and decisions together. Owned by one task; does no IO and takes
/// the time from its caller, as `CLOCK_MONOTONIC` nanoseconds.
#[derive(Debug)]
pub struct Assembler {
    traced: Traced,
    decided: BTreeMap<u64, Open>,
    inferred: HashMap<u32, Open>,
    killed: HashMap<(u32, u64), u64>,
    outcomes: Vec<Outcome>,
}

#[derive(Debug)]
struct Open {
    victims: Vec<Victim>,
    trigger: Option<Trigger>,
    seen: u32,
    end: Option<Decision>,
    deadline: u64,
}

impl Open {
    fn new(deadline: u64) -> Self {
        Open { victims: Vec::new(), trigger: None, seen: 0, end: None, deadline }
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

    /// Takes a mark.
    pub fn marked(&mut self, mark: Mark, now: u64) {
        let open = match mark.decision {
            Some(decision) => {
                let wait = if self.traced.at_exit { EXIT_WAIT } else { END_WAIT };
                self.decided.entry(decision).or_insert_with(|| Open::new(now + wait))
            }
            // Some grace: a decision may have begun before it was traced.
            None if self
                .traced
                .decisions_since
                .is_some_and(|since| mark.victim.time > since.saturating_add(START_GRACE)) =>
            {
                self.outcomes.push(Outcome::NoKill(NoKill::AlreadyDying, mark.victim));
                return;
            }
            None => {
                let open = self.inferred.entry(mark.trigger.tid).or_insert_with(|| Open::new(0));
                open.deadline = now + INFERENCE_WINDOW;
                open
            }
        };
        open.seen += 1;
        let process = (mark.victim.tgid, mark.victim.start_boottime);
        if mark.decision.is_some() && self.traced.kills && !mark.killed {
            self.outcomes.push(Outcome::NoKill(NoKill::AlreadyDying, mark.victim));
        } else if self.killed.insert(process, mark.victim.time).is_some() {
            self.outcomes.push(Outcome::NoKill(NoKill::Duplicate, mark.victim));
        } else {
            open.victims.push(mark.victim);
            open.trigger.get_or_insert(mark.trigger);
        }
        if let Some(decision) = mark.decision {
            self.settle(decision);
        }
    }

    /// Takes the end of a decision.
    pub fn decided(&mut self, end: Decision, now: u64) {
        let open = self.decided.entry(end.decision).or_insert_with(|| Open::new(0));
        open.deadline = now + EXIT_WAIT;
        open.end = Some(end);
        self.settle(end.decision);
    }

    /// Gives up waiting for what is overdue.
    pub fn expire(&mut self, now: u64) {
        while let Some(decision) = first_due(&self.decided, now) {
            self.close_decision(decision);
        }
        while let Some(trigger) = first_due(&self.inferred, now) {
            if let Some(open) = self.inferred.remove(&trigger) {
                self.close(open);
            }
        }
        self.killed.retain(|_, marked| now < marked.saturating_add(REMEMBER));
    }

    /// When [`Self::expire`] has something to do next.
    pub fn deadline(&self) -> Option<u64> {
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
        let several = open.victims.len() > 1;
        let group = match open.end {
            Some(end) if self.traced.groups => Some(end.group),
            _ => several.then_some(true),
        };
        let domain = open.end.map_or(Domain::Unknown, |end| end.domain);
        self.outcomes.push(Outcome::Kill(OomKill {
            victims: open.victims,
            trigger,
            domain,
            group,
        }));
    }
}

fn first_due<'a, K: Copy + 'a>(
    open: impl IntoIterator<Item = (&'a K, &'a Open)>,
    now: u64,
) -> Option<K> {
    open.into_iter().find(|(_, open)| open.deadline <= now).map(|(key, _)| *key)
}

#[cfg(test)]
mod tests;
