//! From a kill as the kernel decided it to a report with all that is known around it.
//!
//! A kill is read some milliseconds after it happened, and its container may be gone, so
//! nothing that is read here has to be there.

use super::{cgroups::Cgroups, subjects::Subjects};
use crate::kernel::cgroupfs::CgroupFs;
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    kill::KillReport,
    oom::{
        Domain, Limit, OomKill, Victim,
        classify::Around,
        limit::{Limits, Place},
    },
    owner::Owner,
};

/// Outside of its containers the limit that was hit is the pod's.
pub(super) fn limit_of(owner: &Owner, limit: Limit) -> Limit {
    match owner {
        Owner::Container(names) if names.container.is_empty() && limit == Limit::Container => {
            Limit::Pod
        }
        _ => limit,
    }
}

/// What there is to look a kill up in.
pub(super) struct Surroundings<'a> {
    pub(super) cgroups: &'a Cgroups,
    pub(super) subjects: &'a Subjects,
    pub(super) files: &'a CgroupFs,
}

impl Surroundings<'_> {
    /// All that is known of a kill; none if it has no victim.
    pub(super) fn report(&self, kill: OomKill) -> Option<KillReport> {
        let naming = &self.subjects.naming;
        let cgroup = self.path(kill.victims.first()?.cgroup);
        let container = cgroup.as_ref().map(|path| self.subjects.container_of(path));
        // Where the kernel does not say whether it was a group, the files do.
        let by_file = kill.group.is_none().then(|| self.group_by_file(cgroup.as_ref()));
        let (oom_group, by_file) = by_file.unwrap_or_default();
        let tree = &self.cgroups.tree;
        let group = kill.group_cgroup.and_then(|id| tree.path(id).cloned()).or(by_file);
        let around = Around {
            container: container.as_ref(),
            oom_group,
            group: group.as_ref(),
            init: cgroup.as_ref().and_then(|path| naming.init(path)),
            path: |id| self.path(id),
        };
        let (kind, ends) = (around.kind(&kill), around.ends(&kill));
        let limits = self.limits(&kill, container.as_ref());
        let pods_own = container.as_ref().and_then(|path| naming.pods_own_limit(path));
        let owners: Vec<_> =
            kill.victims.iter().map(|victim| self.owner_of(victim.cgroup)).collect();
        let pod_of = |victim: &Victim| Some(naming.parse(&self.path(victim.cgroup)?)?.pod_uid);
        let victim_pods = kill.victims.iter().map(pod_of).collect();
        let owner = owners.first().cloned()?;
        let rule = container.as_ref().and_then(|path| self.subjects.wanted(path));
        let pod = cgroup.as_ref().and_then(|path| naming.parse(path));
        let limit = limit_of(&owner, limits.whose(pods_own));
        Some(KillReport {
            limits,
            ends,
            group,
            cgroup,
            victim_owners: owners,
            victim_pods,
            rule: rule.map(|target| target.rule.to_string()),
            pod,
            ..KillReport::new(owner, kind, limit, kill)
        })
    }

    /// The cgroup in which the kernel counts a victim. The victim's record says it; without that,
    /// the files do. `is_counted` says whether the count of a cgroup is read anyway.
    pub(super) fn counted_in(
        &self,
        victim: &Victim,
        is_counted: impl Fn(CgroupId) -> bool,
    ) -> CgroupId {
        let by_file = || {
            if is_counted(victim.cgroup) {
                return Some(victim.cgroup);
            }
            self.files.nearest_that_counts(&self.path(victim.cgroup)?)
        };
        victim.memory_cgroup.or_else(by_file).unwrap_or(victim.cgroup)
    }

    /// The path of a cgroup, or of the nearest above it that says whose it is.
    pub(super) fn path(&self, id: CgroupId) -> Option<CgroupPath> {
        self.cgroups.path_or_above(id, self.subjects)
    }

    /// Whether a victim's cgroup is in a group, if that can be read, and which: the highest
    /// cgroup up to the container that has `memory.oom.group=1`.
    pub(super) fn group_by_file(
        &self,
        cgroup: Option<&CgroupPath>,
    ) -> (Option<bool>, Option<CgroupPath>) {
        let Some(cgroup) = cgroup else { return (None, None) };
        let container = self.subjects.container_of(cgroup);
        let inside = |path: &CgroupPath| path.is_within(&container);
        let upwards = cgroup.upwards().take_while(inside);
        let (mut is_group, mut group) = (None, None);
        for path in upwards {
            let Some(value) = self.files.oom_group(&path) else { continue };
            is_group = Some(value || is_group == Some(true));
            if value {
                group = Some(path);
            }
        }
        (is_group, group)
    }

    /// Whose the processes of a cgroup are.
    pub(super) fn owner_of(&self, id: CgroupId) -> Owner {
        let Some(path) = self.path(id) else {
            return Owner::Host { cgroup: CgroupPath::root() };
        };
        let of_pod = self.subjects.naming.owner_of_kill(&path);
        of_pod.unwrap_or_else(|| self.subjects.owner(&self.subjects.container_of(&path)))
    }

    /// The limits around a kill in this container.
    fn limits(&self, kill: &OomKill, container: Option<&CgroupPath>) -> Limits {
        let cgroup = match kill.domain {
            Domain::Cgroup(id) => self.cgroups.tree.path(id).cloned(),
            Domain::Node | Domain::Outside | Domain::Unknown => None,
        };
        let place = Place::new(kill.domain, cgroup.as_ref(), container);
        let cgroup = cgroup.filter(|_| place != Place::Node);
        let parent = cgroup.as_ref().filter(|_| place == Place::Parent);
        Limits {
            place,
            bytes: cgroup.as_ref().and_then(|path| self.files.limit(path)),
            below: parent.and_then(|path| self.files.limits_below(path)),
            container: container.and_then(|path| self.files.memory(path)),
            killed: container.and_then(|path| self.killed(kill, path)),
            cgroup,
        }
    }

    /// Anonymous memory of the victims in a container.
    fn killed(&self, kill: &OomKill, container: &CgroupPath) -> Option<u64> {
        let inside = kill.victims.iter().filter(|victim| {
            self.cgroups.tree.path(victim.cgroup).is_some_and(|path| path.is_within(container))
        });
        let sizes = inside.filter_map(|victim| victim.sizes);
        sizes.map(|sizes| sizes.anon_rss).reduce(u64::saturating_add)
    }
}
