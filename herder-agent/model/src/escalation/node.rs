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
    rules::matching::Target,
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

    /// What is wanted of a cgroup for which the rules want this. `scope` is the scope around it, if
    /// crun has made it there: both are one container.
    pub fn target(
        &mut self,
        id: CgroupId,
        path: &CgroupPath,
        scope: Option<&CgroupPath>,
        mut target: Target,
    ) -> Target {
        let is_other = |entry: &Entry| {
            entry.subject.rule != target.rule || Some(entry.subject.escalate) != target.escalate
        };
        if self.entries.get(&id).is_some_and(is_other) {
            self.forget(id);
        }
        let is_raised = match scope {
            Some(scope) => self.raised.contains_key(scope),
            None => self.raised.get(path) == Some(&id),
        };
        if is_raised && target.escalate.is_some() {
            (target.value, target.is_raised) = (true, true);
        }
        target
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
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Monotonic {
        Monotonic::ZERO + Duration::from_secs(1000 + seconds)
    }

    fn subject(number: u64, escalate: &str) -> Subject {
        Subject {
            id: CgroupId(number),
            path: CgroupPath::parse(format!("/c{number}").as_bytes()).unwrap(),
            rule: "web".into(),
            escalate: Escalate::parse(escalate).unwrap(),
        }
    }

    fn kill(all: &mut Escalations, number: u64, escalate: &str, seconds: u64) -> Option<What> {
        let now = at(seconds);
        let order = all.kill(subject(number, escalate), now, true, now)?;
        assert_eq!(order.of.id, CgroupId(number));
        Some(order.what)
    }

    fn due(all: &mut Escalations, seconds: u64) -> Vec<(u64, What)> {
        all.due(at(seconds)).into_iter().map(|order| (order.of.id.0, order.what)).collect()
    }

    fn wanted(all: &mut Escalations, number: u64, escalate: Option<&str>) -> (bool, bool) {
        let Subject { id, path, rule, .. } = subject(number, "1/1m=group");
        let escalate = escalate.map(|text| Escalate::parse(text).unwrap());
        let target = Target { escalate, ..Target::new(rule, false) };
        let target = all.target(id, &path, None, target);
        (target.value, target.is_raised)
    }

    #[test]
    fn one_restart_in_each_pause_and_those_that_wait_in_their_order() {
        let mut all = Escalations::new(PAUSE);
        let once = "1/1m=restart";
        assert_eq!(kill(&mut all, 1, once, 0), Some(What::Restart));
        for number in [2, 3] {
            assert_eq!(kill(&mut all, number, once, 1), Some(What::PutOff));
        }
        assert_eq!(kill(&mut all, 2, once, 2), None, "said once");
        assert_eq!(all.deadline(), Some(at(61)), "what is written now is waited for");
        assert_eq!(due(&mut all, 20), [], "however long it takes");
        all.written(CgroupId(1), Seen::Restarted(at(20)), at(20));
        assert_eq!(all.deadline(), Some(at(10)));
        assert_eq!(due(&mut all, 20), [(2, What::Restart)]);
        all.written(CgroupId(2), Seen::Restarted(at(21)), at(21));
        assert_eq!(due(&mut all, 29), []);
        assert_eq!(all.deadline(), Some(at(30)));
        assert_eq!(due(&mut all, 30), [(3, What::Restart)]);
    }

    #[test]
    fn what_waits_goes_when_it_is_not_due_any_more() {
        let mut all = Escalations::new(PAUSE * 100);
        let once = "1/1m=restart";
        assert_eq!(kill(&mut all, 1, once, 0), Some(What::Restart));
        all.written(CgroupId(1), Seen::Restarted(at(0)), at(0));
        for number in [2, 3, 4, 5] {
            assert_eq!(kill(&mut all, number, once, 1), Some(What::PutOff));
        }
        assert_eq!(all.ended(CgroupId(2), at(2)), None);
        all.forget(CgroupId(3));
        assert_eq!(kill(&mut all, 4, once, 50), None);
        assert_eq!(due(&mut all, 61), [(5, What::Lapsed)]);
        assert_eq!(due(&mut all, 110), [(4, What::Lapsed)]);
        assert_eq!(due(&mut all, 2000), []);
        assert_eq!((all.waiting.len(), all.entries.len(), all.quiet.len()), (0, 2, 0));
    }

    #[test]
    fn a_restart_is_leased_only_as_long_as_its_container_is_under_the_rule() {
        let mut all = Escalations::new(PAUSE);
        let once = "1/1m=restart";
        kill(&mut all, 1, once, 0);
        let lease = all.lease(CgroupId(1)).unwrap();
        assert_eq!(wanted(&mut all, 1, Some(once)), (false, false));
        assert!(lease.holds());
        assert_eq!(wanted(&mut all, 1, Some("2/1m=restart")), (false, false));
        assert!(!lease.holds());
        assert_eq!(due(&mut all, 900), [], "and others wait for the thread");
        all.written(CgroupId(1), Seen::Failed, at(5));
        assert_eq!(kill(&mut all, 2, once, 12), Some(What::Restart));
        let lease = all.lease(CgroupId(2)).unwrap();
        drop(all);
        assert!(!lease.holds(), "the agent has ended");
    }

    #[test]
    fn a_raised_value_lasts_until_it_was_quiet_and_is_the_rules_own() {
        let (mut all, once) = (Escalations::new(PAUSE), "1/1m=group");
        assert_eq!(wanted(&mut all, 1, Some(once)), (false, false));
        assert_eq!(kill(&mut all, 1, once, 0), Some(What::Group { instead: false }));
        assert_eq!(wanted(&mut all, 1, Some(once)), (true, true));
        let inner = CgroupPath::parse(b"/c1/container").unwrap();
        let scope = CgroupPath::parse(b"/c1").unwrap();
        let target = Target {
            escalate: Some(Escalate::parse(once).unwrap()),
            ..Target::new("web".into(), false)
        };
        assert!(all.target(CgroupId(9), &inner, Some(&scope), target.clone()).value);
        assert!(!all.target(CgroupId(9), &scope, None, target).value, "another of the same name");
        assert_eq!(due(&mut all, 60), [(1, What::Back)]);
        assert_eq!(wanted(&mut all, 1, Some(once)), (false, false));
        assert_eq!((all.entries.len(), all.raised.len(), all.deadline()), (0, 0, None));
        kill(&mut all, 1, once, 100);
        assert_eq!(wanted(&mut all, 1, None), (false, false), "the rule has changed");
        assert_eq!((all.entries.len(), all.raised.len(), all.deadline()), (0, 0, None));
    }

    #[test]
    fn what_an_earlier_agent_raised_goes_on_until_it_is_quiet() {
        let (mut all, once) = (Escalations::new(PAUSE), "3/1m=group");
        all.resume(subject(1, once), at(0), at(59));
        all.resume(subject(2, once), at(0), at(60));
        assert_eq!(wanted(&mut all, 1, Some(once)), (true, true));
        assert_eq!(wanted(&mut all, 2, Some(once)), (false, false));
        assert_eq!((all.saved(CgroupId(1)), all.saved(CgroupId(2))), (Some(at(0)), None));
        assert_eq!(due(&mut all, 60), [(1, What::Back)]);
    }

    #[test]
    fn what_is_kept_of_many_containers_goes_with_them() {
        let mut all = Escalations::new(PAUSE);
        for number in 0..1000 {
            kill(&mut all, number, "2/1m=restart", 0);
        }
        assert_eq!(all.entries.len(), 1000);
        assert_eq!(due(&mut all, 60), []);
        assert_eq!((all.entries.len(), all.quiet.len()), (0, 0));
    }
}
