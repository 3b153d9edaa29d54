//! Each container once, although crun has two cgroups for it.

use super::{ContainerState, Effect, Enforcer, container::Container};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    enforcement::Obstacle,
};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A container's place among all. While a cgroup is made anew, two have its path.
pub type StateKey = (CgroupPath, CgroupId);

/// Some matched containers.
#[derive(Debug)]
pub struct States {
    /// Their states, in the order of the paths.
    pub states: Vec<ContainerState>,
    /// The last of them, if there are more.
    pub next: Option<StateKey>,
}

impl Enforcer {
    /// The matched containers after one, or from the first on, in the order of the paths: so
    /// many at most.
    pub fn states(&self, after: Option<&StateKey>, most: usize) -> States {
        let paths: HashSet<&CgroupPath> = self.all().map(Container::path).collect();
        let is_inner = |it: &&Container| it.scope().is_some_and(|scope| paths.contains(scope));
        let inner: HashMap<&CgroupPath, &Container> =
            self.all().filter(is_inner).filter_map(|it| Some((it.scope()?, it))).collect();
        let key = |container: &&Container| (container.path().clone(), container.id());
        let follows = |container: &&Container| {
            after.is_none_or(|(path, id)| (container.path(), container.id()) > (path, *id))
        };
        let order = |one: &&Container, other: &&Container| {
            (one.path(), one.id()).cmp(&(other.path(), other.id()))
        };
        let whole = self.all().filter(|it| !is_inner(it));
        let mut found: Vec<&Container> = whole.filter(follows).collect();
        let more = found.len() > most;
        if more {
            found.select_nth_unstable_by(most, order);
            found.truncate(most);
        }
        found.sort_unstable_by(order);
        let state = |container: &Container| {
            let mut state = container.state();
            if let Some(inner) = inner.get(container.path()) {
                state.take_in(inner.state());
            }
            state
        };
        States {
            next: found.last().filter(|_| more).map(key),
            states: found.into_iter().map(state).collect(),
        }
    }

    /// What is in a container's way, counted once for each.
    pub(super) fn report_obstacles(&mut self) {
        let mut obstacles: BTreeMap<&CgroupPath, _> = BTreeMap::new();
        for container in self.all() {
            let Some(obstacle) = container.obstacle() else { continue };
            if let Some(scope) = container.scope() {
                obstacles.insert(scope, obstacle);
            } else {
                obstacles.entry(container.path()).or_insert(obstacle);
            }
        }
        let not_kept = usize::try_from(self.not_kept).unwrap_or(usize::MAX);
        let too_many = self.beyond.len().saturating_add(not_kept);
        let mut counts = BTreeMap::from([(Obstacle::TooMany, too_many)]);
        for obstacle in obstacles.into_values() {
            *counts.entry(obstacle).or_insert(0usize) += 1;
        }
        self.shared.effects.add(Effect::Obstacles(counts));
    }
}
