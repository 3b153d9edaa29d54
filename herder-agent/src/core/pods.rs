//! What follows from what the API server tells: other names, other rules,
//! restarts, and kills that waited for a name.
//!
//! A kill whose names are not known yet waits for them for a bounded time: it is
//! never counted under the wrong series, and never dropped.

use super::{Core, kills::limit_of};
use crate::kernel::clock::monotonic_now;
use herder_model::{
    kill::KillReport,
    naming::runtime::RuntimeContainer,
    oom::reasons::Unattributed,
    owner::{Owner, id::PodUid},
    pods::{Event, LARGEST_LABELS, MOST_CONTAINERS, store::PodChange},
};
use std::time::Duration;
use tokio::time::Instant;

/// How long a kill waits for its names. The kubelet tells a container's ID some
/// seconds after its start.
const WAIT: Duration = Duration::from_secs(30);

/// Kills that wait for names.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<(Instant, KillReport)>);

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the first of those that wait has waited long enough.
    pub(super) fn due(&self) -> Instant {
        self.0.iter().map(|(until, _)| *until).min().unwrap_or_else(Instant::now)
    }
}

impl Core {
    /// Takes what the API server told.
    pub(super) fn take_pod(&mut self, event: Event) {
        let mut restarts = Vec::new();
        for change in self.naming.apply(event, monotonic_now()) {
            match change {
                PodChange::Upserted(uid) => self.decide_pod(uid),
                PodChange::Deleted(uid) => self.pod_left(uid),
                PodChange::Forgotten(uid) => self.decide_some(self.naming.cgroups_with(uid)),
                PodChange::Restarted(restart) => restarts.push(restart),
                PodChange::LabelsLeftOut(uid) => self.labels_left_out(uid),
                PodChange::ContainersLeftOut(uid) => self.containers_left_out(uid),
                PodChange::Synced => tracing::info!("The pods of this node are known."),
            }
        }
        self.name_kills();
        // After the kills, so that a restart finds the one that caused it.
        for restart in &restarts {
            self.reporter.restart(restart);
        }
    }

    /// Takes what the runtime told.
    pub(super) fn take_learnt(&mut self, containers: Vec<RuntimeContainer>) {
        let now = monotonic_now();
        for learnt in containers {
            let cgroups = self.naming.learn(learnt, now);
            self.decide_some(cgroups);
        }
        self.name_kills();
    }

    fn decide_pod(&mut self, uid: PodUid) {
        let ids = self.naming.pod(uid).map_or_else(Vec::new, |(_, ids)| ids);
        self.decide_some(ids);
    }

    fn labels_left_out(&self, uid: PodUid) {
        let Some((pod, _)) = self.naming.pod(uid) else { return };
        tracing::warn!(
            namespace = &*pod.namespace,
            pod = &*pod.name,
            "The pod has more than {} KiB of labels, so it is left alone where a rule asks for some.",
            LARGEST_LABELS / 1024
        );
    }

    fn containers_left_out(&self, uid: PodUid) {
        let Some((pod, _)) = self.naming.pod(uid) else { return };
        tracing::warn!(
            namespace = &*pod.namespace,
            pod = &*pod.name,
            "The pod has more than {MOST_CONTAINERS} containers; those beyond are told by their cgroup, and left alone by rules that name containers."
        );
    }

    /// What still runs of it keeps its names and its rule. Where this was one of two that
    /// mirror a static pod, they are now the other's.
    fn pod_left(&mut self, uid: PodUid) {
        let Some((pod, cgroups)) = self.naming.pod(uid) else { return };
        let names = pod.containers.iter().map(|container| container.name.as_ref());
        // Kills of none of its containers have series, too.
        for name in names.chain([""]) {
            self.reporter.owner_left(&Owner::Container(pod.names(name)));
        }
        self.decide_some(cgroups);
    }

    /// Forgets pods that are long gone, and what was decided by them.
    pub(super) fn expire_pods(&mut self) {
        let cgroups = self.naming.expire(monotonic_now());
        self.decide_some(cgroups);
        self.notices.forget(|uid| self.naming.pod(uid).is_none());
    }

    /// Tells a kill, or keeps it until its names are known.
    pub(super) fn tell(&mut self, report: KillReport) {
        if is_unnamed(&report) {
            self.waiting.0.push((Instant::now() + WAIT, report));
        } else {
            self.tell_named(&report);
        }
    }

    /// Names the kills that wait, as far as is known now.
    pub(super) fn name_kills(&mut self) {
        let now = Instant::now();
        for (until, mut report) in std::mem::take(&mut self.waiting.0) {
            self.name(&mut report);
            match is_unnamed(&report) {
                true if now < until => self.waiting.0.push((until, report)),
                true => self.tell_unnamed(report),
                false => self.tell_named(&report),
            }
        }
    }

    fn tell_named(&mut self, report: &KillReport) {
        let number = self.reporter.kill(report);
        self.notice_kill(report);
        self.follow_container(number, report);
        // It may be told long after the container's removal.
        for victim in &report.kill.victims {
            self.forget_series(victim.cgroup);
        }
    }

    /// The agent ends: what waits is told as it is.
    pub(super) fn give_up_naming(&mut self) {
        for (_, mut report) in std::mem::take(&mut self.waiting.0) {
            self.name(&mut report);
            self.tell_unnamed(report);
        }
    }

    fn name(&self, report: &mut KillReport) {
        for owner in &mut report.victim_owners {
            if let Owner::Unnamed { cgroup } = owner
                && let Some(named) = self.naming.owner_of_kill(cgroup)
            {
                *owner = named;
            }
        }
        if let Some(first) = report.victim_owners.first() {
            report.owner = first.clone();
        }
        let Some(path) = report.cgroup.as_ref().map(|path| self.container_of(path)) else { return };
        if report.rule.is_none() {
            report.rule = self.wanted(&path).map(|target| target.rule.to_string());
        }
        // The pod's spec says more than the cgroups did.
        let limit = report.limits.whose(self.naming.pods_own_limit(&path));
        report.limit = limit_of(&report.owner, limit);
    }

    /// Names that did not come: what is known of the pod, or else the cgroup's path.
    fn tell_unnamed(&mut self, mut report: KillReport) {
        let mut missing = None;
        for owner in report.victim_owners.iter_mut().chain([&mut report.owner]) {
            let Owner::Unnamed { cgroup } = owner else { continue };
            let (named, why) = match self.naming.owner_at_last(cgroup) {
                Some((names, is_known)) => {
                    let why = (!is_known).then_some(Unattributed::UnknownContainer);
                    (Owner::Container(names), why)
                }
                None => (Owner::Host { cgroup: cgroup.clone() }, Some(Unattributed::UnknownPod)),
            };
            *owner = named;
            missing = missing.max(why);
        }
        if let Some(why) = missing {
            self.reporter.unattributed(why);
        }
        self.tell_named(&report);
    }
}

fn is_unnamed(report: &KillReport) -> bool {
    report.victim_owners.iter().any(|owner| matches!(owner, Owner::Unnamed { .. }))
}
