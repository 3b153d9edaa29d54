//! Each container once, although crun has two cgroups for it.

use super::{ContainerState, Enforcer, container::Container};
use crate::cgroup::CgroupPath;
use std::collections::BTreeMap;

impl Enforcer {
    /// Each matched container, in the order of the paths.
    pub fn states(&self) -> Vec<ContainerState> {
        let state = |it: &Container| (it.path().clone(), it.state());
        let mut states: BTreeMap<_, _> = self.containers.values().map(state).collect();
        for container in self.containers.values() {
            let Some(scope) = container.scope().filter(|scope| states.contains_key(scope)) else {
                continue;
            };
            if let Some(inner) = states.remove(container.path())
                && let Some(whole) = states.get_mut(scope)
            {
                whole.take_in(inner);
            }
        }
        states.into_values().collect()
    }

    /// What is in a container's way, counted once for each.
    pub(super) fn report_obstacles(&self) {
        let mut obstacles: BTreeMap<&CgroupPath, _> = BTreeMap::new();
        for container in self.containers.values() {
            let Some(obstacle) = container.obstacle() else { continue };
            if let Some(scope) = container.scope() {
                obstacles.insert(scope, obstacle);
            } else {
                obstacles.entry(container.path()).or_insert(obstacle);
            }
        }
        let mut counts = BTreeMap::new();
        for obstacle in obstacles.into_values() {
            *counts.entry(obstacle).or_insert(0usize) += 1;
        }
        self.context.reporter.obstacles(&counts);
    }
}
