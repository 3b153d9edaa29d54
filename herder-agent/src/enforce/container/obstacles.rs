//! What is in the way of one matched container's value.

use super::{Container, Context, obstacle};
use herder_model::enforcement::Obstacle;
use std::time::Instant;

impl Container {
    /// Its runtime may be about to enable it, or somebody has taken it away.
    pub(super) fn has_no_controller(&mut self, context: &Context, seen: Instant) {
        self.show(None, context);
        if self.built_until.is_none() {
            let until = seen + context.options.built_within;
            self.built_until = Some(until);
            context.built.borrow_mut().push_back((until, self.id));
        }
    }

    /// Looks for what overrides a value of 0. For 1 nothing does. What is around a scope is
    /// around crun's cgroup in it too.
    pub(in crate::enforce) fn check_surroundings(&mut self, context: &Context) {
        self.surroundings = None;
        if !self.target.value
            && self.scope.is_none()
            && let Some(root) = &context.root
        {
            let root = root.proc_path();
            let transient = &context.options.systemd_transient;
            self.surroundings = obstacle::ancestor(&root, &self.path)
                .map(|ancestor| (Obstacle::Ancestor, obstacle::ancestor_text(&ancestor)))
                .or_else(|| {
                    let (scope, policy) = obstacle::systemd_scope(transient, &self.path)?;
                    Some((Obstacle::SystemdOomPolicy, obstacle::systemd_text(scope, policy)))
                });
        }
        self.tell_obstacle(context);
    }

    pub(in crate::enforce) fn obstacle(&self) -> Option<Obstacle> {
        self.obstacle_text().map(|(obstacle, _)| *obstacle)
    }

    pub(super) fn obstacle_text(&self) -> Option<&(Obstacle, String)> {
        let file = self.file_obstacle.as_ref().filter(|_| !self.is_being_built());
        file.or(self.surroundings.as_ref()).or(self.no_watch.as_ref())
    }

    /// It has no memory controller, which may be yet to come. Within a scope it needs none:
    /// the kernel then goes by the scope's value.
    fn is_being_built(&self) -> bool {
        self.built_until.is_some_and(|until| self.scope.is_some() || Instant::now() < until)
    }
}
