//! One container whose init is to be protected: the process, and what its state machine says to do
//! with it.

use super::{Listener, Protect, ScoreWrite, Written};
use crate::kernel::host_proc::{HostProcess, ProcessError};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    shield::{Action, EXEMPT, SavedInit, Seen, Shield, Unprotected},
};
use std::time::Duration;

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
    pub(super) around: Vec<(CgroupId, CgroupPath)>,
    /// How often it was looked for in vain.
    pub(super) searched: u32,
    /// The version of what is saved that has its own value.
    pub(super) saved_in: Option<u64>,
    /// There is no room for it.
    pub(super) too_many: bool,
    /// No rule asks for it any more. It stays until it has its own value again.
    pub(super) released: bool,
    reported: Option<Option<Unprotected>>,
    /// What was reported last to have failed.
    failed: Option<String>,
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
            too_many: false,
            released: false,
            reported: None,
            failed: None,
        }
    }

    /// One that an earlier agent has protected.
    pub(super) fn inherited(protect: Protect, process: HostProcess, own: i16) -> Self {
        let shield = Shield::inherited(own);
        Init { shield, process: Some(process), ..Self::new(protect) }
    }

    pub(super) fn want(&mut self, protect: Protect) {
        if !self.released {
            self.protect = protect;
        } else if let Some(own) = self.shield.exempt_own() {
            // It could not be restored meanwhile.
            (self.protect, self.released) = (protect, false);
            self.shield = Shield::inherited(own);
        } else {
            *self = Init::new(protect);
        }
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

    /// The same, if it was not reported yet.
    pub(super) fn news(&mut self) -> Option<Option<Unprotected>> {
        let now = self.unprotected();
        (self.reported.replace(now) != Some(now)).then_some(now)
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

    /// Why it has not got its own value back, if it is to.
    pub(super) fn unrestored(&self) -> Option<String> {
        self.shield.is_restoring().then(|| self.failed.clone().unwrap_or_default())
    }

    /// Reads its score and lets the state machine see it; none if it has ended, or cannot be read.
    pub(super) fn look(&mut self, seen: impl FnOnce(i16) -> Seen) -> Option<Action> {
        let process = self.process.as_ref()?;
        match process.score() {
            Ok(score) => return Some(self.shield.step(seen(score))),
            Err(ProcessError::Gone) => self.ended(),
            // It lives, and nothing else knows its own value.
            Err(error) => {
                let pid = process.pid();
                if self.fails(error.to_string()) {
                    let cgroup = self.protect.path.to_string();
                    tracing::warn!(cgroup, pid, %error, "Cannot read oom_score_adj of an init.");
                }
            }
        }
        None
    }

    /// Its process is gone. If the container lives on, it has another.
    pub(super) fn ended(&mut self) {
        let (reported, released) = (self.reported, self.released);
        *self = Init { reported, released, ..Init::new(self.protect.clone()) };
    }

    /// Takes notice of an error. Returns whether it is another than the one before.
    fn fails(&mut self, error: String) -> bool {
        let is_new = self.failed.as_ref() != Some(&error);
        self.failed = Some(error);
        is_new
    }

    /// Writes -1000 to it.
    pub(super) fn exempt(&mut self, listener: &dyn Listener) {
        let Some(process) = &self.process else { return };
        let written = process.exempt().map(|()| ScoreWrite::Ok);
        listener.wrote(&self.protect.path, process.pid(), Written::Exempt, &result(&written));
        match written {
            Ok(_) => drop(self.shield.step(Seen::Written)),
            Err(ProcessError::Gone) => self.ended(),
            Err(_) => drop(self.shield.step(Seen::Refused)),
        }
    }

    /// Gives it its own value back, if it still has ours. An attempt that fails as the one before
    /// did is not reported again. Returns whether it is over.
    pub(super) fn restore(&mut self, own: i16, listener: &dyn Listener) -> bool {
        let Some(process) = &self.process else { return true };
        let (pid, result) = (process.pid(), result(&give(process, own)));
        let (is_over, is_new) = match &result {
            ScoreWrite::Error(error) => (false, self.fails(error.clone())),
            ScoreWrite::Ok | ScoreWrite::Gone | ScoreWrite::Own => (true, true),
        };
        if is_new {
            listener.wrote(&self.protect.path, pid, Written::Restored, &result);
        }
        if is_over {
            self.shield.step(Seen::Restored);
        }
        is_over
    }
}

/// Gives a process this value, if it has -1000.
pub(super) fn give(process: &HostProcess, own: i16) -> Result<ScoreWrite, ProcessError> {
    match process.score()? {
        EXEMPT => process.set_score(own).map(|()| ScoreWrite::Ok),
        _ => Ok(ScoreWrite::Own),
    }
}

/// What is reported of a write.
pub(super) fn result(written: &Result<ScoreWrite, ProcessError>) -> ScoreWrite {
    match written {
        Ok(done) => done.clone(),
        Err(ProcessError::Gone) => ScoreWrite::Gone,
        Err(error) => ScoreWrite::Error(error.to_string()),
    }
}
