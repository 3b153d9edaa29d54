//! From the kernel's marks to a report of each kill.

use super::{Core, decoded};
use crate::kernel::{clock::monotonic_now, source::Source};
use herder_model::{
    cgroup::{CgroupId, CgroupPath, OOM_GROUP, tree::Role},
    clock::Monotonic,
    kill::KillReport,
    oom::{
        Kind, Limit, OomKill,
        assemble::Outcome,
        classify::Scene,
        event::{Event, Lineage},
        reasons::{NoKill, Unattributed},
    },
    owner::Owner,
};
use std::iter;

/// Outside of its containers the limit that was hit is the pod's.
pub(super) fn limit_of(owner: &Owner, limit: Limit) -> Limit {
    match owner {
        Owner::Container(names) if names.container.is_empty() && limit == Limit::Container => {
            Limit::Pod
        }
        _ => limit,
    }
}

impl Core {
    /// Takes what the kernel told about victims.
    pub(super) fn take_kills(&mut self) {
        let mut events = Vec::new();
        let (page_size, reporter) = (self.page_size, &self.reporter);
        if let Source::Ebpf(probe) = &mut self.source {
            probe.read_kills(|record| events.extend(decoded(record, page_size, reporter)));
        }
        // A victim's cgroup was made before the victim died, so once the kill is
        // read, the other ring buffer has told the cgroup's path too.
        self.take_cgroups();
        if events.is_empty() {
            return;
        }
        let now = monotonic_now();
        for event in events {
            match event {
                Event::Marked(mark) => {
                    self.assembler.marked(mark.clone(), now);
                    self.find_over_limit(&mark);
                }
                Event::Decided(decision) => self.assembler.decided(decision, now),
                Event::Exited { tgid, after } => {
                    self.report_kills();
                    // A task that was dying anyway has been marked, but not killed.
                    if self.assembler.has_killed(tgid) {
                        self.reporter.victim_exited(tgid, after);
                    }
                }
                Event::Lineage(Lineage { cgroup, above }) => self.tree.lies_below(cgroup, &above),
                Event::CgroupMade(_) | Event::CgroupRemoved(_) | Event::CgroupOutside => {}
            }
        }
        self.report_kills();
        self.count_losses();
    }

    /// Gives up waiting for parts of kills that are overdue.
    pub(super) fn expire_kills(&mut self, now: Monotonic) {
        self.assembler.expire(now);
        self.report_kills();
        self.settle_deduced(now);
        self.count_losses();
    }

    fn report_kills(&mut self) {
        for outcome in self.assembler.outcomes() {
            match outcome {
                Outcome::Kill(kill) => {
                    let kill = self.of_this_node(kill);
                    self.report_kill(kill);
                }
                Outcome::Missing(count) => self.losses.missing(count),
                Outcome::NoKill(reason, victim) => {
                    self.reporter.no_kill(reason, victim.tgid, victim.tid);
                }
            }
        }
    }

    /// A kill without those of its victims that the mount does not show.
    fn of_this_node(&self, mut kill: OomKill) -> OomKill {
        for victim in kill.victims.extract_if(.., |victim| victim.is_outside) {
            self.reporter.no_kill(NoKill::OutsideMount, victim.tgid, victim.tid);
        }
        kill
    }

    pub(super) fn report_kill(&mut self, kill: OomKill) {
        let Some(victim) = kill.victims.first() else {
            return;
        };
        self.count_told(&kill);
        let cgroup = self.path_or_above(victim.cgroup);
        let container = cgroup.as_ref().map(|path| self.container_of(path));
        if container.is_none() {
            self.reporter.unattributed(Unattributed::UnknownCgroup);
        }
        // Where the kernel does not say whether it was a group, the files do.
        let by_file = kill.group.is_none().then(|| self.group_by_file(cgroup.as_ref()));
        let (oom_group, by_file) = by_file.unwrap_or_default();
        let group = kill.group_cgroup.and_then(|id| self.tree.path(id).cloned()).or(by_file);
        let scene = Scene {
            container: container.as_ref(),
            oom_group,
            group: group.as_ref(),
            init: cgroup.as_ref().and_then(|path| self.naming.init(path)),
            path: |id| self.path_or_above(id),
        };
        let (kind, ends) = (scene.kind(&kill), scene.ends(&kill));
        let exiting = self.exiting(&kill, kind, container.as_ref());
        let limits = self.limits(&kill, container.as_ref());
        let pods_own = container.as_ref().and_then(|path| self.naming.pods_own_limit(path));
        let owners: Vec<_> =
            kill.victims.iter().map(|victim| self.owner_of(victim.cgroup)).collect();
        let Some(owner) = owners.first().cloned() else {
            return;
        };
        let rule = container.as_ref().and_then(|path| self.wanted(path));
        let pod = cgroup.as_ref().and_then(|path| self.naming.parse(path));
        let report = KillReport {
            pod,
            kind,
            limit: limit_of(&owner, limits.whose(pods_own)),
            limits,
            ends,
            exiting,
            group,
            owner,
            cgroup,
            victim_owners: owners,
            rule: rule.map(|target| target.rule.to_string()),
            kill,
        };
        self.tell(report);
    }

    /// How many were still exiting when the kernel chose an init ([`KillReport::exiting`]).
    fn exiting(&mut self, kill: &OomKill, kind: Kind, container: Option<&CgroupPath>) -> usize {
        let Some(container) = container else { return 0 };
        let init = kill.victims.first().filter(|_| kind == Kind::Init);
        let count = init.map_or(0, |init| self.exiting.beside(init, container));
        self.exiting.add(kill, container);
        count
    }

    /// The path of a cgroup, or of the nearest one above it that is kept, if that says whose
    /// it is: above a container there may be one that nobody has told of.
    pub(super) fn path_or_above(&self, id: CgroupId) -> Option<CgroupPath> {
        let (nearest, path) = self.tree.nearest(id)?;
        let tells = nearest == id
            || self.tree.role(nearest) == Some(Role::Other)
            || self.naming.lies_in_container(path)
            || self.wanted(path).is_some();
        tells.then(|| path.clone())
    }

    /// Whether a victim's cgroup is in a group, if that can be read, and which: the highest
    /// cgroup up to the container that has `memory.oom.group=1`.
    fn group_by_file(&self, cgroup: Option<&CgroupPath>) -> (Option<bool>, Option<CgroupPath>) {
        let Some(cgroup) = cgroup else { return (None, None) };
        let container = self.container_of(cgroup);
        let inside = |path: &CgroupPath| path.is_within(&container);
        let upwards = iter::once(cgroup.clone()).chain(cgroup.ancestors()).take_while(inside);
        let (mut is_group, mut group) = (None, None);
        for path in upwards {
            let file = self.root.join(path.relative()).join(OOM_GROUP);
            let Ok(value) = std::fs::read_to_string(file) else { continue };
            is_group = Some(value.trim() == "1" || is_group == Some(true));
            if value.trim() == "1" {
                group = Some(path);
            }
        }
        (is_group, group)
    }

    fn owner_of(&self, id: CgroupId) -> Owner {
        let Some(path) = self.path_or_above(id) else {
            return Owner::Host { cgroup: CgroupPath::root() };
        };
        let of_pod = self.naming.owner_of_kill(&path);
        of_pod.unwrap_or_else(|| self.owner(&self.container_of(&path)))
    }

    /// The container that a cgroup belongs to: the nearest one that a rule
    /// matches, else the systemd unit it is in, else itself.
    pub(super) fn container_of(&self, path: &CgroupPath) -> CgroupPath {
        if let Some(container) = self.naming.container_path(path) {
            return container;
        }
        let upwards = || std::iter::once(path.clone()).chain(path.ancestors());
        let matched = upwards()
            .find(|path| self.wanted(path).is_some())
            .map(|found| self.scope_of(&found).unwrap_or(found));
        let unit = |path: &CgroupPath| {
            path.name().ends_with(".scope") || path.name().ends_with(".service")
        };
        matched.or_else(|| upwards().find(unit)).unwrap_or_else(|| path.clone())
    }
}
