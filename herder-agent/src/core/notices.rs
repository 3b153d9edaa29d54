//! Which Kubernetes Events are emitted for pods, and which have been already. Handing an Event in
//! never waits.

use super::describe::Surroundings;
use crate::{
    enforce::{Change, EnforcementEvent},
    kubernetes::events::{About, Occurrence, Reason, Survivors, message, send::EventQueue},
    report::{KillRecord, Reporter},
};
use herder_model::{
    cgroup::CgroupPath,
    clock::Monotonic,
    enforcement::Obstacle,
    escalation::{Outcome, node::Subject},
    kill::KillReport,
    naming::Naming,
    owner::{Owner, id::PodUid},
    pods::{OOM_ESCALATE_ANNOTATION, Pod},
    rules::{annotation::AnnotationError, matching::Target},
    shield::Unprotected,
};
use jiff::Timestamp;
use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

/// The Events for pods, and what they have said already.
pub struct Notices {
    queue: Option<EventQueue>,
    emitted: HashMap<PodUid, Emitted>,
}

/// What has become of an init's protection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProtectionEnd {
    /// It is over, although this rule asks for it.
    Ended(Arc<str>, Unprotected),
    /// The init cannot be given its own value back, for this reason.
    NotRemoved(String),
}

#[derive(Default)]
struct Emitted {
    /// What holds for each container.
    enforced: HashMap<Box<str>, Target>,
    obstacles: BTreeSet<Obstacle>,
    /// The value of the annotation that could not be understood.
    annotation: Option<Box<str>>,
}

impl Notices {
    /// Without a queue no Event is emitted.
    pub fn new(queue: Option<EventQueue>) -> Self {
        Notices { queue, emitted: HashMap::new() }
    }

    /// Emits an Event when enforcement begins, once for each container and rule; when the value is
    /// reverted; and for each obstacle, once for each pod.
    fn enforcement(&mut self, pod: &Pod, container: &str, event: EnforcementEvent) {
        let emitted = self.emitted.entry(pod.uid).or_default();
        let EnforcementEvent { target, change, .. } = event;
        let rule = target.rule.clone();
        let (reason, message) = match change {
            // What raised it has an Event of its own.
            Change::Enforced if target.is_raised => return,
            Change::Enforced => {
                if emitted.enforced.insert(container.into(), target.clone()).as_ref()
                    == Some(&target)
                {
                    return;
                }
                let message = message::enforced(container, &rule, target.value);
                (Reason::OomGroupEnforced, message)
            }
            Change::Reverted(times) => {
                (Reason::OomGroupReverted, message::reverted(container, &rule, times))
            }
            Change::NotEnforceable(obstacle, why) => {
                if !emitted.obstacles.insert(obstacle) {
                    return;
                }
                let message = message::not_enforceable(container, &rule, &why);
                (Reason::OomGroupNotEnforceable, message)
            }
        };
        self.emit(Occurrence::new(About::new(pod, pod.container(container)), reason, message));
    }

    /// Emits an Event for an annotation that cannot be understood, once for each value. Returns
    /// whether this value is new.
    fn bad_annotation(&mut self, pod: &Pod, error: &AnnotationError) -> bool {
        let emitted = self.emitted.entry(pod.uid).or_default();
        let value = match error.annotation() {
            OOM_ESCALATE_ANNOTATION => &pod.oom_escalate,
            _ => &pod.oom_group,
        };
        if emitted.annotation == *value {
            return false;
        }
        emitted.annotation.clone_from(value);
        let message = message::bad_annotation(value.as_deref().unwrap_or_default(), error);
        self.emit(Occurrence::new(About::new(pod, None), Reason::BadOomGroupAnnotation, message));
        true
    }

    /// Emits an Event for a kill in a container, whose cgroup has this directory, so long after it.
    /// If the container is not known, its name is empty, and the Event does not say what is left
    /// of it.
    fn kill(
        &mut self,
        report: &KillReport,
        age: Duration,
        pod: &Pod,
        container: &str,
        cgroup: impl FnOnce() -> PathBuf,
    ) {
        let Some(queue) = &mut self.queue else { return };
        let reason = Reason::of_kill(report);
        let now = Timestamp::now();
        let time = now.checked_sub(age).unwrap_or(now);
        queue.emit_kill(pod.uid, container, reason, time, || {
            let spec = pod.container(container);
            let limit = spec.and_then(|container| container.memory_limit);
            let message = message::kill(report, &pod.names(container), limit);
            let may_go_on = !report.ends && !container.is_empty();
            let left = may_go_on.then(|| Survivors::new(cgroup()));
            Occurrence { time, left, ..Occurrence::new(About::new(pod, spec), reason, message) }
        });
    }

    /// Emits an Event that a container ended some time after a kill.
    fn end(&self, pod: &Pod, container: &str, message: String) {
        let about = About::new(pod, pod.container(container));
        self.emit(Occurrence::new(about, Reason::ContainerEndedAfterOomKill, message));
    }

    /// Emits an Event for an init whose protection has ended, or could not be ended.
    fn protection(&self, pod: &Pod, container: &str, end: ProtectionEnd) {
        let (reason, message) = match end {
            ProtectionEnd::Ended(rule, why) => {
                (Reason::OomProtectionEnded, message::unprotected(container, &rule, why))
            }
            ProtectionEnd::NotRemoved(why) => {
                (Reason::OomProtectionNotRemoved, message::unrestored(container, &why))
            }
        };
        self.emit(Occurrence::new(About::new(pod, pod.container(container)), reason, message));
    }

    fn emit(&self, occurrence: Occurrence) {
        if let Some(queue) = &self.queue {
            queue.emit(occurrence);
        }
    }

    /// Emits no more Events, so that no part waits for further ones.
    pub(super) fn close(&mut self) {
        self.queue = None;
    }

    /// Forgets pods that are long gone.
    pub(super) fn forget(&mut self, is_gone: impl Fn(PodUid) -> bool) {
        self.emitted.retain(|uid, _| !is_gone(*uid));
    }
}

/// The same by cgroups, as far as they have names.
impl Notices {
    /// Emits an Event about the enforcement of a container.
    pub(super) fn notice_enforcement(&mut self, naming: &Naming, event: EnforcementEvent) {
        if let Some(named) = naming.named(&event.cgroup)
            && let Some(name) = named.name
        {
            self.enforcement(named.pod, name, event);
        }
    }

    /// Emits an Event for an escalation that was carried out, or could not be.
    pub(super) fn notice_escalation(
        &self,
        naming: &Naming,
        of: &Subject,
        outcome: Outcome,
        why: Option<&str>,
    ) {
        let reason = match outcome {
            Outcome::Done | Outcome::GroupInstead => Reason::OomKillsEscalated,
            Outcome::Error | Outcome::Refused => Reason::OomEscalationFailed,
            // The first is tried again, the others change nothing.
            Outcome::OverBudget | Outcome::Lapsed | Outcome::Gone | Outcome::DryRun => return,
        };
        if let Some(named) = naming.named(&of.path)
            && let Some(name) = named.name
        {
            let message = message::escalated(name, &of.rule, of.escalate, outcome, why);
            let about = About::new(named.pod, named.pod.container(name));
            self.emit(Occurrence::new(about, reason, message));
        }
    }

    /// Emits an Event for an init whose protection has ended, or could not be ended.
    pub(super) fn notice_protection(&self, naming: &Naming, path: &CgroupPath, end: ProtectionEnd) {
        if let Some(named) = naming.named(path)
            && let Some(name) = named.name
        {
            self.protection(named.pod, name, end);
        }
    }

    /// Emits an Event for a pod's annotation that leaves its container alone.
    pub(super) fn notice_bad_annotation(
        &mut self,
        naming: &Naming,
        path: &CgroupPath,
        error: &AnnotationError,
        reporter: &Reporter,
    ) {
        let Some(named) = naming.named(path) else { return };
        if self.bad_annotation(named.pod, error) {
            reporter.bad_annotation(&named.pod.namespace, &named.pod.name, error);
        }
    }

    /// Emits an Event for a kill on each container that it hit.
    pub(super) fn notice_kill(
        &mut self,
        report: &KillReport,
        around: &Surroundings<'_>,
        now: Monotonic,
    ) {
        let Surroundings { cgroups, subjects, files } = around;
        let mut emitted = BTreeSet::new();
        for (victim, owner) in report.kill.victims.iter().zip(&report.victim_owners) {
            let Owner::Container(names) = owner else { continue };
            let path = cgroups.tree.nearest(victim.cgroup);
            let path = path.map(|(_, path)| subjects.container_of(path));
            let Some(path) = path.filter(|_| emitted.insert(names)) else { continue };
            if let Some(pod) = subjects.naming.pod_of(&path) {
                let age = now.saturating_duration_since(victim.time);
                self.kill(report, age, pod, &names.container, || files.directory(&path));
            }
        }
    }

    /// Emits an Event that a container ended some time after one of its processes was killed.
    pub(super) fn notice_end(
        &self,
        naming: &Naming,
        path: &CgroupPath,
        kill: &KillRecord,
        after: Duration,
        obstacle: Option<Obstacle>,
    ) {
        let container = kill.container.as_deref().filter(|name| !name.is_empty());
        let (Some(named), Some(container)) = (naming.named(path), container) else {
            return;
        };
        let victim = (kill.victim.comm.as_deref(), kill.victim.pid);
        self.end(named.pod, container, message::ended(container, victim, after, obstacle));
    }
}

#[cfg(test)]
mod tests;
