//! Whether a container's init is exempt from OOM kills (`protectInit: true`), as a state machine:
//! what was seen of it, and what follows.
//!
//! An `oom_score_adj` of -1000 keeps the kernel from a process, and whatever that process starts
//! inherits it. So the init's own value is kept, what it starts is given that value back, and the
//! init gets it back when the rule goes, or when the kernel finds nothing else to kill.
//!
//! The value is in the state file before -1000 is written: an agent that is killed leaves an init
//! that only its successor can restore.

use crate::{
    cgroup::{CgroupId, CgroupPath},
    clock::Monotonic,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// `OOM_SCORE_ADJ_MIN`, include/uapi/linux/oom.h: never chosen.
pub const EXEMPT: i16 = -1000;

/// How long the kernel may find nothing to kill before the init gets its own value back. Victims
/// whose memory is not free yet are such a moment, too; they take far less.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// So many attempts without a victim are the least that takes the protection away: a single moment,
/// and one long after it, do not.
const ATTEMPTS: u32 = 3;

/// Attempts that follow each other within this time are one: what asks for memory asks again at once.
const ONE: Duration = Duration::from_millis(500);

/// Attempts without a victim that are so far apart are not the same emergency. Memory that no kill
/// frees, such as files in a tmpfs, may leave a supervisor that only tries to fork now and then,
/// with pauses of its own between the attempts.
const APART: Duration = Duration::from_secs(60);

/// Inits that are protected at once: room in the programs' map, and a descriptor for each.
pub const MOST: usize = 1000;

/// How often -1000 is written again to an init that has its own value again.
const MOST_AGAIN: u8 = 3;

/// A protected init, for the next agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedInit {
    /// The cgroup of its container.
    pub path: CgroupPath,
    /// Its process id on the node.
    pub pid: u32,
    /// When it began, in clock ticks since the boot: with the id, which process it is.
    pub start: u64,
    /// Its own `oom_score_adj`.
    pub score: i16,
}

/// The protected inits, by the cgroup of their container.
pub type SavedInits = BTreeMap<CgroupId, SavedInit>;

labels! {
    /// Why an init is not protected although its rule asks for it.
    pub enum Unprotected {
        /// It is not known which process it is, or not yet.
        NoInit = "no-init",
        /// It has just started, or its own value is not saved yet.
        Pending = "pending",
        /// It was exempt by itself.
        OwnScore = "own-score",
        /// It has changed its score since.
        Changed = "changed",
        /// The kernel found nothing else to kill.
        NoOtherVictim = "no-other-victim",
        /// The kernel refused the write.
        Refused = "refused",
        /// More inits are to be protected than there is room for: [`MOST`].
        TooMany = "too-many",
        DryRun = "dry-run",
        /// This agent cannot protect any init.
        Unavailable = "unavailable",
    }
}

/// What was seen of an init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Score(i16),
    /// Its own value is in the state file, and its score is this now.
    Saved(i16),
    /// -1000 was written.
    Written,
    Refused,
    /// Its own value was written back, or it has set another, or it has ended.
    Restored,
    /// The OOM killer found nothing to kill for a limit that concerns it.
    NoVictim(Attempt),
    /// A process that it has started cannot be given the init's own value.
    ChildRefused,
    /// No rule asks for it any more, or the agent ends.
    Released,
}

/// An attempt of the OOM killer without a victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub at: Monotonic,
    /// The cgroup whose limit was hit: the container's, or one around it.
    pub domain: CgroupId,
    /// How many processes had been killed in that cgroup until then.
    pub kills: u64,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    None,
    /// Save its own value, and then report [`Seen::Saved`].
    Save,
    /// Write -1000.
    Exempt,
    /// Write this value, if it still has -1000, and then report [`Seen::Restored`]. As long as that
    /// fails it stays to be saved, and the next [`Seen::Score`] asks for it again.
    Restore(i16),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    New,
    Planned,
    Held,
    /// It gets its own value back, and why.
    Restoring(Unprotected),
    Off(Unprotected),
}

/// The OOM killer finds nothing to kill for one limit: since when, how often, and the last attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Emergency {
    since: Monotonic,
    attempts: u32,
    /// When the last of these began.
    counted: Monotonic,
    last: Attempt,
}

/// One init.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shield {
    phase: Phase,
    own: i16,
    again: u8,
    /// One for each limit that concerns it.
    emergencies: Vec<Emergency>,
}

impl Shield {
    /// One of which nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that an earlier agent has protected, or was about to; its own value.
    pub fn inherited(own: i16) -> Self {
        Shield { phase: Phase::Held, own, ..Self::new() }
    }

    /// Its own value, as long as it is, or is about to be, exempt: to be saved, and for what it
    /// starts.
    pub fn own(&self) -> Option<i16> {
        let may_be_exempt =
            matches!(self.phase, Phase::Planned | Phase::Held | Phase::Restoring(_));
        may_be_exempt.then_some(self.own)
    }

    /// The same, if -1000 was written to it.
    pub fn exempt_own(&self) -> Option<i16> {
        self.own().filter(|_| self.phase != Phase::Planned)
    }

    /// Why it is not protected; none if it is.
    pub fn unprotected(&self) -> Option<Unprotected> {
        match self.phase {
            Phase::New | Phase::Planned => Some(Unprotected::Pending),
            Phase::Held => None,
            Phase::Restoring(reason) | Phase::Off(reason) => Some(reason),
        }
    }

    /// Whether it is to get its own value back and has not got it: a write has failed.
    pub fn is_restoring(&self) -> bool {
        matches!(self.phase, Phase::Restoring(_))
    }

    /// Takes notice of what was seen, and says what to do.
    pub fn step(&mut self, seen: Seen) -> Action {
        match (self.phase, seen) {
            (Phase::New, Seen::Score(EXEMPT)) => self.off(Unprotected::OwnScore),
            (Phase::New, Seen::Score(score)) => {
                (self.phase, self.own) = (Phase::Planned, score);
                Action::Save
            }
            (Phase::Planned, Seen::Saved(score)) if score == self.own => Action::Exempt,
            // Its runtime was not done with it.
            (Phase::Planned, Seen::Saved(score)) => {
                self.phase = Phase::New;
                self.step(Seen::Score(score))
            }
            (Phase::Planned, Seen::Written) => {
                self.phase = Phase::Held;
                Action::None
            }
            (Phase::Planned | Phase::Held, Seen::Refused) => self.off(Unprotected::Refused),
            (Phase::Held, Seen::Score(EXEMPT)) => Action::None,
            (Phase::Held, Seen::Score(score)) if score == self.own && self.again < MOST_AGAIN => {
                self.again += 1;
                Action::Exempt
            }
            (Phase::Held, Seen::Score(_)) => self.off(Unprotected::Changed),
            (Phase::Held, Seen::NoVictim(attempt)) => self.no_victim(attempt),
            // Nothing may stay exempt that no score can be written to.
            (Phase::Held, Seen::ChildRefused) => self.restore(Unprotected::Refused),
            (Phase::Held | Phase::Restoring(_), Seen::Released) => {
                self.restore(Unprotected::Pending)
            }
            (_, Seen::Released) => self.off(Unprotected::Pending),
            // The write has failed.
            (Phase::Restoring(reason), Seen::Score(EXEMPT)) => self.restore(reason),
            (Phase::Restoring(reason), Seen::Score(_) | Seen::Restored) => self.off(reason),
            _ => Action::None,
        }
    }

    fn off(&mut self, reason: Unprotected) -> Action {
        self.phase = Phase::Off(reason);
        Action::None
    }

    fn restore(&mut self, reason: Unprotected) -> Action {
        self.phase = Phase::Restoring(reason);
        Action::Restore(self.own)
    }

    /// While processes die one after the other, there may be moments without a victim; then others
    /// are killed between them.
    fn no_victim(&mut self, attempt: Attempt) -> Action {
        let Attempt { at, domain, kills } = attempt;
        let goes_on = |it: &Emergency| {
            it.last.kills == kills && at.saturating_duration_since(it.last.at) <= APART
        };
        let before = self.emergencies.iter().position(|it| it.last.domain == domain);
        let before = before.map(|before| self.emergencies.swap_remove(before)).filter(goes_on);
        let emergency = match before {
            None => Emergency { since: at, attempts: 1, counted: at, last: attempt },
            Some(before) if at.saturating_duration_since(before.counted) < ONE => {
                Emergency { last: attempt, ..before }
            }
            Some(Emergency { since, attempts, .. }) => {
                let attempts = attempts.saturating_add(1);
                Emergency { since, attempts, counted: at, last: attempt }
            }
        };
        self.emergencies.push(emergency);
        let lasts = at.saturating_duration_since(emergency.since);
        if lasts < PATIENCE || emergency.attempts < ATTEMPTS {
            return Action::None;
        }
        self.restore(Unprotected::NoOtherVictim)
    }
}

#[cfg(test)]
mod tests;
