//! The obstacles of one matched container: its file cannot be opened or written, something around
//! it overrides the value, or it cannot be watched.

use super::{Container, Context, Shared};
use crate::{
    enforce::{effect::Effect, obstacle},
    kernel::cgroupfs::dir::DirError,
};
use herder_model::{clock::Monotonic, enforcement::Obstacle};

/// The obstacle, and for people, why and what to do.
type Reason = (Obstacle, String);

/// Everything that is in a container's way.
#[derive(Default)]
pub(super) struct Blocked {
    file: Option<Reason>,
    /// Until then a missing memory controller is not reported.
    built_until: Option<Monotonic>,
    /// That time is over.
    should_be_built: bool,
    surroundings: Option<Reason>,
    watch: Option<Reason>,
    reported: Option<Obstacle>,
}

impl Blocked {
    /// Its value is what the rule wants.
    pub(super) fn by_nothing(&mut self) {
        (self.file, self.built_until, self.should_be_built) = (None, None, false);
    }

    /// Its file could not be read or written.
    pub(super) fn by_file(&mut self, error: &DirError) {
        let obstacle = obstacle::of(error).unwrap_or(Obstacle::ReadOnly);
        self.file = Some((obstacle, error.to_string()));
    }

    pub(super) fn has_no_watch(&mut self, why: Option<String>) {
        self.watch = why.map(|why| (Obstacle::NoWatch, why));
    }

    /// Without a watch the runtime's write may have been missed.
    pub(super) fn sees_every_write(&self) -> bool {
        self.watch.is_none()
    }

    /// Why its file cannot be opened.
    pub(super) fn file_text(&self) -> &str {
        self.file.as_ref().map_or("cannot open it", |(_, why)| why)
    }

    pub(super) fn forget(&mut self) {
        (self.file, self.surroundings, self.watch) = (None, None, None);
    }

    /// The first of them. A cgroup in the making has no memory controller yet; within a scope
    /// it needs none, since the kernel then goes by the scope's value.
    fn reason(&self, in_scope: bool) -> Option<&Reason> {
        let in_the_making = self.built_until.is_some() && (in_scope || !self.should_be_built);
        let file = self.file.as_ref().filter(|_| !in_the_making);
        file.or(self.surroundings.as_ref()).or(self.watch.as_ref())
    }
}

impl Container {
    /// Opens the directory, if that is not done yet. A failure (no cgroup v2, no free descriptor)
    /// is an obstacle, and opening is tried again.
    pub(super) fn open_directory(&mut self, context: &Context) -> Result<(), DirError> {
        if self.directory.is_some() {
            return Ok(());
        }
        let opened = context.root.as_ref().map(|root| root.open_dir(&self.path, self.id));
        match opened {
            // The kernel gives the lowest number that is free.
            Some(Ok(directory)) if directory.number() >= context.options.descriptors => {
                let why = "no file descriptor is left for it; raise the limit of open files (LimitNOFILE= of the agent, or of the container runtime)".to_owned();
                self.blocked.file = Some((Obstacle::Error, why));
            }
            Some(Ok(directory)) => self.directory = Some(directory),
            Some(Err(DirError::Gone)) => return Err(DirError::Gone),
            Some(Err(error)) => {
                let obstacle = obstacle::of(&error).unwrap_or(Obstacle::Error);
                self.blocked.file = Some((obstacle, format!("cannot open it: {error}")));
            }
            None => {
                let why = "there is no cgroup v2 mount".to_owned();
                self.blocked.file = Some((Obstacle::NoMemoryController, why));
            }
        }
        Ok(())
    }

    /// Its runtime may be about to enable it, or it was disabled.
    pub(super) fn has_no_controller(
        &mut self,
        context: &Context,
        shared: &mut Shared,
        seen: Monotonic,
    ) {
        self.show(None, shared);
        let until = *self.blocked.built_until.get_or_insert_with(|| {
            let until = seen + context.options.built_within;
            shared.built.push_back((until, self.id));
            until
        });
        self.blocked.should_be_built = until <= seen;
    }

    /// Looks for what overrides a value of 0. For 1 nothing does. What is around a scope is
    /// around crun's cgroup in it too.
    pub(in crate::enforce) fn check_surroundings(
        &mut self,
        context: &Context,
        shared: &mut Shared,
    ) {
        self.blocked.surroundings = None;
        if !self.target.value
            && self.scope.is_none()
            && let Some(root) = &context.root
        {
            let transient = &context.options.systemd_transient;
            self.blocked.surroundings =
                obstacle::surroundings(&root.proc_path(), transient, &self.path);
        }
        self.report_obstacle(shared);
    }

    /// Its obstacle, if there is one.
    pub(in crate::enforce) fn obstacle(&self) -> Option<Obstacle> {
        self.obstacle_text().map(|(obstacle, _)| *obstacle)
    }

    pub(super) fn obstacle_text(&self) -> Option<&Reason> {
        self.blocked.reason(self.scope.is_some())
    }

    /// Reports an obstacle once when it comes, and once when it goes.
    pub(super) fn report_obstacle(&mut self, shared: &mut Shared) {
        let now = self.obstacle();
        if self.blocked.reported == now {
            return;
        }
        self.blocked.reported = now;
        let obstacle = self.obstacle_text().cloned();
        // Without a watch the value is still enforced, only later.
        self.pending.obstacle = obstacle.clone().filter(|(it, _)| *it != Obstacle::NoWatch);
        shared.effects.is_noteworthy(self.id);
        shared.effects.add(Effect::Blocked {
            cgroup: self.path.clone(),
            rule: self.target.rule.clone(),
            obstacle,
        });
    }
}
