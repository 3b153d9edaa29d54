//! What the cgroups around a kill say of their limits and their use, read right after it.
//!
//! A kill is read some milliseconds after it happened, and its container may be gone, so
//! nothing here has to be there.

use super::Core;
use crate::{
    cgroup::CgroupPath,
    oom::{
        Domain, OomKill,
        limit::{Limits, Memory, Parts, Place},
    },
};
use std::{fs, path::Path};

/// Most cgroups below one that are looked at. A pod has far fewer; a slice that somebody
/// gave a limit may have thousands, and corrections wait meanwhile.
const MOST: usize = 64;

impl Core {
    /// The limits around a kill in this container.
    pub(super) fn limits(&self, kill: &OomKill, container: Option<&CgroupPath>) -> Limits {
        let cgroup = match kill.domain {
            Domain::Cgroup(id) => self.tree.path(id).cloned(),
            Domain::Node | Domain::Unknown => None,
        };
        let place = Place::new(kill.domain, cgroup.as_ref(), container);
        let directory = |path: &CgroupPath| self.root.join(path.relative());
        let hit = cgroup.as_ref().filter(|_| place != Place::Node).map(&directory);
        let parent = hit.as_deref().filter(|_| place == Place::Parent);
        Limits {
            place,
            bytes: hit.as_deref().and_then(|directory| limit(directory).flatten()),
            below: parent.and_then(parts),
            container: container.and_then(|path| memory(&directory(path))),
            killed: container.and_then(|path| self.killed(kill, path)),
            cgroup: cgroup.filter(|_| place != Place::Node),
        }
    }

    /// Anonymous memory of the victims in a container.
    fn killed(&self, kill: &OomKill, container: &CgroupPath) -> Option<u64> {
        let inside = kill.victims.iter().filter(|victim| {
            self.tree.path(victim.cgroup).is_some_and(|path| path.is_within(container))
        });
        let sizes = inside.filter_map(|victim| victim.sizes);
        sizes.map(|sizes| sizes.anon_rss).reduce(u64::saturating_add)
    }
}

/// None if it is gone.
fn memory(directory: &Path) -> Option<Memory> {
    let limit = limit(directory)?;
    let number = |file| fs::read_to_string(directory.join(file)).ok()?.trim().parse().ok();
    Some(Memory { limit, current: number("memory.current"), peak: number("memory.peak") })
}

/// `memory.max`, which may be none; no answer if it cannot be read.
fn limit(directory: &Path) -> Option<Option<u64>> {
    match fs::read_to_string(directory.join("memory.max")).ok()?.trim() {
        "max" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

/// The limits of the cgroups directly below one.
fn parts(directory: &Path) -> Option<Parts> {
    let mut parts = Parts::default();
    let mut seen = 0;
    for entry in fs::read_dir(directory).ok()?.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        seen += 1;
        if seen > MOST {
            return None;
        }
        if let Some(bytes) = limit(&entry.path()).flatten() {
            parts.count += 1;
            parts.sum = parts.sum.saturating_add(bytes);
        }
    }
    Some(parts)
}
