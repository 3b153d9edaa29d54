//! Which series of containers there are: they begin at 0 when a container is
//! matched, and go some time after it is gone, when they have been scraped.

use super::families::Families;
use crate::{
    attribution::Owner,
    cgroup::CgroupPath,
    oom::{Kind, Limit},
};
use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

/// How long the series of a container outlive it.
const RETENTION: Duration = Duration::from_secs(15 * 60);

/// Most cgroups outside of pods that have series of their own.
const MOST_HOST_CGROUPS: usize = 512;

/// The cgroup label of the rest.
const OTHER: &str = "other";

#[derive(Debug, Default)]
pub(super) struct Series {
    host: HashSet<String>,
    gone: HashMap<Owner, Instant>,
}

impl Series {
    /// The label of a cgroup outside of pods. Those that come after the first
    /// [`MOST_HOST_CGROUPS`] share one.
    pub(super) fn host_label(&mut self, cgroup: &CgroupPath) -> String {
        let label = cgroup.as_str();
        let room = self.host.len() < MOST_HOST_CGROUPS;
        if self.host.contains(label) || room && self.host.insert(label.to_owned()) {
            label.to_owned()
        } else {
            OTHER.to_owned()
        }
    }

    /// A kill of a container that is gone: its series stay a while longer.
    pub(super) fn touch(&mut self, owner: &Owner) {
        if let Some(gone) = self.gone.get_mut(owner) {
            *gone = Instant::now();
        }
    }

    pub(super) fn present(&mut self, owner: &Owner, families: &Families, value: bool) {
        self.gone.remove(owner);
        match owner {
            Owner::Container(names) => {
                let labels = [&names.namespace, &names.pod, &names.container].map(String::as_str);
                families.oom_group.with_label_values(&labels).set(value.into());
                for kind in KINDS {
                    let [namespace, pod, container] = labels;
                    let kill =
                        [namespace, pod, container, kind.as_str(), Limit::Container.as_str()];
                    drop(families.kills.with_label_values(&kill));
                    drop(families.processes.with_label_values(&kill[..4]));
                }
            }
            Owner::Host { cgroup } => {
                let label = self.host_label(cgroup);
                // One number cannot stand for several cgroups.
                if label != OTHER {
                    families.host_oom_group.with_label_values(&[label.as_str()]).set(value.into());
                }
                for kind in KINDS {
                    let kill = [label.as_str(), kind.as_str(), Limit::Container.as_str()];
                    drop(families.host_kills.with_label_values(&kill));
                }
            }
        }
    }

    pub(super) fn gone(&mut self, owner: &Owner, families: &Families, now: Instant) {
        // The value of what is gone would be a lie, so it goes at once; a series
        // that was never there cannot be removed, which is no error.
        let _ = match owner {
            Owner::Container(names) => families.oom_group.remove_label_values(&[
                &names.namespace,
                &names.pod,
                &names.container,
            ]),
            Owner::Host { cgroup } => {
                families.host_oom_group.remove_label_values(&[cgroup.as_str()])
            }
        };
        self.gone.insert(owner.clone(), now);
    }

    pub(super) fn expire(&mut self, families: &Families, now: Instant) {
        let old = |gone: &Instant| now.saturating_duration_since(*gone) >= RETENTION;
        let expired: Vec<_> =
            self.gone.extract_if(|_, gone| old(gone)).map(|(owner, _)| owner).collect();
        for owner in expired {
            match owner {
                Owner::Container(names) => {
                    let labels =
                        [&names.namespace, &names.pod, &names.container].map(String::as_str);
                    remove_kills(families, &labels);
                }
                Owner::Host { cgroup } => {
                    for (kind, limit) in kinds_and_limits() {
                        let kill = [cgroup.as_str(), kind.as_str(), limit.as_str()];
                        let _ = families.host_kills.remove_label_values(&kill);
                    }
                    self.host.remove(cgroup.as_str());
                }
            }
        }
    }
}

const KINDS: [Kind; 3] = [Kind::Subprocess, Kind::Init, Kind::Group];

fn kinds_and_limits() -> impl Iterator<Item = (Kind, Limit)> {
    let limits = [Limit::Container, Limit::Pod, Limit::Node, Limit::Unknown];
    KINDS.into_iter().flat_map(move |kind| limits.map(|limit| (kind, limit)))
}

/// Series that are not there cannot be removed, which is no error.
fn remove_kills(families: &Families, [namespace, pod, container]: &[&str; 3]) {
    for (kind, limit) in kinds_and_limits() {
        let kill = [namespace, pod, container, kind.as_str(), limit.as_str()];
        let _ = families.kills.remove_label_values(&kill);
        let _ = families.processes.remove_label_values(&[namespace, pod, container, kind.as_str()]);
    }
}
