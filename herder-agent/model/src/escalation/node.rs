//! The escalations of all containers of a node, and how many restarts it bears.
//!
//! A rule that matches too much, or a program that fails everywhere at once, must not take a node
//! down. So restarts are made one at a time with a pause between them, in the order in which they
//! fell due. One that has to wait is tried again as long as its container is not quiet.
//!
//! One entry for each container under a rule that escalates, with at most [`super::MOST_AFTER`]
//! moments as long as it is not quiet.

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
    pub path: CgroupPath,
    pub rule: Arc<str>,
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
    pub of: Subject,
    pub what: What,
}

/// Whether what was ordered is still wanted: it is not once its container has ended or is gone, is
/// under another rule, or the agent has ended. For the thread that writes, right before it writes.
#[derive(Clone, Debug)]
pub struct Lease(Weak<()>);

impl Lease {
    pub fn holds(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Whether it was given for what this entry is about now.
    fn is_of(&self, entry: &Entry) -> bool {
        self.0.ptr_eq(&Arc::downgrade(&entry.lease))
    }
}

/// What an earlier agent has set to 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    pub rule: Arc<str>,
    pub last: Monotonic,
}

#[derive(Debug)]
struct Entry {
    subject: Subject,
    escalation: Escalation,
    /// When it is in [`Escalations::quiet`].
    quiet_at: Option<Monotonic>,
    lease: Arc<()>,
}

/// All containers under a rule that escalates.
#[derive(Debug)]
pub struct Escalations {
    entries: HashMap<CgroupId, Entry>,
    /// When each was quiet for long enough.
    quiet: BTreeSet<(Monotonic, CgroupId)>,
    /// Those whose restart has to wait, the longest first.
    waiting: VecDeque<CgroupId>,
    /// Those that an earlier agent has set to 1, until it is known what they are under.
    left: HashMap<CgroupId, Raised>,
    /// The restart that is being written, and for which entry.
    writing: Option<(CgroupId, Lease)>,
    /// The pause between two restarts, and when it is over.
    pause: Duration,
    next: Monotonic,
}

impl Escalations {
    /// With this pause between two restarts, and what an earlier agent has set to 1.
    pub fn new(pause: Duration, left: HashMap<CgroupId, Raised>) -> Self {
        Escalations {
            entries: HashMap::new(),
            quiet: BTreeSet::new(),
            waiting: VecDeque::new(),
            left,
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
        self.governs(of, Monotonic::ZERO, now);
        self.step(id, Seen::Kill { at, can_restart }, now)
    }

    /// The kernel killed the container's init, or all of it.
    pub fn ended(&mut self, id: CgroupId, now: Monotonic) -> Option<Order> {
        // What is ordered is about what has ended, and not about what is started in this cgroup next.
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.lease = Arc::default();
        }
        self.step(id, Seen::Ended, now)
    }

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
        }
        while self.may_restart(now)
            && let Some(id) = self.waiting.pop_front()
        {
            orders.extend(self.start(id, now));
        }
        orders
    }

    /// The restart of this container is over. That all of it was killed is so whatever is known of it
    /// by now; that nothing was is news only of what the restart was ordered for.
    pub fn written(&mut self, id: CgroupId, seen: Seen, now: Monotonic) -> Option<Order> {
        let lease = self.writing.take_if(|(writing, _)| *writing == id).map(|(_, lease)| lease);
        let entry = self.entries.get(&id)?;
        let is_same = lease.is_some_and(|lease| lease.is_of(entry));
        if is_same || matches!(seen, Seen::Restarted(_)) { self.step(id, seen, now) } else { None }
    }

    /// Nothing is done about it. No value was written yet, so there is none to take back.
    pub fn refuse(&mut self, id: CgroupId, now: Monotonic) {
        let entry = self.entries.get(&id);
        // Of another entry the restart may still be under way.
        let refused =
            self.writing.take_if(|(_, lease)| entry.is_some_and(|entry| lease.is_of(entry)));
        // Nothing was restarted, so that another may be at once.
        if refused.is_some() {
            self.next = now;
        }
        self.step(id, Seen::Refused, now);
    }

    /// A container is under this rule, and has been since then if that is new. What is known of another
    /// rule is forgotten. What an earlier agent has set to 1 stays so until it is quiet.
    pub fn governs(&mut self, of: Subject, since: Monotonic, now: Monotonic) {
        let id = of.id;
        if self.entries.get(&id).is_some_and(|entry| entry.subject != of) {
            self.forget(id);
        }
        if !self.entries.contains_key(&id) {
            let is_raised = self.is_left_raised(id, &of.rule, of.escalate, now);
            let escalation = match self.left.remove(&id).filter(|_| is_raised) {
                Some(Raised { last, .. }) => Escalation::raised(of.escalate, last),
                None => Escalation::new(of.escalate, since),
            };
            let entry = Entry { subject: of, escalation, quiet_at: None, lease: Arc::default() };
            self.entries.insert(id, entry);
            self.note_quiet(id);
        }
    }

    /// No rule escalates it any more, or none is known to.
    pub fn forget(&mut self, id: CgroupId) {
        if let Some(entry) = self.entries.remove(&id) {
            entry.quiet_at.map(|at| self.quiet.remove(&(at, id)));
            self.waiting.retain(|waiting| *waiting != id);
        }
    }

    /// What an earlier agent left of it means nothing: it is gone, or certainly under no rule that
    /// escalates.
    pub fn forget_left(&mut self, id: CgroupId) {
        self.left.remove(&id);
    }

    /// Forgets what an earlier agent left of cgroups that are gone.
    pub fn retain_left(&mut self, is_there: impl Fn(CgroupId) -> bool) {
        self.left.retain(|id, _| is_there(*id));
    }

    /// Whether 1 is wanted of a container, or of crun's cgroup in it, in place of the value of the
    /// rule that it is under now. Only what has a name ever is, whether or not that is known now.
    pub fn is_raised(
        &self,
        container: CgroupId,
        rule: &Arc<str>,
        escalate: Escalate,
        now: Monotonic,
    ) -> bool {
        match self.entries.get(&container) {
            Some(Entry { subject, escalation, .. }) => {
                escalation.phase() == Phase::Group
                    && subject.rule == *rule
                    && subject.escalate == escalate
            }
            // crun's cgroup may be decided before the scope around it.
            None => self.is_left_raised(container, rule, escalate, now),
        }
    }

    /// What the next agent has to know of a container, if that is set to 1.
    pub fn saved(&self, id: CgroupId) -> Option<Raised> {
        let Some(Entry { subject, escalation, .. }) = self.entries.get(&id) else {
            return self.left.get(&id).cloned();
        };
        let last = escalation.last().filter(|_| escalation.phase() == Phase::Group)?;
        Some(Raised { rule: subject.rule.clone(), last })
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

    fn is_left_raised(
        &self,
        id: CgroupId,
        rule: &Arc<str>,
        escalate: Escalate,
        now: Monotonic,
    ) -> bool {
        let left = self.left.get(&id).filter(|left| left.rule == *rule);
        left.is_some_and(|left| now < left.last + escalate.within())
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
        let lease = Lease(Arc::downgrade(&entry.lease));
        (self.writing, self.next) = (Some((id, lease)), now + self.pause);
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
            Action::Group { instead } => What::Group { instead },
            Action::Restart if self.waiting.is_empty() && self.may_restart(now) => {
                return self.start(id, now);
            }
            Action::Restart => {
                // One that has waited before, and ended by itself, may still be in it.
                self.waiting.retain(|waiting| *waiting != id);
                self.waiting.push_back(id);
                What::PutOff
            }
            Action::Back => What::Back,
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
}

#[cfg(test)]
mod tests;
