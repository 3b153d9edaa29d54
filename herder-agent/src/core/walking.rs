//! Walks of the hierarchy. The first finds what is there at the start; later ones are the safety
//! net for cgroups that no event has announced.
//!
//! Thousands of directories take too long for the core's thread, so a walk has one of its own. It
//! is taken part by part, and never further ahead than one part, so that neither the core nor the
//! memory has to bear all at once.

use super::Core;
use crate::{
    enforce::Origin,
    kernel::cgroupfs::walk::{self, Part, Walked},
};
use herder_model::{
    cgroup::{
        CgroupId, CgroupPath,
        tree::{Found, Role},
        unknown::Unknown,
    },
    clock::Monotonic,
};
use std::{
    future::pending,
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
};
use tokio::{sync::mpsc, task::spawn_blocking};

/// A walk that goes on.
pub(super) struct Walking {
    began: Monotonic,
    steps: mpsc::Receiver<Step>,
}

/// What a walk has found, or how it has ended.
pub(super) enum Step {
    Found(Part),
    Ended(io::Result<Walked>),
}

/// Waits for the next step of a walk, with when that began; for ever if there is none.
pub(super) async fn next_step(walking: &mut Option<Walking>) -> (Monotonic, Step) {
    let Some(walk) = walking else { return pending().await };
    let ended = || Step::Ended(Err(io::Error::other("the walk's thread panicked")));
    let (began, step) = (walk.began, walk.steps.recv().await.unwrap_or_else(ended));
    if matches!(step, Step::Ended(_)) {
        *walking = None;
    }
    (began, step)
}

impl Core {
    /// Finds all that is there before the agent is ready.
    pub fn begin(&mut self) -> io::Result<()> {
        self.ask_for_arguments(None);
        let (began, root) = (self.begin_walk(), self.hierarchy());
        let walked = walk(root.as_deref(), |part| {
            self.take_part(began, part);
            ControlFlow::Continue(())
        });
        self.end_walk(began, walked)?;
        self.begin_over_limit();
        Ok(())
    }

    /// Begins one of those that follow.
    pub(super) fn start_walk(&mut self) -> Walking {
        let (began, root) = (self.begin_walk(), self.hierarchy());
        let (to, steps) = mpsc::channel(1);
        spawn_blocking(move || {
            let walked = walk(root.as_deref(), |part| match to.blocking_send(Step::Found(part)) {
                Ok(()) => ControlFlow::Continue(()),
                // The agent ends.
                Err(_) => ControlFlow::Break(()),
            });
            let _ = to.blocking_send(Step::Ended(walked));
        });
        Walking { began, steps }
    }

    fn begin_walk(&mut self) -> Monotonic {
        self.cgroups.begin_walk();
        self.clock.now()
    }

    /// Where the hierarchy is, if there is one.
    fn hierarchy(&self) -> Option<PathBuf> {
        self.enforcer.has_root().then(|| self.files.root().to_path_buf())
    }

    /// Takes what comes next of one.
    pub(super) fn take_step(&mut self, began: Monotonic, step: Step) -> io::Result<()> {
        match step {
            Step::Found(part) => self.take_part(began, part),
            Step::Ended(walked) => self.end_walk(began, walked)?,
        }
        Ok(())
    }

    fn take_part(&mut self, began: Monotonic, part: Part) {
        // Events come first: a cgroup that one has announced must not pass for a find of the walk.
        self.take_cgroups();
        for (id, path) in part {
            let found = self.cgroups.tree.found(id, began);
            let role = match found {
                Found::Known(role) | Found::Back(role) => role,
                Found::Unknown => self.subjects.role(&path),
            };
            for (id, path) in self.cgroups.walks_to(&path, role) {
                self.take_found(id, &path, role, began);
            }
            match found {
                Found::Known(_) => {}
                // What it had counted before it seemed to go was reported.
                Found::Back(_) => self.appears(id, &path, true),
                Found::Unknown => self.take_found(id, &path, role, began),
            }
            self.cgroups.walked_past(id, path);
        }
    }

    /// Takes one that was there before it was found, at this time.
    pub(super) fn take_found(
        &mut self,
        id: CgroupId,
        path: &CgroupPath,
        role: Role,
        at: Monotonic,
    ) {
        if self.cgroups.tree.listed(id, path.clone(), role, at) {
            self.appears(id, path, self.cgroups.existed(id));
        }
    }

    fn appears(&mut self, id: CgroupId, path: &CgroupPath, has_past: bool) {
        self.awaited.cgroup_made(path);
        self.can_be_named(id, path, false);
        self.count_cgroup(id, path, has_past);
        self.decide(id, path, Origin::Existing);
    }

    fn end_walk(&mut self, began: Monotonic, walked: io::Result<Walked>) -> io::Result<()> {
        self.take_cgroups();
        for _ in 0..self.cgroups.appearing.len() {
            self.try_appearing();
        }
        let now = self.clock.now();
        self.expire_kills(now);
        let unknown = match walked {
            Ok(walked) => {
                // This error ends the agent; `run` reports what was done until now.
                self.begins_as_before()?;
                if let Some((path, error)) = walked.first_unread {
                    let unread = walked.unread;
                    tracing::warn!(%error, path, unread, "Some cgroups, and those below them, cannot be read.");
                }
                self.cgroups.tree.refuse(Role::Other, walked.too_deep);
                walked.unknown
            }
            Err(error) => {
                tracing::warn!(%error, path = %self.files.root().display(), "Cannot walk the cgroups.");
                Unknown::everything()
            }
        };
        for id in self.cgroups.tree.end_walk(&unknown, (began, now)) {
            self.forget_cgroup(id);
        }
        self.forget_left(&unknown);
        self.restore_left(&unknown);
        let mut late = self.cgroups.take_late();
        late.extend(self.enforcer.take_beyond());
        late.retain(|id| self.cgroups.living(*id).is_some());
        self.decide_some(late);
        self.after_walk(now);
        Ok(())
    }

    /// Forgets what an earlier agent left of cgroups that are gone.
    fn forget_left(&mut self, unknown: &Unknown) {
        // Without a mount nothing says what is gone.
        if !self.enforcer.has_root() {
            return;
        }
        let cgroups = &self.cgroups;
        self.enforcer.retain_left(|id, path| {
            let may_be_there = || path.map_or(!unknown.is_nothing(), |it| unknown.contains(it));
            cgroups.living(id).is_some() || may_be_there()
        });
        let enforcer = &self.enforcer;
        self.escalations.retain_left(|id| cgroups.living(id).is_some() || enforcer.is_left(id));
    }

    fn after_walk(&mut self, now: Monotonic) {
        self.report_not_kept();
        if self.cgroups.all_walked() {
            self.recount();
        }
        self.take_effects();
        self.count_node();
        self.cgroups.tree.forget(now);
        self.enforcer.resync();
        self.count_losses();
        self.expire_pods();
        self.reporter.expire(|names| self.subjects.naming.is_there(names));
    }

    /// A directory below the mount may be removed and made again. Then neither the programs nor the
    /// part that writes values know the new one; only the next agent does.
    fn begins_as_before(&self) -> io::Result<()> {
        match self.files.id(&CgroupPath::root()) {
            Some(now) if self.enforcer.has_root() && now != self.cgroups.begins_at => {
                let path = self.files.root().display();
                Err(io::Error::other(format!("{path} is another cgroup than at the start")))
            }
            _ => Ok(()),
        }
    }
}

/// Without a v2 mount there is nothing to walk: whatever else is mounted there has
/// ids of its own, which mean other cgroups here. All processes are then in the
/// root of v2.
fn walk(root: Option<&Path>, mut take: impl FnMut(Part) -> ControlFlow<()>) -> io::Result<Walked> {
    match root {
        Some(root) => walk::walk(root, take),
        None => {
            // Whether more is wanted does not matter.
            let _ = take(vec![(CgroupId::HIERARCHY_ROOT, CgroupPath::root())]);
            Ok(Walked::default())
        }
    }
}
