//! A container that keeps losing processes: its rule's escalation is counted, carried out and
//! reported. The model decides, the enforcer writes.

use super::Core;
use crate::{
    enforce::{RestartError, Restarted},
    kernel::cgroupfs::{dir::KillError, own},
};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    clock::Monotonic,
    escalation::{
        Outcome,
        container::Seen,
        node::{Escalations, Order, Subject, What},
    },
    kill::KillReport,
    oom::Kind,
    owner::{crun, path::Part},
    rules::matching::Target,
};

/// What a kill was for a container whose rule escalates.
pub(super) enum Loss {
    /// One process of it died at this time.
    Process(Subject, Monotonic),
    /// Its init, or all of it.
    Whole(CgroupId),
}

impl Core {
    /// What a kill was for the container of its chosen victim, if a rule that escalates governs
    /// that now.
    pub(super) fn loss(&self, report: &KillReport) -> Option<Loss> {
        let victim = report.kill.victims.first()?;
        let (nearest, path) = self.cgroups.tree.nearest(victim.cgroup)?;
        let container = self.subjects.container_of(path);
        let id = if container == *path { nearest } else { self.files.id(&container)? };
        let (rule, escalate) = self.enforcer.escalates(id)?;
        if report.ends {
            return Some(Loss::Whole(id));
        }
        // Part of it that the workload has made a group is no single process.
        let is_single = report.kind == Kind::Subprocess;
        let of = Subject { id, path: container, rule, escalate };
        is_single.then_some(Loss::Process(of, victim.time))
    }

    /// Counts it, and does what follows.
    pub(super) fn escalate(&mut self, loss: Loss) {
        let now = self.clock.now();
        let order = match loss {
            Loss::Whole(id) => self.escalations.ended(id, now),
            Loss::Process(of, at) => {
                let can_restart = self.enforcer.can_restart(of.id);
                self.escalations.kill(of, at.min(now), can_restart, now)
            }
        };
        order.into_iter().for_each(|order| self.carry_out(order));
    }

    pub(super) fn escalate_due(&mut self) {
        for order in self.escalations.due(self.clock.now()) {
            self.carry_out(order);
        }
    }

    /// What is wanted of a cgroup for which the rules want this.
    pub(super) fn escalated(
        &mut self,
        id: CgroupId,
        path: &CgroupPath,
        scope: Option<&CgroupPath>,
        is_new: bool,
        mut target: Target,
    ) -> Target {
        let if_raised = target.escalate_unless_sandbox.take();
        let Some(escalate) = target.escalate.or(if_raised) else {
            self.escalations.forget(id);
            // Else another rule, or an annotation, may follow from its name or its pod's labels.
            let naming = &self.subjects.naming;
            if !naming.awaits_name(path) && !naming.awaits_labels(path) {
                self.escalations.forget_left(id);
            }
            return target;
        };
        let now = self.clock.now();
        let container = scope.map_or(Some(id), |scope| self.files.id(scope));
        let is_raised = |escalations: &Escalations| {
            let is_raised = |id| escalations.is_raised(id, &target.rule, escalate, now);
            container.is_some_and(is_raised)
        };
        // Before it has a name it is escalated only if it is known to be no sandbox.
        target.escalate = target.escalate.or(if_raised.filter(|_| is_raised(&self.escalations)));
        if scope.is_none() && target.escalate.is_some() {
            // The rule was there before all kills of which this agent hears.
            let is_first = is_new || !self.cgroups.walked();
            let since = if is_first { Monotonic::ZERO } else { now };
            let of = Subject { id, path: path.clone(), rule: target.rule.clone(), escalate };
            self.escalations.governs(of, since, now);
        } else {
            self.escalations.forget(id);
        }
        if is_raised(&self.escalations) {
            (target.value, target.is_raised) = (true, true);
        }
        target
    }

    pub(super) fn carry_out(&mut self, Order { of, what }: Order) {
        let now = self.clock.now();
        if matches!(what, What::Group { .. } | What::Restart)
            && let Err(why) = self.is_one_container(&of)
        {
            self.escalations.refuse(of.id, now);
            return self.report_escalation(&of, Outcome::Refused, Some(why));
        }
        match what {
            What::Group { instead } => {
                self.decide_container(&of);
                let put_off = self.shields.put_off(Order { of, what });
                let Err(Order { of, .. }) = put_off else { return };
                let outcome = match self.enforcer.value(of.id) {
                    _ if self.enforcer.is_dry_run() => Outcome::DryRun,
                    Some(true) if instead => Outcome::GroupInstead,
                    Some(true) => Outcome::Done,
                    _ => Outcome::Error,
                };
                let why = match outcome {
                    Outcome::Error => Some("memory.oom.group could not be set to 1"),
                    _ if instead => Some("this kernel has no cgroup.kill (Linux 5.14)"),
                    _ => None,
                };
                self.report_escalation(&of, outcome, why);
                self.audit.writer.touch(now);
            }
            What::Restart => self.restart(of),
            What::PutOff => self.report_escalation(&of, Outcome::OverBudget, None),
            What::Lapsed => self.report_escalation(&of, Outcome::Lapsed, None),
            What::Back => {
                self.decide_container(&of);
                self.reporter.escalation_over(&of);
                self.audit.writer.touch(now);
            }
        }
    }

    fn restart(&mut self, of: Subject) {
        if self.enforcer.is_dry_run() {
            let now = self.clock.now();
            self.over(&of, Seen::Restarted(now));
            return self.report_escalation(&of, Outcome::DryRun, None);
        }
        // It would only be missing if the container was forgotten since this was ordered.
        let Some(lease) = self.escalations.lease(of.id) else {
            return self.restarted(Restarted { of, result: Err(RestartError::Revoked) });
        };
        let (now, subjects) = (self.clock.now(), &self.subjects);
        let (id, path) = (of.id, of.path.clone());
        let will_end = || self.source.will_end(id, &path, now, &|path| subjects.container_of(path));
        let order = self.enforcer.restart(of, lease);
        let asked = order.and_then(|order| self.restarts.ask(order, will_end));
        if let Err(failed) = asked {
            self.restarted(failed);
        }
    }

    pub(super) fn restarted(&mut self, Restarted { of, result }: Restarted) {
        let now = self.clock.now();
        let (seen, outcome, why) = match result {
            Ok(()) => (Seen::Restarted(now), Outcome::Done, None),
            Err(error @ (RestartError::Revoked | RestartError::Kill(KillError::Gone))) => {
                (Seen::Failed, Outcome::Gone, Some(error.to_string()))
            }
            Err(error) => (Seen::Failed, Outcome::Error, Some(error.to_string())),
        };
        self.over(&of, seen);
        if outcome == Outcome::Done {
            // The kills before did not end the container.
            let before = self.kills.fates.over(of.id, None);
            self.settle_fates(before, None);
        }
        self.report_escalation(&of, outcome, why.as_deref());
    }

    /// A restart is over, which may also end what has been raised since it was ordered.
    fn over(&mut self, of: &Subject, seen: Seen) {
        let order = self.escalations.written(of.id, seen, self.clock.now());
        order.into_iter().for_each(|order| self.carry_out(order));
    }

    /// Decides a container anew, with crun's cgroup in it.
    fn decide_container(&mut self, of: &Subject) {
        let inner = self.enforcer.inner_of(&of.path);
        self.decide_some([of.id].into_iter().chain(inner));
    }

    pub(super) fn report_escalation(&self, of: &Subject, outcome: Outcome, why: Option<&str>) {
        self.reporter.escalation(of, outcome, why);
        self.notices.notice_escalation(&self.subjects.naming, of, outcome, why);
    }

    /// Whether no more would be hit than the container that had the kills; if more would, why.
    fn is_one_container(&self, of: &Subject) -> Result<(), &'static str> {
        let Subject { path, .. } = of;
        if let Some(cgroup) = self.subjects.naming.parse(path) {
            let named = self.subjects.naming.named(path).and_then(|named| named.name);
            if !matches!(cgroup.part, Part::Container(_)) || named.is_none() {
                return Err("it is a pod's cgroup, and not that of a container with a name");
            }
        } else if path.name().ends_with(".slice") || path.name() == "init.scope" {
            return Err("a slice has units of its own in it, and init.scope is systemd's");
        }
        let tree = &self.cgroups.tree;
        let is_other = |(id, other): &(CgroupId, &CgroupPath)| {
            *id != of.id
                && other.is_within(path)
                && crun::scope(other).as_ref() != Some(path)
                && (self.enforcer.governs(*id) || self.subjects.naming.is_own(other))
        };
        if tree.living().any(|it| is_other(&it)) {
            return Err("other containers lie in it");
        }
        let own = own::id().and_then(|id| tree.path(id));
        if own.is_some_and(|own| own.is_within(path)) {
            return Err("the agent itself is in it");
        }
        Ok(())
    }
}
