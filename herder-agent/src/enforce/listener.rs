//! Who is told of what enforcement does, in the moment it does it.

use herder_model::{
    cgroup::CgroupPath,
    enforcement::{Obstacle, OomGroupWrite},
    owner::Owner,
};
use std::collections::BTreeMap;

/// Logs and counts what enforcement does.
pub trait Listener: Send + Sync {
    /// A write of `memory.oom.group`, or in a dry run the wish for one.
    fn wrote(&self, write: &OomGroupWrite<'_>);

    /// The effective value of a matched container, `None` when it is gone, and the value that its
    /// rule wants.
    fn effective(&self, owner: &Owner, value: Option<bool>, wanted: bool);

    /// A matched container cannot be enforced, or (with `None`) now can.
    fn obstacle(&self, cgroup: &CgroupPath, rule: &str, obstacle: Option<(Obstacle, String)>);

    /// How many matched containers there are behind each obstacle.
    fn obstacles(&self, containers: &BTreeMap<Obstacle, usize>);
}
