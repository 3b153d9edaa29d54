//! One container whose init is to be protected: the process, and what its state machine says to do
//! with it.

use super::{Listener, Protect, ScoreWrite, Written};
use crate::kernel::host_proc::{HostProcess, ProcessError};
use herder_model::{
    cgroup::CgroupId,
    shield::{Action, EXEMPT, SavedInit, Seen, Shield, Unprotected},
};
use std::time::{Duration, Instant};

/// How old an init is before it is protected: its runtime may not be done with it. What it writes
/// later is taken for the init's own choice.
pub(super) const SETTLED: Duration = Duration::from_millis(500);

/// One container.
#[derive(Debug)]
pub(super) struct Init {
    pub(super) protect: Protect,
    pub(super) shield: Shield,
    pub(super) process: Option<HostProcess>,
    /// The cgroups whose limit concerns the init: its own, and all above.
    pub(super) around: Vec<CgroupId>,
    /// How often it was looked for in vain.
    pub(super) searched: u32,
    /// The version of what is saved that has its own value.
    pub(super) saved_in: Option<u64>,
    /// When it was seen last that its children have their value.
    pub(super) swept: Option<Instant>,
    /// There is no room for it.
    pub(super) too_many: bool,
    told: Option<Option<Unprotected>>,
}

impl Init {
    pub(super) fn new(protect: Protect) -> Self {
        Init {
            protect,
            shield: Shield::new(),
            process: None,
            around: Vec::new(),
            searched: 0,
            saved_in: None,
            swept: None,
            too_many: false,
            told: None,
        }
    }

    /// One that an earlier agent has protected.
    pub(super) fn inherited(protect: Protect, process: HostProcess, own: i16) -> Self {
        let shield = Shield::inherited(own);
        Init { shield, process: Some(process), ..Self::new(protect) }
    }

    /// Nothing was done about it yet.
    pub(super) fn is_new(&self) -> bool {
        self.shield == Shield::new() && self.saved_in.is_none()
    }

    /// Why it is not protected; none if it is.
    pub(super) fn unprotected(&self) -> Option<Unprotected> {
        match (&self.process, self.shield.unprotected()) {
            _ if self.too_many => Some(Unprotected::TooMany),
            (None, Some(Unprotected::Pending)) if self.searched > 0 => Some(Unprotected::NoInit),
            (_, unprotected) => unprotected,
        }
    }

    /// The same, if it was not told yet.
    pub(super) fn news(&mut self) -> Option<Option<Unprotected>> {
        let now = self.unprotected();
        (self.told.replace(now) != Some(now)).then_some(now)
    }

    /// What the next agent has to know.
    pub(super) fn saved(&self) -> Option<SavedInit> {
        let process = self.process.as_ref()?;
        Some(SavedInit {
            path: self.protect.path.clone(),
            pid: process.pid(),
            start: process.start(),
            score: self.shield.own()?,
        })
    }

    /// Reads its score and lets the state machine see it; none if it has ended.
    pub(super) fn look(&mut self, seen: impl FnOnce(i16) -> Seen) -> Option<Action> {
        let score = self.process.as_ref()?.score().ok();
        match score {
            Some(score) => Some(self.shield.step(seen(score))),
            None => {
                self.ended();
                None
            }
        }
    }

    /// Its process is gone. If the container lives on, it has another.
    pub(super) fn ended(&mut self) {
        *self = Init { told: self.told, ..Init::new(self.protect.clone()) };
    }

    /// Writes -1000 to it.
    pub(super) fn exempt(&mut self, listener: &dyn Listener) {
        let Some(process) = &self.process else { return };
        let written = process.exempt();
        listener.wrote(&self.protect.path, process.pid(), Written::Exempt, &result(&written));
        match written {
            Ok(()) => drop(self.shield.step(Seen::Written)),
            Err(ProcessError::Gone) => self.ended(),
            Err(_) => drop(self.shield.step(Seen::Refused)),
        }
    }

    /// Gives it its own value back, if it still has ours.
    pub(super) fn restore(&self, own: i16, listener: &dyn Listener) {
        if let Some(process) = &self.process {
            let result = give(process, own);
            listener.wrote(&self.protect.path, process.pid(), Written::Restored, &result);
        }
    }
}

/// Gives a process this value, if it has -1000.
pub(super) fn give(process: &HostProcess, own: i16) -> ScoreWrite {
    match process.score() {
        Ok(EXEMPT) => result(&process.set_score(own)),
        Ok(_) => ScoreWrite::Own,
        Err(error) => result(&Err(error)),
    }
}

pub(super) fn result(written: &Result<(), ProcessError>) -> ScoreWrite {
    match written {
        Ok(()) => ScoreWrite::Ok,
        Err(ProcessError::Gone) => ScoreWrite::Gone,
        Err(error) => ScoreWrite::Error(error.to_string()),
    }
}
