//! One matched container: its files, its watch, and what its state machine says to do with them.

mod blocked;
mod restoring;
mod shown;

pub use shown::{ContainerState, EscalationState};

use super::{
    Context, Origin, Place, Shared,
    effect::Effect,
    news::{EnforcementEvent, Fight, Pending},
    obstacle,
    pace::Pace,
    state::{Action, OomGroupState, Seen},
    watch::{Watched, Watches},
};
use crate::kernel::cgroupfs::dir::{CgroupDir, DirError};
use blocked::Blocked;
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    clock::Monotonic,
    enforcement::{Cause, OomGroupWrite},
    escalation::Escalate,
    owner::Owner,
    rules::matching::Target,
};
use std::{io, sync::Arc};

/// A matched container. Its directory is open, or an obstacle says why not.
pub(super) struct Container {
    id: CgroupId,
    path: CgroupPath,
    /// The scope around it, if crun has made it in one that is matched too.
    scope: Option<CgroupPath>,
    owner: Owner,
    target: Target,
    state: OomGroupState,
    directory: Option<CgroupDir>,
    watched: Watched,
    effective: Option<bool>,
    blocked: Blocked,
    pending: Pending,
    fight: Fight,
    pace: Pace,
}

impl Container {
    pub(super) fn open(
        id: CgroupId,
        place: Place<'_>,
        origin: Origin,
        target: Target,
        owner: Owner,
        context: &Context,
        now: Monotonic,
    ) -> Result<Self, DirError> {
        let mut container = Container {
            id,
            path: place.path.clone(),
            scope: place.scope,
            owner,
            state: OomGroupState::new(target.value, origin, context.options.dry_run),
            target,
            directory: None,
            watched: Watched::default(),
            effective: None,
            blocked: Blocked::default(),
            pending: Pending::default(),
            fight: Fight::default(),
            pace: Pace::new(now),
        };
        container.open_directory(context)?;
        Ok(container)
    }

    /// An earlier agent has written the value in place of this one.
    pub(super) fn inherit(&mut self, original: bool) {
        self.state.inherit(original);
    }

    /// Takes another rule or owner. Returns whether anything changed.
    pub(super) fn take_over(
        &mut self,
        scope: Option<CgroupPath>,
        target: Target,
        owner: Owner,
        shared: &mut Shared,
    ) -> bool {
        if self.target == target && self.owner == owner && self.scope == scope {
            return false;
        }
        self.is_inner_of_scope(false, shared);
        self.scope = scope;
        self.is_inner_of_scope(self.effective.is_some(), shared);
        if self.owner != owner {
            shared.effects.add(Effect::Effective {
                owner: self.owner.clone(),
                value: None,
                wanted: self.target.value,
            });
            self.owner = owner;
            self.effective = None;
            // What could not be reported as long as the container had no name.
            shared.effects.is_noteworthy(self.id);
        }
        self.state.step(Seen::Wanted(target.value));
        self.target = target;
        // What is wanted may have changed although the value has not.
        self.show_again(shared);
        true
    }

    /// Watches its files, as far as that is not done yet.
    pub(super) fn watch(&mut self, watches: &mut Watches, context: &Context, shared: &mut Shared) {
        // Whether it is gone is found out with the value.
        let _ = self.open_directory(context);
        let (Some(directory), false) = (&self.directory, self.state.is_backed_off()) else {
            return;
        };
        let before = self.watched.value();
        let added = watches.add(self.id, directory, &mut self.watched);
        if self.watched.value() != before {
            self.state.step(Seen::EchoLost);
        }
        self.blocked.has_no_watch(added.err().as_ref().map(|error| {
            let advice = if error.kind() == io::ErrorKind::StorageFull {
                "raise the sysctl fs.inotify.max_user_watches"
            } else {
                "the value is corrected by the slow resync only"
            };
            format!("cannot watch it: {error}; {advice}")
        }));
        self.report_obstacle(shared);
    }

    /// Its files may be others by now.
    pub(super) fn invalidate_watch(&mut self) {
        self.watched.doubt();
    }

    /// Whether inotify reports changes of its value.
    pub(super) fn is_watched(&self) -> bool {
        self.watched.value().is_some()
    }

    pub(super) fn id(&self) -> CgroupId {
        self.id
    }

    pub(super) fn path(&self) -> &CgroupPath {
        &self.path
    }

    pub(super) fn rule(&self) -> &Arc<str> {
        &self.target.rule
    }

    /// What the rule escalates to, if it does.
    pub(super) fn escalate(&self) -> Option<Escalate> {
        self.target.escalate
    }

    /// Its directory, if that is open.
    pub(super) fn directory(&self) -> Option<&CgroupDir> {
        self.directory.as_ref()
    }

    /// The scope that is one container with it.
    pub(super) fn scope(&self) -> Option<&CgroupPath> {
        self.scope.as_ref()
    }

    /// Processes that the kernel killed in it.
    pub(super) fn oom_kills(&self) -> Option<u64> {
        self.directory.as_ref()?.oom_kills()
    }

    /// Notes that something has written the value. Returns whether to correct it at once.
    pub(super) fn is_answered(&mut self, now: Monotonic) -> bool {
        let value = self.directory.as_ref().filter(|_| !self.state.expects_echo());
        let value = value.and_then(|directory| directory.oom_group().ok());
        self.state.step(Seen::Changed(value));
        self.pace.take(now)
    }

    /// The same when it is not known whether anything has written it.
    pub(super) fn is_answered_unheard(&mut self, now: Monotonic) -> bool {
        self.state.step(Seen::EchoLost);
        self.pace.take(now)
    }

    /// Something writes the value in a loop. For a while these writes cost the agent nothing.
    pub(super) fn back_off(&mut self, watches: &mut Watches, shared: &mut Shared) {
        watches.remove_value(&mut self.watched);
        self.state.step(Seen::TooFast);
        if let Some(Ok(value)) = self.directory.as_ref().map(CgroupDir::oom_group) {
            self.show(Some(value), shared);
        }
    }

    /// Its pause is over.
    pub(super) fn resume(&mut self) {
        self.state.step(Seen::Resumed);
    }

    /// Reads the value and does what follows from it. `false` if the cgroup is gone.
    pub(super) fn correct(
        &mut self,
        context: &Context,
        shared: &mut Shared,
        seen: Monotonic,
    ) -> bool {
        if self.open_directory(context).is_err() {
            return false;
        }
        let Some(directory) = &self.directory else {
            self.report_obstacle(shared);
            return true;
        };
        let (found, result) = match directory.oom_group() {
            Ok(value) => (Some(value), self.act_on(value, shared, seen)),
            Err(error) => (None, Err(error)),
        };
        match result {
            Ok(value) => {
                self.blocked.by_nothing();
                self.show(Some(value), shared);
            }
            Err(DirError::Gone) => return false,
            Err(error) => {
                // What cannot be written can still be read.
                if found.is_some() {
                    self.show(found, shared);
                }
                if error == DirError::NoController {
                    self.has_no_controller(context, shared, seen);
                }
                self.blocked.by_file(&error);
            }
        }
        self.report_obstacle(shared);
        true
    }

    /// Does what follows from a value that was read; gives the value after that.
    fn act_on(
        &mut self,
        value: bool,
        shared: &mut Shared,
        seen: Monotonic,
    ) -> Result<bool, DirError> {
        let Some(directory) = &self.directory else { return Ok(value) };
        match self.state.step(Seen::Value(value)) {
            Action::Write(wanted, cause) => {
                let written = directory.set_oom_group(wanted);
                self.report_write((value, wanted), cause, &written, shared, seen);
                written?;
                let watched = self.is_watched();
                if self.state.step(Seen::Written { cause, watched }) == Action::Save {
                    shared.effects.add(Effect::Saved);
                }
                self.note_write(cause, shared, seen);
                Ok(wanted)
            }
            Action::TryOpen => {
                directory.try_oom_group()?;
                if self.state.step(Seen::Writable(value)) == Action::ReportDryRun {
                    let values = (value, self.state.wanted());
                    self.report_write(values, Cause::Enforce, &Ok(()), shared, seen);
                }
                Ok(value)
            }
            Action::None | Action::ReportDryRun | Action::Save | Action::Keep => Ok(value),
        }
    }

    fn report_write(
        &self,
        (old, new): (bool, bool),
        cause: Cause,
        written: &Result<(), DirError>,
        shared: &mut Shared,
        seen: Monotonic,
    ) {
        shared.effects.add(Effect::Wrote(OomGroupWrite {
            cgroup: self.path.clone(),
            rule: self.target.rule.clone(),
            old,
            new,
            cause,
            result: obstacle::write_result(written),
            took: shared.clock.now() - seen,
            dry_run: shared.dry_run,
        }));
    }

    fn note_write(&mut self, cause: Cause, shared: &mut Shared, now: Monotonic) {
        if cause != Cause::Revert {
            self.pending.enforced = true;
        } else if self.fight.reverted(now) {
            self.pending.reverted = Some(self.state.reverts());
        } else {
            return;
        }
        shared.effects.is_noteworthy(self.id);
    }

    /// The changes to report, if it has a name to report them by.
    pub(super) fn take_events(&mut self) -> Vec<EnforcementEvent> {
        if !matches!(self.owner, Owner::Container(_)) {
            return Vec::new();
        }
        let (cgroup, target) = (&self.path, &self.target);
        let event =
            |change| EnforcementEvent { cgroup: cgroup.clone(), target: target.clone(), change };
        self.pending.take().map(event).collect()
    }

    /// Nothing more is done about this container.
    pub(super) fn end(&mut self, watches: &mut Watches, shared: &mut Shared) {
        watches.remove_all(&mut self.watched);
        self.show(None, shared);
        self.blocked.forget();
        self.report_obstacle(shared);
    }
}
