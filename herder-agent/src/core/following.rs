//! Looks at the containers that had a kill, and reports what became of them.

use super::{
    Core,
    fates::{Life, Settled},
};
use crate::enforce::may_be_stopped;
use herder_model::{cgroup::CgroupId, cgroup::CgroupPath, enforcement::Obstacle, kill::KillReport};
use std::collections::HashSet;

impl Core {
    /// Follows the container of the kill that was reported under this number. The root is no
    /// container.
    pub(super) fn follow_container(&mut self, kill: u64, report: &KillReport) {
        let (Some(victim), Some(cgroup)) = (report.kill.victims.first(), &report.cgroup) else {
            return;
        };
        let container = self.subjects.container_of(cgroup);
        if container == CgroupPath::root() {
            return;
        }
        let id = if container == *cgroup { Some(victim.cgroup) } else { self.files.id(&container) };
        let now = self.clock.now();
        let Some(id) = id.filter(|id| !self.cgroups.tree.is_gone(*id)) else {
            let age = now.saturating_duration_since(victim.time);
            let obstacle = id.and_then(|id| self.enforcer.obstacle(id));
            return self
                .settle_fates(vec![Settled { kill, container, ended: Some(age) }], obstacle);
        };
        // Those before it did not end the container, if this one does.
        if report.ends && !may_be_stopped(self.enforcer.systemd_transient(), &container) {
            let before = self.kills.fates.over(id, None);
            self.settle_fates(before, None);
        }
        // What becomes of the container is known when its init dies, or all of it.
        if !report.ends {
            self.kills.fates.follow(kill, id, container, victim.time.min(now));
        }
    }

    /// A cgroup was removed: if it was a container with a kill lately, that is its end.
    pub(super) fn container_removed(&mut self, id: CgroupId) {
        let settled = self.kills.fates.over(id, Some(self.clock.now()));
        // It is still known what stood in the way.
        let obstacle = settled.first().and_then(|_| self.enforcer.obstacle(id));
        self.settle_fates(settled, obstacle);
    }

    /// Looks at the containers whose time has come.
    pub(super) fn look_at_containers(&mut self) {
        let (files, transient) = (&self.files, self.enforcer.systemd_transient());
        let life = |id, path: &CgroupPath| {
            let is_there = files.id(path) == Some(id);
            match is_there && files.is_populated(path) == Some(true) {
                false => Life::Ended,
                true if may_be_stopped(transient, path) => Life::MayBeStopped,
                true => Life::Lives,
            }
        };
        let settled = self.kills.fates.look(self.clock.now(), life);
        self.settle_fates(settled, None);
    }

    pub(super) fn settle_fates(&mut self, settled: Vec<Settled>, obstacle: Option<Obstacle>) {
        let containers: HashSet<_> = settled.iter().map(|it| &it.container).collect();
        containers.into_iter().for_each(|container| self.recount_over_limit(container));
        for Settled { kill, container, ended } in settled {
            let owner = self.subjects.owner(&container);
            let Some(record) = self.reporter.settled(kill, &owner, ended, obstacle) else {
                continue;
            };
            if let Some(ended) = ended {
                let naming = &self.subjects.naming;
                self.notices.notice_end(naming, &container, &record, ended, obstacle);
            }
        }
    }
}
