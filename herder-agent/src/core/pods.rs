//! What follows from the API server's reports: other names, other rules, restarts, and kills that
//! waited for a name.
//!
//! A kill whose names are not known yet waits for them for a bounded time: it is never counted
//! under the wrong series, and never dropped.

use super::{Core, describe::Surroundings, waiting::is_unnamed};
use crate::{
    enforce::Origin,
    report::KillRecord,
    runtime::roles::{FoundRole, RoleRequest},
};
use herder_model::{
    clock::Monotonic,
    kill::KillReport,
    naming::runtime::RuntimeContainer,
    owner::{Owner, id::PodUid, path::PodCgroup},
    pods::{Event, LARGEST_LABELS, MOST_CONTAINERS, store::PodChange},
};

impl Core {
    /// Takes what the API server has reported.
    pub(super) fn take_pod(&mut self, event: Event) {
        let mut restarts = Vec::new();
        let now = self.clock.now();
        for change in self.subjects.naming.apply(event, now) {
            match change {
                PodChange::Upserted(uid) => self.decide_pod(uid),
                PodChange::Deleted(uid) => self.pod_left(uid),
                PodChange::Forgotten(uid) => {
                    self.decide_some(self.subjects.naming.cgroups_with(uid));
                }
                PodChange::Restarted(restart) => restarts.push(restart),
                PodChange::LabelsLeftOut(uid) => self.labels_left_out(uid),
                PodChange::ContainersLeftOut(uid) => self.containers_left_out(uid),
                PodChange::Full => tracing::warn!(
                    "The pods of this node take more memory than is kept of them. Of some, most of all of those without containers here, at most the names are known. Their kills are reported by cgroup, and rules with labels or container names leave them alone. Look for pods that the node has rejected, and delete them."
                ),
                PodChange::Synced => tracing::info!("The pods of this node are known."),
            }
        }
        self.name_kills();
        // After the kills, so that a restart finds the one that caused it.
        for restart in &restarts {
            self.reporter.restart(restart);
        }
    }

    /// Takes what the runtime has reported.
    pub(super) fn take_runtime_containers(&mut self, containers: Vec<RuntimeContainer>) {
        let now = self.clock.now();
        for container in containers {
            let cgroups = self.subjects.naming.learn(container, now);
            self.decide_some(cgroups);
        }
        self.name_kills();
    }

    /// Takes what bundles say. A cgroup that was asked about when it was made is new to its rule
    /// however late the answer comes: a 1 in it is its runtime's, and a 0 may be the kernel's.
    pub(super) fn take_roles(&mut self, found: Vec<FoundRole>) {
        for FoundRole { request: RoleRequest { of, just_made }, role } in found {
            for id in self.subjects.naming.learn_role(of, role) {
                let Some(path) = self.cgroups.tree.path(id).cloned() else { continue };
                // What a container makes for itself matters only if a rule for cgroups governs it:
                // its owner has a name now. There may be much of it.
                if !self.subjects.naming.is_own(&path) && !self.enforcer.governs(id) {
                    continue;
                }
                let cgroup = self.subjects.naming.parse(&path);
                let container = cgroup.as_ref().and_then(PodCgroup::container);
                if just_made && container.is_some_and(|it| it.id == of.container) {
                    self.decide(id, &path, Origin::Made);
                } else {
                    self.decide_some([id]);
                }
            }
        }
        self.name_kills();
    }

    fn decide_pod(&mut self, uid: PodUid) {
        let ids = self.subjects.naming.pod(uid).map_or_else(Vec::new, |(_, ids)| ids);
        self.decide_some(ids);
    }

    fn labels_left_out(&self, uid: PodUid) {
        let Some((pod, _)) = self.subjects.naming.pod(uid) else { return };
        tracing::warn!(
            namespace = &*pod.namespace,
            pod = &*pod.name,
            "The pod has more than {} KiB of labels. Its containers are left alone by the first rule with a selector whose other conditions match, and by all rules after it.",
            LARGEST_LABELS / 1024
        );
    }

    fn containers_left_out(&self, uid: PodUid) {
        let Some((pod, _)) = self.subjects.naming.pod(uid) else { return };
        tracing::warn!(
            namespace = &*pod.namespace,
            pod = &*pod.name,
            "The pod has more than {MOST_CONTAINERS} containers. Kills in the rest are reported by cgroup. The rest is left alone by the first rule with container names whose other conditions match, and by all rules after it."
        );
    }

    /// What still runs of it keeps its names and its rule. Where this was one of two that
    /// mirror a static pod, they are now the other's.
    fn pod_left(&mut self, uid: PodUid) {
        let Some((pod, cgroups)) = self.subjects.naming.pod(uid) else { return };
        let names = pod.containers.iter().map(|container| container.name.as_ref());
        // Kills of none of its containers have series, too.
        for name in names.chain([""]) {
            self.reporter.owner_left(&Owner::Container(pod.names(name)));
        }
        self.decide_some(cgroups);
    }

    /// Forgets pods that are long gone, and what was decided by them.
    pub(super) fn expire_pods(&mut self) {
        let now = self.clock.now();
        let cgroups = self.subjects.naming.expire(now);
        self.decide_some(cgroups);
        self.notices.forget(|uid| self.subjects.naming.pod(uid).is_none());
    }

    /// Reports a kill, or keeps it until its names are known.
    pub(super) fn report_when_named(&mut self, mut report: KillReport) {
        if is_unnamed(&report) {
            self.read_scene(&mut report);
            let too_many = self.kills.waiting.add(report, self.clock.now());
            too_many.into_iter().for_each(|report| self.report_at_last(report));
        } else {
            // Log and metrics need no more than is known. The files are read after that.
            let record = self.reporter.announce(&report);
            self.read_scene(&mut report);
            self.keep_named(record, report);
        }
    }

    /// Names the kills that wait, as far as is known now.
    pub(super) fn name_kills(&mut self) {
        let named = self.kills.waiting.named(&self.subjects);
        named.into_iter().for_each(|report| self.report_at_last(report));
    }

    /// Kills that have waited until then are reported as they are.
    pub(super) fn report_unnamed(&mut self, until: Monotonic) {
        let overdue = self.kills.waiting.overdue(until);
        overdue.into_iter().for_each(|report| self.report_at_last(report));
    }

    fn report_at_last(&mut self, mut report: KillReport) {
        if let Some(why) = self.subjects.name_at_last(&mut report) {
            self.reporter.unattributed(why);
        }
        let record = self.reporter.announce(&report);
        self.keep_named(record, report);
    }

    /// The kill is counted and logged; now all else that shows it.
    fn keep_named(&mut self, record: KillRecord, mut report: KillReport) {
        self.conclude_scene(&mut report);
        let report = &report;
        let number = self.reporter.keep(record, report);
        let around =
            Surroundings { cgroups: &self.cgroups, subjects: &self.subjects, files: &self.files };
        self.notices.notice_kill(report, &around, self.clock.now());
        self.keep_arguments(number, report);
        self.follow_container(number, report);
        // The kill may be reported long after the container's removal.
        for victim in &report.kill.victims {
            self.forget_series(victim.cgroup);
        }
    }
}
