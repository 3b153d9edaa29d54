//! Which inits are to have their own value again before their container becomes a group.
//!
//! The kernel passes over an exempt init when it kills a group, which would leave it over. One thread
//! restores it, and another writes `memory.oom.group`. So 1 is written only once the first has
//! reported that the init is restored, or could not restore it for a while.

use super::{super::Core, Shields};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    clock::Monotonic,
    escalation::{Outcome, node::Order},
    owner::crun,
};
use std::{collections::BTreeMap, time::Duration};

/// How long 1 waits for that. Restoring takes well below a millisecond, unless it fails.
const WITHIN: Duration = Duration::from_secs(1);

/// The containers whose 1 waits, and until when; none if that is over, and their init is still
/// exempt.
#[derive(Debug, Default)]
pub(super) struct Restoring {
    until: BTreeMap<CgroupId, Option<Monotonic>>,
    /// Escalations that are carried out then.
    orders: Vec<Order>,
}

impl Restoring {
    /// Whether 1 has to wait for this init, which is still exempt.
    pub(super) fn awaits(&mut self, id: CgroupId, now: Monotonic) -> bool {
        let until = self.until.entry(id).or_insert(Some(now + WITHIN));
        until.is_some_and(|until| now < until)
    }

    /// Whether 1 is waiting for it.
    pub(super) fn is_awaited(&self, id: CgroupId) -> bool {
        self.until.get(&id).is_some_and(Option::is_some)
    }

    /// It is to be exempt again, by another rule than the one that wants 1.
    pub(super) fn forget(&mut self, id: CgroupId) {
        self.until.remove(&id);
        self.orders.retain(|order| order.of.id != id);
    }

    /// Carries this out when the init is restored.
    pub(super) fn put_off(&mut self, order: Order) {
        self.orders.push(order);
    }

    /// When the first has waited for long enough.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.until.values().flatten().min().copied()
    }

    /// Takes those that need not wait any longer, with what is to be carried out for them, and says
    /// of each whether its init is restored.
    pub(super) fn take(
        &mut self,
        now: Monotonic,
        is_exempt: impl Fn(CgroupId) -> bool,
    ) -> Vec<(CgroupId, bool, Vec<Order>)> {
        let mut done = Vec::new();
        self.until.retain(|id, until| {
            let is_exempt = is_exempt(*id);
            let is_over = !is_exempt || until.is_some_and(|until| until <= now);
            if is_over && until.take().is_some() {
                done.push((*id, !is_exempt));
            }
            is_exempt
        });
        let orders = &mut self.orders;
        let mut of = |id| orders.extract_if(.., |order: &mut Order| order.of.id == id).collect();
        done.into_iter().map(|(id, restored)| (id, restored, of(id))).collect()
    }
}

impl Shields {
    /// Whether the init of this container is exempt, and no rule asks for that any more.
    pub(in super::super) fn is_still_exempt(&self, id: CgroupId) -> bool {
        !self.wanted.containers.contains_key(&id) && self.found().inits.contains_key(&id)
    }

    /// Whether 1 has to wait until the init of this container is restored.
    fn awaits_restored(&mut self, id: CgroupId, now: Monotonic) -> bool {
        self.is_still_exempt(id) && self.restoring.awaits(id, now)
    }

    /// An escalation to 1 waits for that, and is carried out then. If nothing waits, the order comes
    /// back.
    pub(in super::super) fn put_off(&mut self, order: Order) -> Result<(), Order> {
        if self.restoring.is_awaited(order.of.id) {
            self.restoring.put_off(order);
            return Ok(());
        }
        Err(order)
    }

    /// When an init was waited for long enough.
    pub(in super::super) fn deadline(&self) -> Option<Monotonic> {
        self.restoring.deadline()
    }
}

impl Core {
    /// Whether 1 in a cgroup has to wait until the init of its container is restored, which crun may
    /// have put in a cgroup inside of the container's.
    pub(in super::super) fn awaits_init(&mut self, id: CgroupId, path: &CgroupPath) -> bool {
        if self.shields.link.is_none() {
            return false;
        }
        let now = self.clock.now();
        let scope = crun::scope(path).and_then(|scope| self.files.id(&scope));
        let mut awaits = |id| self.shields.awaits_restored(id, now);
        awaits(id) || scope.is_some_and(awaits)
    }

    /// Writes the 1 of containers whose init is restored by now, or was waited for long enough.
    pub(in super::super) fn decide_restored(&mut self) {
        let Shields { restoring, link, wanted, .. } = &mut self.shields;
        let Some(link) = link else { return };
        let found = link.found();
        let is_exempt = |id| !wanted.containers.contains_key(&id) && found.inits.contains_key(&id);
        for (id, is_restored, orders) in restoring.take(self.clock.now(), is_exempt) {
            let path = self.cgroups.tree.path(id).cloned();
            if !is_restored {
                let cgroup = path.as_ref().map(ToString::to_string);
                tracing::warn!(
                    cgroup,
                    "The container's init is not restored yet: an OOM kill of the group passes over it."
                );
            }
            let inner = path.and_then(|path| self.enforcer.inner_of(&path));
            // Before 1 is written: it may be no longer one container, and refused.
            for order in orders {
                let Order { of, .. } = &order;
                let now = self.clock.now();
                if self.escalations.is_raised(of.id, &of.rule, of.escalate, now) {
                    self.carry_out(order);
                } else {
                    let why = "the container went, or its rule did";
                    self.report_escalation(of, Outcome::Gone, Some(why));
                }
            }
            self.decide_some([id].into_iter().chain(inner));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_waits_once_for_its_init_and_not_for_ever() {
        let (a, b) = (CgroupId(1), CgroupId(2));
        let begin = Monotonic(7);
        let mut restoring = Restoring::default();
        assert!(restoring.awaits(a, begin) && restoring.awaits(b, begin));
        assert_eq!(restoring.deadline(), Some(begin + WITHIN));
        let taken = |it: Vec<(CgroupId, bool, Vec<Order>)>| {
            it.into_iter().map(|(id, restored, _)| (id, restored)).collect::<Vec<_>>()
        };
        assert_eq!(taken(restoring.take(begin, |_| true)), []);
        assert_eq!(taken(restoring.take(begin, |id| id == a)), [(b, true)]);
        assert!(restoring.is_awaited(a) && !restoring.is_awaited(b));
        // Being decided again does not put it off.
        let end = begin + WITHIN;
        assert!(!restoring.awaits(a, end));
        assert_eq!(taken(restoring.take(end, |_| true)), [(a, false)]);
        assert_eq!((restoring.awaits(a, end), restoring.deadline()), (false, None));
        assert_eq!(taken(restoring.take(end, |_| false)), [], "it was reported already");
        assert!(restoring.awaits(a, end), "exempt again since");
    }
}
