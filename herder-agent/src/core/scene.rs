//! The scene of a kill, captured when the kill is read: most of it is gone a moment later.
//!
//! Corrections come first, so no more is read than a few small files of two cgroups, for
//! [`READ_AT_ONCE`] kills a second. If the node was full, one file more of each container. What
//! was not read is said.

use super::{Core, describe::Surroundings};
use crate::kernel::cgroupfs::figures::node_memory;
use herder_model::{
    bucket::Bucket,
    cgroup::{CgroupId, CgroupPath, tree::Role},
    clock::Monotonic,
    kill::KillReport,
    oom::{Domain, Limit, limit::Place},
    owner::path::Place as Layer,
    scene::{
        LISTED, NodeContainer, Part, Scene, Why,
        finding::{About, find},
    },
};
use std::{cmp::Reverse, num::NonZero, sync::Arc, time::Duration};

/// So many kills at once, and then as many a second, have files read for them.
const READ_AT_ONCE: u32 = 10;
const FOR_ONE: Duration = Duration::from_millis(1000 / READ_AT_ONCE as u64);

/// Containers of a full node that are read for a kill: at some ten microseconds each, corrections
/// wait for a few milliseconds.
const MOST_CONTAINERS: usize = 512;

/// For how many kills files may be read now.
#[derive(Debug)]
pub(super) struct Scenes(Bucket<Monotonic>);

impl Default for Scenes {
    fn default() -> Self {
        Scenes(Bucket::full(READ_AT_ONCE, Monotonic::ZERO))
    }
}

impl Scenes {
    /// Takes one, if there is one left.
    fn take(&mut self, now: Monotonic) -> bool {
        self.0.refill(READ_AT_ONCE, FOR_ONE, now);
        self.0.take()
    }
}

impl Core {
    /// Takes what the kernel itself says about a kill that was just read. This is at hand.
    pub(super) fn begin_scene(&self, report: &mut KillReport) {
        let mut scene = Scene::default();
        self.take_candidates(&mut scene, report);
        report.scene = Some(Arc::new(scene));
    }

    /// Takes what the files say about it.
    pub(super) fn read_scene(&mut self, report: &mut KillReport) {
        let Some(mut shared) = report.scene.take() else { return };
        let scene = Arc::make_mut(&mut shared);
        let now = self.clock.now();
        if self.kills.scenes.take(now) {
            self.read_figures(scene, report);
            if report.limit == Limit::Node {
                self.read_containers(scene);
            }
            let marked = report.kill.victims.first().map(|victim| victim.time);
            let age = marked.map(|marked| self.clock.now().saturating_duration_since(marked));
            scene.read_seconds = age.map(|age| age.as_secs_f64());
        } else {
            scene.lacks(Part::Container, Why::TooFast);
            if report.limit == Limit::Node {
                scene.lacks(Part::Containers, Why::TooFast);
            }
        }
        report.scene = Some(shared);
    }

    /// Names the processes, now that the kill has its names, and finds what the scene shows.
    pub(super) fn conclude_scene(&self, report: &mut KillReport) {
        let Some(mut shared) = report.scene.take() else { return };
        let scene = Arc::make_mut(&mut shared);
        let around =
            Surroundings { cgroups: &self.cgroups, subjects: &self.subjects, files: &self.files };
        scene.name(|id| Some((around.path(id)?, around.owner_of(id).label())));
        let owner = report.owner.label();
        let is_machine = self.cgroups.begins_at == CgroupId::HIERARCHY_ROOT;
        let about = About {
            limit: report.limit,
            domain: report.limits.cgroup.as_ref(),
            is_pod: report.limits.place == Place::Parent && report.pod.is_some(),
            owner: Some(&owner),
            node: is_machine.then(node_memory),
        };
        scene.finding = find(scene, &about);
        report.scene = Some(shared);
    }

    /// What the kernel chose between, without what is not to be seen from this node.
    fn take_candidates(&self, scene: &mut Scene, report: &mut KillReport) {
        let traced = self.source.traced().candidates;
        let domain = report.kill.domain;
        let victims: Vec<_> = report.kill.victims.iter().map(|victim| victim.tgid).collect();
        let Some(mut candidates) = report.kill.candidates.take() else {
            let why = match domain {
                _ if self.source.only_counts() => Why::OnlyCounts,
                Domain::Unknown if traced => Why::NotWhole,
                _ if traced => Why::Lost,
                _ => Why::NotTraced,
            };
            scene.lacks(Part::Candidates, why);
            if domain != Domain::Node {
                scene.lacks(Part::Memory, why);
            }
            return;
        };
        match candidates.seen {
            None if traced => scene.lacks(Part::Candidates, Why::NotWhole),
            None => scene.lacks(Part::Candidates, Why::NotTraced),
            Some(0) => scene.lacks(Part::Candidates, Why::NotLookedAt),
            Some(_) => {}
        }
        if candidates.memory.is_none() && domain != Domain::Node {
            scene.lacks(Part::Memory, Why::UnknownDomain);
        }
        if self.cgroups.begins_at != CgroupId::HIERARCHY_ROOT {
            // Of a limit above the mount the processes of other nodes are candidates too.
            let tree = &self.cgroups.tree;
            candidates.largest.retain(|it| it.cgroup.is_some_and(|id| tree.nearest(id).is_some()));
        }
        scene.decided(*candidates, &victims);
    }

    /// What the files of the victim's container say, and of the cgroup whose limit was hit.
    fn read_figures(&self, scene: &mut Scene, report: &KillReport) {
        let Some(cgroup) = &report.cgroup else {
            scene.lacks(Part::Container, Why::UnknownCgroup);
            return;
        };
        let container = self.subjects.container_of(cgroup);
        // Where the container is another cgroup than the victim's, its id is not known.
        let own = report.kill.victims.first().map(|victim| victim.cgroup);
        let own = own.filter(|_| container == *cgroup);
        if container != CgroupPath::root() {
            scene.container = self.files.figures(&container, own);
            if scene.container.is_none() {
                scene.lacks(Part::Container, Why::Gone);
            }
        }
        match (report.kill.domain, &report.limits.cgroup) {
            (Domain::Cgroup(id), Some(domain)) if *domain != container => {
                scene.domain = self.files.figures(domain, Some(id));
                if scene.domain.is_none() {
                    scene.lacks(Part::Domain, Why::Gone);
                }
            }
            (Domain::Cgroup(_), None) if report.limit != Limit::Node => {
                scene.lacks(Part::Domain, Why::UnknownDomain);
            }
            (Domain::Unknown, _) => scene.lacks(Part::Domain, Why::UnknownDomain),
            _ => {}
        }
    }

    /// The containers of a full node that use the most memory.
    fn read_containers(&self, scene: &mut Scene) {
        let naming = &self.subjects.naming;
        let is_whole = |path: &CgroupPath| match naming.parse(path) {
            Some(cgroup) => {
                cgroup.container().is_some_and(|container| container.place == Layer::Top)
            }
            None => self.subjects.wanted(path).is_some(),
        };
        let containers = self.cgroups.tree.living().filter(|(id, path)| {
            self.cgroups.tree.role(*id) == Some(Role::Container) && is_whole(path)
        });
        let mut read: Vec<(u64, &CgroupPath)> = Vec::new();
        for (number, (_, path)) in containers.enumerate() {
            if number == MOST_CONTAINERS {
                scene.lacks(Part::Containers, Why::TooMany);
                break;
            }
            read.extend(self.files.current(path).map(|bytes| (bytes, path)));
        }
        read.sort_by_key(|(bytes, _)| Reverse(*bytes));
        scene.containers = read
            .into_iter()
            .take(LISTED)
            .map(|(memory, path)| {
                let named = naming.named(path);
                let spec = named.and_then(|named| named.pod.container(named.name?));
                NodeContainer {
                    owner: self.subjects.owner(path).label(),
                    memory,
                    request: spec.and_then(|spec| spec.memory_request).map(NonZero::get),
                    limit: self.files.limit(path),
                }
            })
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_for_some_kills_at_once_and_then_for_as_many_a_second() {
        let (mut scenes, mut now) = (Scenes::default(), Monotonic(5));
        let taken = |scenes: &mut Scenes, now| (0..100).filter(|_| scenes.take(now)).count();
        assert_eq!(taken(&mut scenes, now), 10);
        now = now + FOR_ONE * 3;
        assert_eq!(taken(&mut scenes, now), 3);
        now = now + Duration::from_secs(3600);
        assert_eq!(taken(&mut scenes, now), 10, "and never more");
    }
}
