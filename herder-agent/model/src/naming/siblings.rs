//! The cgroups of one pod, in the order in which they were made.
//!
//! The order says what names do not: a pod's sandbox is made before its containers, and
//! of two containers that ran at the same time neither is the other's restart. A kill is
//! named later than it happens, so the last cgroups that went are remembered.

use super::{CgroupId, ContainerId, ContainerRole, unlisted::Awaited};
use std::collections::{BTreeMap, VecDeque};

/// So many containers' cgroups that are gone are remembered of each pod.
const MOST_GONE: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Siblings {
    /// All at or below the pod's own; with the container whose outermost one it is.
    living: BTreeMap<CgroupId, Option<Box<ContainerId>>>,
    gone: VecDeque<Gone>,
    /// What their bundles say they are, as long as their cgroups are remembered.
    roles: BTreeMap<ContainerId, ContainerRole>,
    pub(super) awaited: Awaited,
}

/// The outermost cgroup of a container that is gone.
#[derive(Debug)]
struct Gone {
    made: CgroupId,
    container: ContainerId,
    /// The newest cgroup of the pod that was made while this one was there.
    until: CgroupId,
}

impl Siblings {
    pub(super) fn made(&mut self, id: CgroupId, outermost_of: Option<ContainerId>) {
        self.living.insert(id, outermost_of.map(Box::new));
    }

    /// Says whether it was there.
    pub(super) fn removed(&mut self, id: CgroupId) -> bool {
        let newest = self.living.last_key_value().map(|(newest, _)| *newest);
        let Some(outermost_of) = self.living.remove(&id) else { return false };
        if let Some(container) = outermost_of {
            let newest_gone = self.gone.iter().map(|gone| gone.made).max();
            let until = newest.max(newest_gone).unwrap_or(id);
            self.gone.push_back(Gone { made: id, container: *container, until });
            if self.gone.len() > MOST_GONE
                && let Some(oldest) = self.gone.pop_front()
                && self.outermost(oldest.container).is_none()
            {
                self.roles.remove(&oldest.container);
            }
        }
        true
    }

    /// Takes what a container is. Says whether its cgroup is remembered.
    pub(super) fn set_role(&mut self, container: ContainerId, role: ContainerRole) -> bool {
        let is_remembered = self.outermost(container).is_some();
        if is_remembered {
            self.roles.insert(container, role);
        }
        is_remembered
    }

    /// What a container is by its bundle, if that was read.
    pub(super) fn role(&self, container: ContainerId) -> Option<&ContainerRole> {
        self.roles.get(&container)
    }

    pub(super) fn all_gone(&self) -> bool {
        self.living.is_empty()
    }

    pub(super) fn living(&self) -> impl Iterator<Item = CgroupId> {
        self.living.keys().copied()
    }

    /// The containers, and the sandbox, that have a cgroup.
    pub(super) fn containers(&self) -> impl Iterator<Item = ContainerId> {
        self.living.values().flatten().map(|container| **container)
    }

    /// The outermost cgroups of containers that are there, with whose they are.
    pub(super) fn outermost_living(&self) -> impl Iterator<Item = (CgroupId, ContainerId)> {
        self.living.iter().filter_map(|(id, container)| Some((*id, **container.as_ref()?)))
    }

    /// The containers that had a cgroup when this one's was made. None if it is not known.
    pub(super) fn older(&self, container: ContainerId) -> Option<Vec<ContainerId>> {
        let own = self.outermost(container)?;
        let living =
            self.living.range(..own).filter_map(|(_, container)| container.as_deref().copied());
        let gone = self.gone.iter().filter(|gone| gone.made < own && gone.until >= own);
        Some(living.chain(gone.map(|gone| gone.container)).collect())
    }

    /// Whether a container's cgroup was made after the first of these.
    pub(super) fn was_made_after(&self, container: ContainerId, these: &[ContainerId]) -> bool {
        let first = these.iter().filter_map(|id| self.outermost(*id)).min();
        first.is_some_and(|first| self.outermost(container).is_some_and(|made| made > first))
    }

    /// The containers whose cgroups were made after this one's.
    pub(super) fn younger(&self, container: ContainerId) -> impl Iterator<Item = ContainerId> {
        let own = self.outermost(container);
        self.outermosts().filter(move |(id, _)| own.is_some_and(|own| *id > own)).map(|(_, it)| it)
    }

    /// The containers whose cgroups were gone before this one's was made.
    pub(super) fn earlier(&self, container: ContainerId) -> impl Iterator<Item = ContainerId> {
        let own = self.outermost(container);
        let before = move |gone: &&Gone| own.is_some_and(|own| gone.until < own);
        self.gone.iter().filter(before).map(|gone| gone.container)
    }

    fn outermost(&self, container: ContainerId) -> Option<CgroupId> {
        self.outermosts().find(|(_, its)| *its == container).map(|(id, _)| id)
    }

    fn outermosts(&self) -> impl Iterator<Item = (CgroupId, ContainerId)> {
        self.outermost_living().chain(self.gone.iter().map(|gone| (gone.made, gone.container)))
    }
}
