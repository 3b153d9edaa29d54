//! One matched container: what is wanted of it, what it has, what is done.

mod first;
mod obstacles;
mod told;

pub use told::ContainerState;

use super::{
    Options, Origin, Place,
    news::{Fight, News, Untold},
    obstacle, obstacle_of,
    pace::Pace,
    watch::{Watched, Watches},
};
use crate::{
    enforce::Listener,
    kernel::cgroupfs::dir::{CgroupDir, CgroupRoot, DirError},
};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    enforcement::{Cause, Obstacle, WriteResult},
    owner::Owner,
    rules::matching::Target,
};
use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    io,
    sync::Arc,
    time::Instant,
};

/// What all containers share.
pub(super) struct Context {
    pub(super) root: Option<CgroupRoot>,
    pub(super) options: Options,
    pub(super) listener: Arc<dyn Listener>,
    /// Some container has news.
    pub(super) news: Cell<bool>,
    /// What is to be left to the next agent has changed.
    pub(super) leaves: Cell<bool>,
    /// Scopes in which crun has made the cgroup whose value counts.
    pub(super) inner: RefCell<HashMap<CgroupPath, CgroupId>>,
    /// When cgroups without the memory controller are looked at again.
    pub(super) built: RefCell<VecDeque<(Instant, CgroupId)>>,
}

/// A matched container; its directory is open, or what is in the way is an obstacle.
pub(super) struct Container {
    id: CgroupId,
    path: CgroupPath,
    /// The scope around it, if crun has made it in one that is matched too.
    scope: Option<CgroupPath>,
    owner: Owner,
    target: Target,
    directory: Option<CgroupDir>,
    watched: Watched,
    effective: Option<bool>,
    origin: Origin,
    /// It was there with its value before the agent knew it.
    found_there: bool,
    /// The value that somebody else wanted, as far as that is known; comes back
    /// when the rule goes.
    first: Option<bool>,
    /// inotify has yet to tell of our own last write.
    own_write: bool,
    /// The value has been brought to what the present rule wants; who changes it
    /// from now on reverts it.
    corrected: bool,
    wished: bool,
    /// This agent, or one before it, has written the value.
    ours: bool,
    file_obstacle: Option<(Obstacle, String)>,
    /// Until then nobody wonders that it has no memory controller.
    built_until: Option<Instant>,
    surroundings: Option<(Obstacle, String)>,
    no_watch: Option<(Obstacle, String)>,
    told: Option<Obstacle>,
    writes: u64,
    reverts: u64,
    untold: Untold,
    fight: Fight,
    pace: Pace,
    /// Somebody changes the value faster than it is worth correcting.
    rests: bool,
}

impl Container {
    pub(super) fn open(
        id: CgroupId,
        place: Place<'_>,
        origin: Origin,
        target: Target,
        owner: Owner,
        context: &Context,
    ) -> Result<Self, DirError> {
        let mut container = Container {
            id,
            path: place.path.clone(),
            scope: place.scope,
            owner,
            target,
            file_obstacle: None,
            built_until: None,
            directory: None,
            watched: Watched::default(),
            effective: None,
            origin,
            found_there: origin == Origin::Existing,
            first: None,
            own_write: false,
            corrected: false,
            wished: false,
            ours: false,
            surroundings: None,
            no_watch: None,
            told: None,
            writes: 0,
            reverts: 0,
            untold: Untold::default(),
            fight: Fight::default(),
            pace: Pace::new(Instant::now()),
            rests: false,
        };
        if let Origin::Adjusted(first) = origin {
            container.inherit(first);
        }
        container.open_directory(context)?;
        Ok(container)
    }

    /// Opens the directory, if that is not done yet. Whatever stands in the way
    /// (no cgroup v2, no free descriptor) is an obstacle, and tried again.
    ///
    /// # Errors
    /// When the cgroup is gone.
    fn open_directory(&mut self, context: &Context) -> Result<(), DirError> {
        if self.directory.is_some() {
            return Ok(());
        }
        let opened = context.root.as_ref().map(|root| root.open_dir(&self.path, self.id));
        match opened {
            // The kernel gives the lowest number that is free.
            Some(Ok(directory)) if directory.number() >= context.options.descriptors => {
                let why = "no file descriptor is left for it; raise the limit of open files (LimitNOFILE= of the agent, or of the container runtime)".to_owned();
                self.file_obstacle = Some((Obstacle::Error, why));
            }
            Some(Ok(directory)) => self.directory = Some(directory),
            Some(Err(DirError::Gone)) => return Err(DirError::Gone),
            Some(Err(error)) => {
                let obstacle = obstacle_of(&error).unwrap_or(Obstacle::Error);
                self.file_obstacle = Some((obstacle, format!("cannot open it: {error}")));
            }
            None => {
                let why = "there is no cgroup v2 mount".to_owned();
                self.file_obstacle = Some((Obstacle::NoMemoryController, why));
            }
        }
        Ok(())
    }

    /// Takes another rule or owner; tells whether anything changed.
    pub(super) fn take_over(
        &mut self,
        scope: Option<CgroupPath>,
        target: Target,
        owner: Owner,
        context: &Context,
    ) -> bool {
        if self.target == target && self.owner == owner && self.scope == scope {
            return false;
        }
        self.is_inner_of_scope(false, context);
        self.scope = scope;
        self.is_inner_of_scope(self.effective.is_some(), context);
        if self.owner != owner {
            context.listener.effective(&self.owner, None, self.target.value);
            self.owner = owner;
            self.effective = None;
            // What could not be told for want of a name.
            context.news.set(true);
        }
        self.wished = false;
        self.corrected &= self.target.value == target.value;
        self.target = target;
        // What is wanted may have changed although the value has not.
        self.show_again(context);
        true
    }

    /// Watches its files, as far as that is not done yet.
    pub(super) fn watch(&mut self, watches: &mut Watches, context: &Context) {
        // Whether it is gone is found out with the value.
        let _ = self.open_directory(context);
        let (Some(directory), false) = (&self.directory, self.rests) else { return };
        let before = self.watched.value();
        let added = watches.add(self.id, directory, &mut self.watched);
        if self.watched.value() != before {
            // What the one before was about to tell is gone too.
            self.own_write = false;
        }
        match added {
            Ok(()) => self.no_watch = None,
            Err(error) => {
                let advice = if error.kind() == io::ErrorKind::StorageFull {
                    "raise the sysctl fs.inotify.max_user_watches"
                } else {
                    "the value is corrected by the slow resync only"
                };
                self.no_watch =
                    Some((Obstacle::NoWatch, format!("cannot watch it: {error}; {advice}")));
            }
        }
        self.tell_obstacle(context);
    }

    /// Its files may be others by now.
    pub(super) fn doubt_watch(&mut self) {
        self.watched.doubt();
    }

    /// Whether changes of its value are told.
    pub(super) fn is_watched(&self) -> bool {
        self.watched.value().is_some()
    }

    /// Which cgroup it is.
    pub(super) fn id(&self) -> CgroupId {
        self.id
    }

    /// Where it is.
    pub(super) fn path(&self) -> &CgroupPath {
        &self.path
    }

    /// The rule that it is under.
    pub(super) fn rule(&self) -> &Arc<str> {
        &self.target.rule
    }

    /// The scope that is one container with it.
    pub(super) fn scope(&self) -> Option<&CgroupPath> {
        self.scope.as_ref()
    }

    /// Processes that the kernel killed in it.
    pub(super) fn oom_kills(&self) -> Option<u64> {
        self.directory.as_ref()?.oom_kills()
    }

    /// Takes notice that somebody has written, and tells whether that is to be
    /// answered at once.
    pub(super) fn is_answered(&mut self, now: Instant) -> bool {
        self.written();
        self.pace.take(now)
    }

    /// The same when it is not known whether anybody has.
    pub(super) fn is_answered_unheard(&mut self, now: Instant) -> bool {
        // What its own write was about to tell may be lost.
        self.own_write = false;
        self.pace.take(now)
    }

    /// Somebody writes without end: what that is costs nothing for a while.
    pub(super) fn rest(&mut self, watches: &mut Watches, context: &Context) {
        watches.remove_value(&mut self.watched);
        // What it was about to tell is gone too.
        self.own_write = false;
        self.rests = true;
        if let Some(Ok(value)) = self.directory.as_ref().map(CgroupDir::oom_group) {
            self.show(Some(value), context);
        }
    }

    /// Its rest is over.
    pub(super) fn wake(&mut self) {
        self.rests = false;
    }

    /// Reads the value and writes the wanted one if it is another. `false` if
    /// the cgroup is gone.
    pub(super) fn correct(&mut self, context: &Context, seen: Instant) -> bool {
        if self.open_directory(context).is_err() {
            return false;
        }
        let Some(directory) = &self.directory else {
            self.tell_obstacle(context);
            return true;
        };
        let outcome = directory.oom_group();
        let found = outcome.as_ref().ok().copied();
        let wanted = self.target.value;
        match (self.origin, &outcome) {
            (Origin::Existing, Ok(value)) => self.first = self.first.or(Some(*value)),
            // Whoever writes 0 to a new cgroup says nothing: systemd does so for
            // each scope before the runtime writes what it was told.
            // The kernel's is 0, so a 1 that is not ours is somebody's.
            (Origin::Made, Ok(true)) if !wanted || !self.ours => self.first = Some(true),
            _ => {}
        }
        let result = match outcome {
            Ok(value) if value == wanted || context.options.dry_run => {
                // Whoever changes what was right before the agent came reverts it. That of
                // a cgroup in the making is the kernel's.
                self.corrected |= self.found_there && value == wanted;
                // What cannot be written could not be kept either. That an earlier agent has
                // written it says nothing about this one.
                let writable = if self.writes > 0 { Ok(()) } else { directory.try_oom_group() };
                if value != wanted && writable.is_ok() && !std::mem::replace(&mut self.wished, true)
                {
                    self.tell_write(context, value, Cause::Enforce, &WriteResult::Ok, seen);
                }
                writable.map(|()| value)
            }
            Ok(value) => {
                // The runtime's own value, written at creation, is no revert.
                let cause = if self.corrected { Cause::Revert } else { Cause::Enforce };
                let written = directory.set_oom_group(wanted);
                self.tell_write(context, value, cause, &write_result(&written), seen);
                if written.is_ok() {
                    self.own_write = self.is_watched();
                    if !std::mem::replace(&mut self.ours, true) {
                        context.leaves.set(true);
                    }
                    self.corrected = true;
                    self.writes += 1;
                    self.note_write(cause, context, seen);
                }
                written.map(|()| wanted)
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(value) => {
                (self.file_obstacle, self.built_until) = (None, None);
                self.show(Some(value), context);
            }
            Err(DirError::Gone) => return false,
            Err(error) => {
                // What cannot be written can still be read.
                if found.is_some() {
                    self.show(found, context);
                }
                if error == DirError::NoController {
                    self.has_no_controller(context, seen);
                }
                let obstacle = obstacle_of(&error).unwrap_or(Obstacle::ReadOnly);
                self.file_obstacle = Some((obstacle, error.to_string()));
            }
        }
        self.tell_obstacle(context);
        true
    }

    fn note_write(&mut self, cause: Cause, context: &Context, now: Instant) {
        if cause == Cause::Revert {
            self.reverts += 1;
            if !self.fight.reverted(now) {
                return;
            }
            self.untold.reverted = Some(self.reverts);
        } else {
            self.untold.enforced = true;
        }
        context.news.set(true);
    }

    /// What is to be told of it, if it has a name to be told by.
    pub(super) fn take_news(&mut self) -> Vec<News> {
        if !matches!(self.owner, Owner::Container(_)) {
            return Vec::new();
        }
        let news = |what| News { cgroup: self.path.clone(), target: self.target.clone(), what };
        self.untold.take().map(news).collect()
    }

    /// Nothing more is done about this container.
    pub(super) fn end(&mut self, watches: &mut Watches, context: &Context) {
        watches.remove_all(&mut self.watched);
        self.show(None, context);
        (self.file_obstacle, self.surroundings, self.no_watch) = (None, None, None);
        self.tell_obstacle(context);
    }
}

pub(super) fn write_result(written: &Result<(), DirError>) -> WriteResult {
    match written {
        Ok(()) => WriteResult::Ok,
        Err(DirError::Gone) => WriteResult::Gone,
        Err(error) => WriteResult::Error(error.to_string()),
    }
}
