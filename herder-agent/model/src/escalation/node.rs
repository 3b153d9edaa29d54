//! The escalations of all containers of a node, and how many restarts it bears.
//!
//! A rule that matches too much, or a program that fails everywhere at once, must not take a node
//! down. So restarts are made one at a time with a pause between them, in the order in which they
//! fell due. One that has to wait is tried again as long as its container is not quiet.
//!
//! At most one entry for each matched container, with at most [`super::MOST_AFTER`] moments.

use super::{
    Escalate,
    container::{Action, Escalation, Phase, Seen},
};
use crate::{
    cgroup::{CgroupId, CgroupPath},
    clock::Monotonic,
};
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};

/// A container under a rule that escalates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its own cgroup, the outermost.
    pub id: CgroupId,
    /// Where that is.
    pub path: CgroupPath,
    /// The rule.
    pub rule: Arc<str>,
    /// What the rule asks for.
    pub escalate: Escalate,
}

/// What is to be done, or has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Want 1 in place of the rule's value; perhaps in place of a restart.
    Group {
        /// The rule asks for a restart, and the kernel has none.
        instead: bool,
    },
    /// Kill all of its processes. The budget has been charged.
    Restart,
    /// The restart has to wait for the budget.
    PutOff,
    /// The restart is not due any more.
    Lapsed,
    /// The rule's value again.
    Back,
}

/// Something to do about a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Which.
    pub of: Subject,
    /// What.
    pub what: What,
}

/// Whether what was ordered is still wanted: it is not once its container is gone, is under another
/// rule, or the agent has ended. For the thread that writes, right before it writes.
#[derive(Clone, Debug)]
pub struct Lease(Weak<()>);

impl Lease {
    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.0.strong_count() > 0
    }
}

#[derive(Debug)]
struct Entry {
    subject: Subject,
    escalation: Escalation,
    /// When it is in [`Escalations::quiet`].
    quiet_at: Option<Monotonic>,
    lease: Arc<()>,
}

/// All containers that have lost a process lately.
#[derive(Debug)]
pub struct Escalations {
    entries: HashMap<CgroupId, Entry>,
    /// When each was quiet for long enough.
    quiet: BTreeSet<(Monotonic, CgroupId)>,
    /// Those whose restart has to wait, the longest first.
    waiting: VecDeque<CgroupId>,
    /// Those that want 1 in place of their rule's value.
    raised: HashMap<CgroupPath, CgroupId>,
    /// The restart that is being written.
    writing: Option<CgroupId>,
    /// The pause between two restarts, and when it is over.
    pause: Duration,
    next: Monotonic,
}

impl Escalations {
    /// With this pause between two restarts.
    pub fn new(pause: Duration) -> Self {
        Escalations {
            entries: HashMap::new(),
            quiet: BTreeSet::new(),
            waiting: VecDeque::new(),
            raised: HashMap::new(),
            writing: None,
            pause,
            next: Monotonic::ZERO,
        }
    }

    /// When [`Self::due`] has something to do.
    pub fn deadline(&self) -> Option<Monotonic> {
        let quiet = self.quiet.first().map(|(at, _)| *at);
        let restart = (!self.waiting.is_empty() && self.writing.is_none()).then_some(self.next);
        quiet.into_iter().chain(restart).min()
    }

    /// The kernel killed one process of a container at this time. `can_restart` says whether its
    /// cgroup has a `cgroup.kill`.
    pub fn kill(
        &mut self,
        of: Subject,
        at: Monotonic,
        can_restart: bool,
        now: Monotonic,
    ) -> Option<Order> {
        let id = of.id;
        if self.entries.get(&id).is_some_and(|entry| entry.subject != of) {
            self.forget(id);
        }
        let entry = self.entries.entry(id).or_insert_with(|| Entry::new(of, Escalation::new));
        let action = entry.escalation.step(Seen::Kill { at, can_restart });
        self.follow(id, action, now)
    }

    /// The kernel killed the container's init, or all of it.
    pub fn ended(&mut self, id: CgroupId, now: Monotonic) -> Option<Order> {
        self.step(id, Seen::Ended, now)
    }

    /// What is due by now.
    pub fn due(&mut self, now: Monotonic) -> Vec<Order> {
        let mut orders = Vec::new();
        while let Some((at, id)) = self.quiet.first().copied()
            && at <= now
        {
            self.quiet.pop_first();
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.quiet_at = None;
            }
            orders.extend(self.step(id, Seen::Time(now), now));
            if self.entries.get(&id).is_some_and(|entry| entry.escalation.kills() == 0) {
                self.forget(id);
            }
        }
        while self.may_restart(now)
            && let Some(id) = self.waiting.pop_front()
        {
            orders.extend(self.start(id, now));
        }
        orders
    }

    /// The restart of this container is over.
    pub fn written(&mut self, id: CgroupId, seen: Seen, now: Monotonic) {
        if self.writing == Some(id) {
            self.writing = None;
        }
        // One that is forgotten meanwhile needs to know nothing.
        self.step(id, seen, now);
    }

    /// Nothing is done about it.
    pub fn refuse(&mut self, id: CgroupId, now: Monotonic) {
        self.written(id, Seen::Refused, now);
    }

    /// Its cgroup was removed, or no rule escalates it any more.
    pub fn forget(&mut self, id: CgroupId) {
        if let Some(entry) = self.entries.remove(&id) {
            entry.quiet_at.map(|at| self.quiet.remove(&(at, id)));
            self.waiting.retain(|waiting| *waiting != id);
            self.lower(&entry.subject.path, id);
        }
    }

    /// Whether 1 is wanted in place of the rule's value, of a cgroup that is under this rule now.
    /// `scope` is the scope around it, if crun has made it there: both are one container. What is
    /// known of another rule is forgotten.
    pub fn is_raised(
        &mut self,
        (id, path): (CgroupId, &CgroupPath),
        scope: Option<&CgroupPath>,
        rule: &Arc<str>,
        escalate: Option<Escalate>,
    ) -> bool {
        let is_other =
            |entry: &Entry| entry.subject.rule != *rule || Some(entry.subject.escalate) != escalate;
        if self.entries.get(&id).is_some_and(is_other) {
            self.forget(id);
        }
        let is_raised = match scope {
            Some(scope) => self.raised.contains_key(scope),
            None => self.raised.get(path) == Some(&id),
        };
        is_raised && escalate.is_some()
    }

    /// An earlier agent has set it to 1, and its last kill was at this time.
    pub fn resume(&mut self, of: Subject, last: Monotonic, now: Monotonic) {
        if now.saturating_duration_since(last) >= of.escalate.within() {
            return;
        }
        let id = of.id;
        self.raised.insert(of.path.clone(), id);
        self.entries.insert(id, Entry::new(of, |escalate| Escalation::raised(escalate, last)));
        self.follow(id, Action::None, now);
    }

    /// The last kill of a container that is set to 1, for the next agent.
    pub fn saved(&self, id: CgroupId) -> Option<Monotonic> {
        let escalation = &self.entries.get(&id)?.escalation;
        escalation.last().filter(|_| escalation.phase() == Phase::Group)
    }

    /// How far a container is, and how many kills count now.
    pub fn shown(&self, id: CgroupId) -> (Phase, usize) {
        let entry = self.entries.get(&id).map(|entry| &entry.escalation);
        entry.map_or((Phase::Counting, 0), |it| (it.phase(), it.kills()))
    }

    /// For the thread that writes a container's restart.
    pub fn lease(&self, id: CgroupId) -> Option<Lease> {
        Some(Lease(Arc::downgrade(&self.entries.get(&id)?.lease)))
    }

    fn may_restart(&self, now: Monotonic) -> bool {
        self.writing.is_none() && self.next <= now
    }

    fn step(&mut self, id: CgroupId, seen: Seen, now: Monotonic) -> Option<Order> {
        let action = self.entries.get_mut(&id)?.escalation.step(seen);
        self.follow(id, action, now)
    }

    fn start(&mut self, id: CgroupId, now: Monotonic) -> Option<Order> {
        let entry = self.entries.get_mut(&id)?;
        if entry.escalation.phase() != Phase::Due {
            return None;
        }
        (self.writing, self.next) = (Some(id), now + self.pause);
        entry.escalation.step(Seen::Started);
        let of = entry.subject.clone();
        self.note_quiet(id);
        Some(Order { of, what: What::Restart })
    }

    fn follow(&mut self, id: CgroupId, action: Action, now: Monotonic) -> Option<Order> {
        self.note_quiet(id);
        let of = self.entries.get(&id)?.subject.clone();
        let what = match action {
            Action::None => return None,
            Action::Group { instead } => {
                self.raised.insert(of.path.clone(), id);
                What::Group { instead }
            }
            Action::Restart if self.waiting.is_empty() && self.may_restart(now) => {
                return self.start(id, now);
            }
            Action::Restart => {
                // One that has waited before, and ended by itself, may still be in it.
                self.waiting.retain(|waiting| *waiting != id);
                self.waiting.push_back(id);
                What::PutOff
            }
            Action::Back => {
                self.lower(&of.path, id);
                What::Back
            }
            Action::Lapse => {
                self.waiting.retain(|waiting| *waiting != id);
                What::Lapsed
            }
        };
        Some(Order { of, what })
    }

    /// What is being written has no end that could be waited for.
    fn note_quiet(&mut self, id: CgroupId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let is_written = entry.escalation.phase() == Phase::Restarting;
        let quiet_at = entry.escalation.quiet_at().filter(|_| !is_written);
        if entry.quiet_at != quiet_at {
            entry.quiet_at.map(|at| self.quiet.remove(&(at, id)));
            self.quiet.extend(quiet_at.map(|at| (at, id)));
            entry.quiet_at = quiet_at;
        }
    }

    fn lower(&mut self, path: &CgroupPath, id: CgroupId) {
        if self.raised.get(path) == Some(&id) {
            self.raised.remove(path);
        }
    }
}

impl Entry {
    fn new(subject: Subject, escalation: impl FnOnce(Escalate) -> Escalation) -> Self {
        let escalation = escalation(subject.escalate);
        Entry { subject, escalation, quiet_at: None, lease: Arc::new(()) }
    }
}

#[cfg(test)]
mod tests;
