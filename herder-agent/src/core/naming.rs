//! Whose container a cgroup is, and what its rule wants.
//!
//! The cgroup's path says which pod and container ID it is, the API server what
//! that pod is called, and the bundle or the pod's status what the container is
//! called. A kill whose names are not known yet waits for them for a bounded
//! time: it is never counted under the wrong series, and never dropped.

use super::Core;
use crate::{
    attribution::{ContainerNames, Owner, path::PodCgroup},
    cgroup::{CgroupId, CgroupPath},
    enforce::Origin,
    pods::{
        Pod, PodEvent, Pods,
        bundle::{BundleRole, Bundles},
    },
    policy::{PodSubject, Subject, Target, Verdict},
    report::{KillReport, Unattributed},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// How long a kill waits for its names. The kubelet tells a container's ID some
/// seconds after its start.
const WAIT: Duration = Duration::from_secs(30);

/// What is known of pods, and who waits for more.
#[derive(Debug)]
pub struct Naming {
    pods: Option<Pods>,
    bundles: Bundles,
    cgroups: HashMap<String, HashSet<CgroupId>>,
    waiting: Vec<(Instant, KillReport)>,
}

impl Naming {
    /// Without Kubernetes all cgroups are the host's.
    pub fn new(kubernetes: bool, bundles: Bundles) -> Self {
        Naming {
            pods: kubernetes.then(Pods::default),
            bundles,
            cgroups: HashMap::new(),
            waiting: Vec::new(),
        }
    }

    pub(super) fn made(&mut self, id: CgroupId, path: &CgroupPath) {
        if let Some(cgroup) = self.pod_cgroup(path) {
            self.cgroups.entry(cgroup.uid).or_default().insert(id);
        }
    }

    pub(super) fn removed(&mut self, id: CgroupId, path: &CgroupPath) {
        let Some(cgroup) = self.pod_cgroup(path) else { return };
        if let Some(ids) = self.cgroups.get_mut(&cgroup.uid) {
            ids.remove(&id);
            if ids.is_empty() {
                self.cgroups.remove(&cgroup.uid);
            }
        }
    }

    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// When the first of those that wait has waited long enough.
    pub(super) fn due(&self) -> Instant {
        self.waiting.iter().map(|(until, _)| *until).min().unwrap_or_else(Instant::now)
    }

    fn pod_cgroup(&self, path: &CgroupPath) -> Option<PodCgroup> {
        self.pods.as_ref().and_then(|_| PodCgroup::of(path))
    }

    /// The pod and, if it is known, the name of a container.
    fn named(&self, cgroup: &PodCgroup) -> (Option<&Arc<Pod>>, Option<String>) {
        let (Some(pods), Some(container)) = (&self.pods, &cgroup.container) else {
            return (None, None);
        };
        let status = pods.container_name(&container.id).map(str::to_owned);
        let name = status.or_else(|| match self.bundles.role(&container.id)? {
            BundleRole::Container(name) => Some(name),
            BundleRole::Sandbox => None,
        });
        (pods.pod(cgroup), name)
    }

    fn is_sandbox(&self, cgroup: &PodCgroup) -> bool {
        let role = cgroup.container.as_ref().and_then(|container| self.bundles.role(&container.id));
        role == Some(BundleRole::Sandbox)
    }

    /// Who a container's outermost cgroup belongs to.
    pub(super) fn owner(&self, container: &CgroupPath) -> Owner {
        let cgroup = container.clone();
        let Some(pod_cgroup) = self.pod_cgroup(container).filter(|found| found.container.is_some())
        else {
            return Owner::Host { cgroup };
        };
        match self.named(&pod_cgroup) {
            (Some(pod), Some(name)) => Owner::Container(ContainerNames {
                namespace: pod.namespace.clone(),
                pod: pod.name.clone(),
                container: name,
            }),
            _ => Owner::Unnamed { cgroup },
        }
    }

    /// The container that a cgroup of a pod lies in.
    pub(super) fn container_path(&self, path: &CgroupPath) -> Option<CgroupPath> {
        Some(self.pod_cgroup(path)?.container?.path)
    }
}

impl Core {
    /// Takes what the API server told, and what follows from it: other names,
    /// other rules, restarts, and kills that waited for this.
    pub(super) fn take_pod(&mut self, event: PodEvent) {
        let Some(pods) = &mut self.naming.pods else { return };
        let changed = match &event {
            PodEvent::Applied(pod) => vec![Some(pod.uid.clone()), pod.config_hash.clone()],
            _ => Vec::new(),
        };
        for restart in pods.apply(event, std::time::Instant::now()) {
            self.reporter.restart(&restart);
        }
        for uid in changed.into_iter().flatten() {
            let ids = self.naming.cgroups.get(&uid).cloned().unwrap_or_default();
            for id in ids {
                if let Some(path) = self.tree.path(id).cloned() {
                    self.decide(id, &path, Origin::Existing);
                }
            }
        }
        self.name_kills();
    }

    /// Tells a kill, or keeps it until its names are known.
    pub(super) fn tell(&mut self, report: KillReport) {
        if report.victim_owners.iter().any(|owner| matches!(owner, Owner::Unnamed { .. })) {
            self.naming.waiting.push((Instant::now() + WAIT, report));
        } else {
            self.tell_named(&report);
        }
    }

    /// Names the kills that wait, as far as is known now.
    pub(super) fn name_kills(&mut self) {
        let now = Instant::now();
        for (until, mut report) in std::mem::take(&mut self.naming.waiting) {
            self.name(&mut report);
            let unnamed =
                report.victim_owners.iter().any(|owner| matches!(owner, Owner::Unnamed { .. }));
            match unnamed {
                true if now < until => self.naming.waiting.push((until, report)),
                true => self.tell_unnamed(report),
                false => self.tell_named(&report),
            }
        }
    }

    fn tell_named(&self, report: &KillReport) {
        self.reporter.kill(report);
        // It may be told long after the container's removal.
        for victim in &report.kill.victims {
            self.forget_series(victim.cgroup);
        }
    }

    /// The agent ends: what waits is told as it is.
    pub(super) fn give_up_naming(&mut self) {
        for (_, mut report) in std::mem::take(&mut self.naming.waiting) {
            self.name(&mut report);
            self.tell_unnamed(report);
        }
    }

    fn name(&self, report: &mut KillReport) {
        for owner in &mut report.victim_owners {
            if let Owner::Unnamed { cgroup } = owner {
                *owner = self.naming.owner(cgroup);
            }
        }
        if let Some(first) = report.victim_owners.first() {
            report.owner = first.clone();
        }
        if report.rule.is_none() {
            let path = report.cgroup.as_ref().map(|path| self.container_of(path));
            report.rule =
                path.and_then(|path| self.wanted(&path)).map(|target| target.rule.to_string());
        }
    }

    /// Names that did not come: the cgroup's path is what is known.
    fn tell_unnamed(&self, mut report: KillReport) {
        let mut unnamed = false;
        for owner in report.victim_owners.iter_mut().chain([&mut report.owner]) {
            if let Owner::Unnamed { cgroup } = owner {
                *owner = Owner::Host { cgroup: cgroup.clone() };
                unnamed = true;
            }
        }
        if unnamed {
            self.reporter.unattributed(Unattributed::UnknownPod);
        }
        self.tell_named(&report);
    }

    /// What the rules want of a cgroup, if they want something.
    pub(super) fn wanted(&self, path: &CgroupPath) -> Option<Target> {
        let pod_cgroup = self.naming.pod_cgroup(path);
        let container = pod_cgroup.as_ref().filter(|found| is_outermost(found, path));
        let named = container.map(|container| self.naming.named(container));
        let pod = named.as_ref().and_then(|(pod, name)| {
            let pod = pod.as_ref()?;
            Some(PodSubject {
                namespace: &pod.namespace,
                labels: &pod.labels,
                annotation: pod.annotation.as_deref(),
                container: name.as_deref(),
            })
        });
        let nameless = pod.is_some_and(|pod| pod.container.is_none());
        match self.policy.decide(&Subject { cgroup: path, pod }) {
            // Until its name is known a container may be the pod's sandbox, which
            // has 0 and is never given another value.
            Verdict::Matched(target) if nameless && target.value => None,
            Verdict::Matched(_) if container.is_some_and(|it| self.naming.is_sandbox(it)) => None,
            Verdict::Matched(target) => Some(target),
            _ => None,
        }
    }

    pub(super) fn owner(&self, path: &CgroupPath) -> Owner {
        let container = self.naming.container_path(path);
        self.naming.owner(container.as_ref().unwrap_or(path))
    }
}

/// Whether a path is the container's own cgroup, or crun's one below it.
fn is_outermost(cgroup: &PodCgroup, path: &CgroupPath) -> bool {
    cgroup.container.as_ref().is_some_and(|container| {
        container.path == *path
            || path.name() == "container" && path.parent().as_ref() == Some(&container.path)
    })
}
