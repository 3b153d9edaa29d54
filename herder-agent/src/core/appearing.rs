//! New cgroups: known by their name as soon as they can be, and brought under their
//! rule one at a time, when the kernel lets them be opened.

use super::Core;
use crate::{enforce::Origin, kernel::clock::monotonic_now};
use herder_model::{
    cgroup::{CgroupId, CgroupPath, tree::Role},
    oom::event::{Base, CgroupEvent, is_cut},
    rules::matching::Verdict,
};
use std::{os::unix::fs::MetadataExt, time::Duration};
use tokio::time::Instant;

/// How long a new cgroup's directory is tried for, from when its event is read. The kernel announces it some
/// microseconds before it can be opened; an emulated or busy node takes longer.
const APPEARS_WITHIN: Duration = Duration::from_millis(100);

/// Pause between two such tries.
const APPEARS_RETRY: Duration = Duration::from_millis(1);

/// Most that wait for that at once; a walk finds those beyond.
const MOST_APPEARING: usize = 1024;

/// A cgroup that was announced, and is yet to be brought under its rule.
pub(super) struct Appearing {
    /// None where the kernel has no BTF to tell it by.
    pub(super) id: Option<CgroupId>,
    path: CgroupPath,
    /// Its path may begin above the mount.
    is_sought: bool,
    /// When it is tried, again if it could not be opened before.
    pub(super) due: Instant,
    until: Instant,
}

impl Core {
    pub(super) fn cgroup_made(&mut self, made: CgroupEvent) {
        // One that is gone again was there all the same.
        self.awaited.cgroup_made(&made.path);
        if is_cut(&made.path) {
            // A kill in it is told by what lies above it, and a walk finds its path.
            self.tree.refuse(Role::Other, 1);
            return;
        }
        let is_sought = made.base == Base::Hierarchy && self.begins_at != CgroupId::HIERARCHY_ROOT;
        let id = made.id.or_else(|| self.inode(&made.path).filter(|_| !is_sought));
        if let Some(id) = id.filter(|_| !is_sought)
            && (!self.enters(id, &made.path) || self.is_left_alone(&made.path))
        {
            return;
        }
        if self.appearing.len() >= MOST_APPEARING {
            self.losses.cgroups_unseen();
            return;
        }
        let due = Instant::now();
        let until = due + APPEARS_WITHIN;
        self.appearing.push_back(Appearing { id, path: made.path, is_sought, due, until });
    }

    /// Where the mount shows a cgroup of which it is only known what it is called from the
    /// hierarchy's root. Without an id the event is no more than a reason to look: what is
    /// there, and is new, is a cgroup of ours, whichever the event was about.
    fn find(&self, appearing: &Appearing) -> Option<(CgroupId, CgroupPath)> {
        let paths = (0..).map_while(|level| appearing.path.from_level(level));
        let mut found = paths.filter_map(|path| Some((self.inode(&path)?, path)));
        found.find(|(id, _)| match appearing.id {
            Some(wanted) => *id == wanted,
            None => self.tree.path(*id).is_none(),
        })
    }

    /// Whether nothing is to be done about a cgroup, not even to be told.
    fn is_left_alone(&self, path: &CgroupPath) -> bool {
        let verdict = self.naming.verdict(&self.policy, path);
        matches!(verdict, Verdict::Unmatched | Verdict::Leave { .. })
    }

    /// When the next new cgroup is tried.
    pub(super) fn next_appears(&self) -> Option<Instant> {
        self.appearing.iter().map(|appearing| appearing.due).min()
    }

    /// From now on its kills can be named. Tells whether it is new, and is kept.
    fn enters(&mut self, id: CgroupId, path: &CgroupPath) -> bool {
        let is_new = self.tree.made(id, path.clone(), self.role(path), monotonic_now());
        if is_new {
            self.named_and_counted(id, path);
        }
        is_new
    }

    /// Brings the next new cgroup under its rule, or puts it off if it cannot be
    /// opened yet.
    pub(super) fn try_appearing(&mut self) {
        let now = Instant::now();
        let due = self.next_appears();
        let next = self.appearing.iter().position(|appearing| Some(appearing.due) == due);
        let Some(mut appearing) = next.and_then(|next| self.appearing.remove(next)) else {
            return;
        };
        if appearing.is_sought {
            match self.find(&appearing) {
                Some((id, path)) => {
                    if !self.enters(id, &path) || self.is_left_alone(&path) {
                        return;
                    }
                    appearing = Appearing { id: Some(id), path, is_sought: false, ..appearing };
                }
                None if now >= appearing.until => return,
                None => {
                    appearing.due = now + APPEARS_RETRY;
                    return self.appearing.push_back(appearing);
                }
            }
        }
        if appearing.id.is_none() {
            appearing.id = self.inode(&appearing.path);
            if let Some(id) = appearing.id
                && !self.enters(id, &appearing.path)
            {
                return;
            }
        }
        let governed = appearing.id.is_some_and(|id| {
            self.decide(id, &appearing.path, Origin::Made);
            self.enforcer.governs(id) || self.wanted(&appearing.path).is_none()
        });
        match appearing.id {
            _ if governed => {}
            Some(id) if now >= appearing.until => self.late.push(id),
            None if now >= appearing.until => {}
            _ => self.appearing.push_back(Appearing { due: now + APPEARS_RETRY, ..appearing }),
        }
    }

    pub(super) fn inode(&self, path: &CgroupPath) -> Option<CgroupId> {
        let directory = std::fs::metadata(self.root.join(path.relative())).ok()?;
        Some(CgroupId(directory.ino()))
    }
}
