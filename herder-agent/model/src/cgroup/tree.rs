//! Which path a cgroup id stands for.
//!
//! Filled by a walk at start and then by the kernel's mkdir and rmdir events. A removed cgroup
//! keeps its name for a while: a kill is often the last thing that happens in a cgroup, and its
//! record may be read after the removal.
//!
//! The owner of a delegated subtree may make any number of cgroups, each with a name of 255 bytes.
//! So the number is bounded, separately for cgroups of pods and rules and for all others, so that
//! neither kind crowds out the other. A kill in a cgroup that is not kept comes with the ids of the
//! cgroups above it, and is attributed to the nearest kept one.

mod share;

use super::{CgroupId, CgroupPath, unknown::Unknown};
use crate::clock::Monotonic;
use share::{Below, Share};
use std::{collections::HashMap, time::Duration};

/// How long a removed cgroup can still be named. The records of a
/// kill wait at most a minute (`oom::assemble::EXIT_WAIT`).
pub const KEEP_REMOVED: Duration = Duration::from_secs(300);

/// How long a cgroup that an event has announced is new. Its runtime writes `memory.oom.group` some
/// milliseconds after it has made it, a starved node some seconds.
const NEW_FOR: Duration = Duration::from_secs(10);

labels! {
    /// What a cgroup is to the agent.
    pub enum Role {
        /// A rule matches it, it is a pod's or its container's own, or one of those lies below.
        Container = "container",
        /// Any other: kills in it are reported too.
        Other = "other",
    }
}

/// The cgroups of the v2 hierarchy by id.
#[derive(Debug)]
pub struct CgroupTree {
    known: HashMap<CgroupId, Known>,
    containers: Share,
    others: Share,
    below: Below,
}

#[derive(Debug)]
struct Known {
    path: CgroupPath,
    role: Role,
    since: Monotonic,
    /// An event reported it, not a walk: until then it was not there.
    announced: bool,
    /// When the last walk began that found it.
    seen: Monotonic,
    gone: Option<Monotonic>,
}

/// What becomes of a cgroup that a walk has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Known(Role),
    /// It was taken for removed.
    Back(Role),
    /// It is not known, and may be taken with [`CgroupTree::listed`].
    Unknown,
}

impl Default for CgroupTree {
    fn default() -> Self {
        CgroupTree {
            known: HashMap::new(),
            containers: Share::new(share::CONTAINERS),
            others: Share::new(share::OTHERS),
            below: Below::default(),
        }
    }
}

impl CgroupTree {
    /// The path of a cgroup, of a removed one too.
    pub fn path(&self, id: CgroupId) -> Option<&CgroupPath> {
        self.known.get(&id).map(|known| &known.path)
    }

    /// A cgroup if it is kept, else the nearest one above it that is, as far as a victim's
    /// record had them.
    pub fn nearest(&self, id: CgroupId) -> Option<(CgroupId, &CgroupPath)> {
        let kept = |id: CgroupId| self.path(id).map(|path| (id, path));
        kept(id).or_else(|| kept(self.below.nearest(id)?))
    }

    pub fn role(&self, id: CgroupId) -> Option<Role> {
        self.known.get(&id).map(|known| known.role)
    }

    pub fn is_gone(&self, id: CgroupId) -> bool {
        self.known.get(&id).is_some_and(|known| known.gone.is_some())
    }

    pub fn living(&self) -> impl Iterator<Item = (CgroupId, &CgroupPath)> {
        let living = self.known.iter().filter(|(_, known)| known.gone.is_none());
        living.map(|(id, known)| (*id, &known.path))
    }

    /// Cgroups that were there at the last walk, or made since, and are not kept.
    pub fn not_kept(&self, role: Role) -> u64 {
        self.share(role).refused()
    }

    fn share(&self, role: Role) -> &Share {
        match role {
            Role::Container => &self.containers,
            Role::Other => &self.others,
        }
    }

    fn share_mut(&mut self, role: Role) -> &mut Share {
        match role {
            Role::Container => &mut self.containers,
            Role::Other => &mut self.others,
        }
    }

    /// Takes a cgroup that was made at a time, as an event says. Returns whether it is not known
    /// yet, and there was room for it.
    pub fn made(&mut self, id: CgroupId, path: CgroupPath, role: Role, now: Monotonic) -> bool {
        self.take(id, Known { path, role, since: now, announced: true, seen: now, gone: None })
    }

    /// Takes a cgroup that a walk has found which began at this time. Returns whether it is not
    /// known yet, and there was room for it.
    pub fn listed(&mut self, id: CgroupId, path: CgroupPath, role: Role, began: Monotonic) -> bool {
        let (since, seen) = (began, began);
        self.take(id, Known { path, role, since, announced: false, seen, gone: None })
    }

    fn take(&mut self, id: CgroupId, known: Known) -> bool {
        if self.known.contains_key(&id) || !self.has_room(known.role, &known.path) {
            return false;
        }
        self.share_mut(known.role).take(&known.path);
        self.known.insert(id, known);
        true
    }

    /// Whether a cgroup was made so lately that its runtime may not have written its values yet.
    pub fn is_new(&self, id: CgroupId, now: Monotonic) -> bool {
        let is_new = |known: &Known| known.announced && now < known.since + NEW_FOR;
        self.known.get(&id).is_some_and(is_new)
    }

    /// Counts cgroups that cannot be kept, whatever room there is.
    pub fn refuse(&mut self, role: Role, cgroups: u64) {
        self.share_mut(role).refuse(cgroups);
    }

    /// Makes room by forgetting what was removed longest ago.
    fn has_room(&mut self, role: Role, path: &CgroupPath) -> bool {
        while !self.share(role).has_room(path) {
            let Some((id, at)) = self.share_mut(role).removed.pop_front() else {
                self.refuse(role, 1);
                return false;
            };
            self.forget_one(id, at);
        }
        true
    }

    /// Takes a removal at a time. Returns whether it was there.
    pub fn removed(&mut self, id: CgroupId, now: Monotonic) -> bool {
        let Some(known) = self.known.get_mut(&id) else {
            self.others.refused_one_less();
            return false;
        };
        if known.gone.is_some() {
            return false;
        }
        known.gone = Some(now);
        let role = known.role;
        self.share_mut(role).removed.push_back((id, now));
        self.forget(now);
        true
    }

    /// Forgets what was removed long ago.
    pub fn forget(&mut self, now: Monotonic) {
        for role in Role::ALL {
            while let Some((id, at)) = self.share_mut(role).next_forgotten(now) {
                self.forget_one(id, at);
            }
        }
    }

    /// Forgets one that was removed at this time, unless it is there again.
    fn forget_one(&mut self, id: CgroupId, at: Monotonic) {
        if self.known.get(&id).is_some_and(|known| known.gone == Some(at))
            && let Some(known) = self.known.remove(&id)
        {
            self.share_mut(known.role).give(&known.path);
        }
    }

    /// Other rules decide what a cgroup is.
    pub fn sort(&mut self, role: impl Fn(&CgroupPath) -> Role) {
        for known in self.known.values_mut().filter(|known| known.gone.is_none()) {
            let role = role(&known.path);
            if role != known.role {
                let (from, to) = match role {
                    Role::Container => (&mut self.others, &mut self.containers),
                    Role::Other => (&mut self.containers, &mut self.others),
                };
                from.give(&known.path);
                to.take(&known.path);
                known.role = role;
            }
        }
    }

    /// Takes a cgroup that a walk has found which began at this time.
    pub fn found(&mut self, id: CgroupId, began: Monotonic) -> Found {
        let Some(known) = self.known.get_mut(&id) else { return Found::Unknown };
        known.seen = began;
        // Ids are not used again. So a cgroup that was taken for removed, and is found, has never
        // gone.
        if known.gone.is_some_and(|gone| gone < began) {
            known.gone = None;
            return Found::Back(known.role);
        }
        Found::Known(known.role)
    }

    /// Ends a walk that began and ended at these times and has found all that is there, but for
    /// what it could not read. Returns which cgroups are gone without an event. Events win for
    /// cgroups that were made or removed during the walk.
    pub fn end_walk(
        &mut self,
        unknown: &Unknown,
        (began, ended): (Monotonic, Monotonic),
    ) -> Vec<CgroupId> {
        self.containers.end_walk();
        self.others.end_walk();
        let unfound =
            |known: &Known| known.gone.is_none() && known.since < began && known.seen != began;
        let vanished = |known: &Known| unfound(known) && !unknown.contains(&known.path);
        let vanished: Vec<CgroupId> =
            self.known.iter().filter(|(_, known)| vanished(known)).map(|(id, _)| *id).collect();
        for id in &vanished {
            self.removed(*id, ended);
        }
        vanished
    }

    /// A walk begins, which finds again what is not kept.
    pub fn begin_walk(&mut self) {
        self.containers.begin_walk();
        self.others.begin_walk();
    }

    /// Takes which cgroups lie above one, from the root's child on.
    pub fn lies_below(&mut self, id: CgroupId, above: &[CgroupId]) {
        if self.known.contains_key(&id) {
            return;
        }
        let is_known = |id: &&CgroupId| self.known.contains_key(id);
        let Some(nearest) = above.iter().rev().find(is_known).copied() else { return };
        // Those between may have the limit that was hit.
        let between = above.iter().rev().take_while(|above| **above != nearest);
        for id in between.copied().chain([id]) {
            self.below.insert(id, nearest);
        }
    }
}

#[cfg(test)]
mod tests;
