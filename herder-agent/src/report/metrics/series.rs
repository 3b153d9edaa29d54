//! Which series of containers there are: they begin at 0 when a container is
//! matched, and go some time after it is gone, when they have been scraped.

use super::families::Families;
use herder_model::{
    cgroup::CgroupPath,
    clock::Monotonic,
    oom::{Kind, Limit},
    owner::{ContainerNames, Owner},
    pods::restarts::Reason,
};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

/// Most cgroups outside of pods that have series of their own.
const MOST_HOST_CGROUPS: usize = 512;

/// The cgroup label of the rest.
const OTHER: &str = "other";

#[derive(Debug)]
pub(super) struct Series {
    retention: Duration,
    host: HashSet<String>,
    gone: HashMap<Owner, Monotonic>,
    present: HashSet<Owner>,
}

impl Series {
    pub(super) fn new(retention: Duration) -> Self {
        Series { retention, host: HashSet::new(), gone: HashMap::new(), present: HashSet::new() }
    }

    /// The label of a cgroup outside of pods. Those that come after the first
    /// [`MOST_HOST_CGROUPS`] share one.
    pub(super) fn host_label(&mut self, cgroup: &CgroupPath) -> String {
        let label = cgroup.to_string();
        let room = self.host.len() < MOST_HOST_CGROUPS;
        if self.host.contains(&label) || room && self.host.insert(label.clone()) {
            label
        } else {
            OTHER.to_owned()
        }
    }

    /// A kill of a container that is gone: its series stay a while longer.
    pub(super) fn touch(&mut self, owner: &Owner, now: Monotonic) {
        if let Some(gone) = self.gone.get_mut(owner) {
            *gone = now;
        }
    }

    pub(super) fn present(
        &mut self,
        owner: &Owner,
        families: &Families,
        value: bool,
        wanted: bool,
    ) {
        self.gone.remove(owner);
        self.present.insert(owner.clone());
        match owner {
            Owner::Container(names) => {
                let labels = [&names.namespace, &names.pod, &names.container].map(String::as_str);
                families.oom_group.set(labels, value.into());
                families.oom_group_wanted.set(labels, wanted.into());
                let [namespace, pod, container] = labels;
                for (kind, limit) in first_kills() {
                    families.kills.begin([namespace, pod, container, kind, limit]);
                    families.processes.begin([namespace, pod, container, kind]);
                }
                families.survived.begin(labels);
                families.restarts.begin([namespace, pod, container, Reason::OomKilled.as_str()]);
            }
            Owner::Unnamed { .. } => {}
            Owner::Host { cgroup } => {
                let label = self.host_label(cgroup);
                // One number cannot stand for several cgroups.
                if label != OTHER {
                    families.host_oom_group.set([label.as_str()], value.into());
                    families.host_oom_group_wanted.set([label.as_str()], wanted.into());
                }
                for (kind, limit) in first_kills() {
                    families.host_kills.begin([label.as_str(), kind, limit]);
                }
                families.host_survived.begin([label.as_str()]);
            }
        }
    }

    pub(super) fn gone(&mut self, owner: &Owner, families: &Families, now: Monotonic) {
        self.present.remove(owner);
        // The value of what is gone would be a lie, so it goes at once.
        match owner {
            Owner::Container(names) => {
                let labels = [&names.namespace, &names.pod, &names.container].map(String::as_str);
                families.oom_group.remove(labels);
                families.oom_group_wanted.remove(labels);
            }
            Owner::Host { cgroup } | Owner::Unnamed { cgroup } => {
                let label = cgroup.to_string();
                families.host_oom_group.remove([label.as_str()]);
                families.host_oom_group_wanted.remove([label.as_str()]);
            }
        }
        self.left(owner, now);
    }

    /// A cgroup of an owner was removed; unless the owner is matched and lives on
    /// in another one, its series go after a while.
    pub(super) fn left(&mut self, owner: &Owner, now: Monotonic) {
        if self.present.contains(owner) || matches!(owner, Owner::Unnamed { .. }) {
            return;
        }
        // Of most cgroups that are removed there is no series.
        if let Owner::Host { cgroup } = owner
            && !self.host.contains(&cgroup.to_string())
        {
            return;
        }
        self.gone.insert(owner.clone(), now);
    }

    /// The series of those that are gone for long enough go.
    pub(super) fn expire(
        &mut self,
        families: &Families,
        now: Monotonic,
        is_there: impl Fn(&ContainerNames) -> bool,
    ) {
        let retention = self.retention;
        // A container may end and start again long after; what counts is its pod.
        for (owner, gone) in &mut self.gone {
            if let Owner::Container(names) = owner
                && is_there(names)
            {
                *gone = now;
            }
        }
        let old = |gone: &Monotonic| now.saturating_duration_since(*gone) >= retention;
        for (owner, _) in self.gone.extract_if(|_, gone| old(gone)) {
            match owner {
                Owner::Container(ContainerNames { namespace, pod, container }) => {
                    let first = [&*namespace, &*pod, &*container];
                    families.kills.remove_all(&first);
                    families.survived.remove_all(&first);
                    families.processes.remove_all(&first);
                    families.restarts.remove_all(&first);
                    families.memory.remove(first);
                }
                Owner::Host { cgroup } => {
                    let label = cgroup.to_string();
                    families.host_kills.remove_all(&[label.as_str()]);
                    families.host_survived.remove_all(&[label.as_str()]);
                    self.host.remove(&label);
                }
                Owner::Unnamed { .. } => {}
            }
        }
    }
}

/// Kind and limit of each kill that may be a container's first. Whose limit it is that is
/// not known where the kernel does not say it, and there for all kills.
fn first_kills() -> impl Iterator<Item = (&'static str, &'static str)> {
    let kinds = [Kind::Subprocess, Kind::Init, Kind::Group];
    let limits = [Limit::Container, Limit::Pod, Limit::Node];
    let each = move |kind: Kind| limits.map(|limit| (kind.as_str(), limit.as_str()));
    kinds.into_iter().flat_map(each)
}
