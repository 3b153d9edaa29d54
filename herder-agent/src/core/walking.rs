//! Walks of the hierarchy: what is there at the start, and later the safety net for what
//! no event has told.
//!
//! Thousands of directories take too long for the core's thread, so a walk has one of its
//! own. It is taken part by part, and never further ahead than one part, so that neither the
//! core nor the memory has to bear all at once.

use super::Core;
use crate::{
    enforce::Origin,
    kernel::{
        cgroupfs::walk::{self, Part, Walked},
        clock::monotonic_now,
    },
};
use herder_model::{
    cgroup::{
        CgroupId, CgroupPath,
        tree::{Found, Role},
    },
    clock::Monotonic,
};
use std::{future::pending, io, mem, ops::ControlFlow, path::Path};
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
    ///
    /// # Errors
    /// When another cgroup is where the mount began.
    pub(super) fn first_walk(&mut self) -> io::Result<()> {
        let (began, root) = (self.begin_walk(), self.hierarchy());
        let walked = walk(root.as_deref(), |part| {
            self.take_part(began, part);
            ControlFlow::Continue(())
        });
        self.end_walk(began, walked)
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
        self.tree.begin_walk();
        self.way.clear();
        monotonic_now()
    }

    /// Takes what comes next of one.
    ///
    /// # Errors
    /// When another cgroup is where the mount began.
    pub(super) fn take_step(&mut self, began: Monotonic, step: Step) -> io::Result<()> {
        match step {
            Step::Found(part) => self.take_part(began, part),
            Step::Ended(walked) => self.end_walk(began, walked)?,
        }
        Ok(())
    }

    fn take_part(&mut self, began: Monotonic, part: Part) {
        // What was made before it was found has been told, and is no surprise of the walk.
        self.take_cgroups();
        for (id, path) in part {
            while self.way.pop_if(|(_, above)| !path.is_within(above)).is_some() {}
            let found = self.tree.found(id, began);
            let role = match found {
                Found::Known(role) | Found::Back(role) => role,
                Found::Unknown => self.role(&path),
            };
            if role == Role::Container {
                // Whose limit was hit is known by those above it, whatever room there was.
                for (id, path) in mem::take(&mut self.way) {
                    if self.tree.path(id).is_none() {
                        self.take_found(id, &path, role, began);
                    }
                    self.way.push((id, path));
                }
            }
            match found {
                Found::Known(_) => {}
                Found::Back(_) => self.appears(id, &path),
                Found::Unknown => self.take_found(id, &path, role, began),
            }
            self.way.push((id, path));
        }
    }

    fn take_found(&mut self, id: CgroupId, path: &CgroupPath, role: Role, began: Monotonic) {
        if self.tree.made(id, path.clone(), role, began) {
            self.appears(id, path);
        }
    }

    fn appears(&mut self, id: CgroupId, path: &CgroupPath) {
        self.awaited.cgroup_made(path);
        self.named_and_counted(id, path);
        self.decide(id, path, Origin::Existing);
    }

    fn end_walk(&mut self, began: Monotonic, walked: io::Result<Walked>) -> io::Result<()> {
        self.take_cgroups();
        for _ in 0..self.appearing.len() {
            self.try_appearing();
        }
        let now = monotonic_now();
        self.expire_kills(now);
        let complete = walked.as_ref().is_ok_and(Walked::is_complete);
        match walked {
            Ok(walked) => {
                self.begins_as_before()?;
                if let Some((path, error)) = walked.first_unread {
                    let unread = walked.unread;
                    tracing::warn!(%error, path, unread, "Cgroups cannot be read, nor what is below them.");
                }
                self.tree.refuse(Role::Other, walked.too_deep);
            }
            Err(error) => {
                tracing::warn!(%error, path = %self.root.display(), "Cannot walk the cgroups.");
            }
        }
        for id in self.tree.end_walk(complete, (began, now)) {
            self.forget_cgroup(id);
        }
        if complete {
            let tree = &self.tree;
            self.enforcer.retain_left(|id| tree.path(id).is_some() && !tree.is_gone(id));
            self.restore_left();
        }
        let late = mem::take(&mut self.late);
        for id in late.into_iter().chain(self.enforcer.take_beyond()) {
            if let Some(path) = self.tree.path(id).filter(|_| !self.tree.is_gone(id)).cloned() {
                self.decide(id, &path, Origin::Existing);
            }
        }
        self.after_walk(now);
        Ok(())
    }

    fn after_walk(&mut self, now: Monotonic) {
        self.tell_not_kept();
        if mem::replace(&mut self.walked, true) {
            self.recount();
        }
        self.take_effects();
        self.count_node();
        self.tree.forget(now);
        self.enforcer.resync();
        self.count_losses();
        self.expire_pods();
        self.reporter.expire(|names| self.naming.is_there(names));
    }

    /// How many cgroups are not kept, if that has changed.
    pub(super) fn tell_not_kept(&mut self) {
        let not_kept = Role::ALL.map(|role| self.tree.not_kept(role));
        if not_kept != self.not_kept {
            let before = mem::replace(&mut self.not_kept, not_kept);
            self.reporter.not_kept(before, not_kept);
            let ([containers, _], [of_before, _]) = (not_kept, before);
            if containers != of_before {
                self.enforcer.not_kept(containers);
            }
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
