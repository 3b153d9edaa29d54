//! What the enforcer did and found, as values that it hands to its owner.
//!
//! The enforcer knows neither metrics nor logs nor Events: it lists what happened, in order, and
//! the core passes each effect on after the turn. So a test of the enforcer sees all that it does,
//! and nothing in here can wait for a report.

use super::news::EnforcementEvent;
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    enforcement::{Obstacle, OomGroupWrite},
    owner::Owner,
};
use std::{collections::BTreeMap, sync::Arc};

/// How many processes the kernel has killed in a matched cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub id: CgroupId,
    /// The kernel's count.
    pub oom_kills: u64,
}

/// One thing that the enforcer did or found.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// It wrote a value, tried to, or would have in a dry run.
    Wrote(OomGroupWrite),
    /// It tried again to restore a value, and failed as before: to be counted, not to be logged.
    FailedAgain(OomGroupWrite),
    /// A matched container has this value now, none when it is gone.
    Effective { owner: Owner, value: Option<bool>, wanted: bool },
    /// Something keeps a container from being enforced; with none, no longer.
    Blocked {
        cgroup: CgroupPath,
        rule: Arc<str>,
        /// What it is, and for people, with what to do.
        obstacle: Option<(Obstacle, String)>,
    },
    /// How many matched containers there are behind each obstacle.
    Obstacles(BTreeMap<Obstacle, usize>),
    /// How many original values could not be restored, and are tried again.
    Unrestored(usize),
    /// inotify's queue of changes overflowed, so every value is read again.
    Overflowed,
    /// The kernel's count of a container's kills was read.
    Counted(Counted),
    /// What is to be saved for the next agent has changed.
    Saved,
    /// Something that the owner of a named container should know.
    Notice(EnforcementEvent),
}

/// The effects of one turn, in the order in which they happened.
#[derive(Debug, Default)]
pub(super) struct Effects {
    list: Vec<Effect>,
    /// Containers that have something to notify of, once they have a name.
    noteworthy: Vec<CgroupId>,
}

impl Effects {
    pub(super) fn add(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// A container has something to notify its owner of.
    pub(super) fn is_noteworthy(&mut self, id: CgroupId) {
        self.noteworthy.push(id);
    }

    pub(super) fn take_noteworthy(&mut self) -> Vec<CgroupId> {
        std::mem::take(&mut self.noteworthy)
    }

    pub(super) fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.list)
    }
}
