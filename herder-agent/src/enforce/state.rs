//! One container's `memory.oom.group` as a state machine: what has been seen of the value, and
//! what follows.
//!
//! No IO and no clock: [`OomGroupState::step`] takes what was seen and says what to do, so that
//! one table test walks every transition. `container` does what it says.

use super::Origin;
use herder_model::enforcement::Cause;

/// Where the value comes from that was there before the agent's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provenance {
    /// The cgroup was made before the agent's eyes. Its 0 is the kernel's, and systemd writes 0 to each new scope
    /// before its runtime writes what it wants, so only a 1 says something.
    Fresh {
        /// Something other than the agent wrote 1.
        had_1: bool,
    },
    /// It was there before; the value that it had when it was first read.
    Preexisting(Option<bool>),
    /// An earlier agent, or the runtime at our request, has put our value in place of this one.
    Inherited {
        original: bool,
        /// The cgroup was there before the agent knew it.
        was_there: bool,
    },
}

/// How far the value is the rule's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not yet brought to what the present rule wants; other values are those of its making.
    Settling,
    /// Brought to it; another value is a revert.
    Holding,
    /// Rewritten in a loop: not corrected for a while.
    BackedOff {
        /// It was [`Phase::Holding`] before.
        held: bool,
    },
}

/// Whether inotify has yet to report the agent's own last write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Echo {
    /// It has nothing of ours to report.
    None,
    /// The next report is of our own write.
    OwnWrite,
}

/// What was seen of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It was read, to be corrected.
    Value(bool),
    /// The file, which has this value, could be opened for writing.
    Writable(bool),
    /// The agent's write for this cause went well.
    Written {
        cause: Cause,
        /// inotify will report it.
        watched: bool,
    },
    /// inotify reported a write; the value after it, if that could be read.
    Changed(Option<bool>),
    /// What inotify had to report is lost: its queue overflowed, or the watch is another one.
    EchoLost,
    /// A rule, or another one, wants this value.
    Wanted(bool),
    /// The value changes faster than it is worth correcting.
    TooFast,
    /// The pause after [`Seen::TooFast`] is over.
    Resumed,
    /// No rule matches any more, or the agent stops; the value now.
    Released {
        /// The value, if it could be read.
        value: Option<bool>,
        /// No write since the cgroup was brought under its rule can have gone unseen. One before
        /// that, while the role of its container was not known, shows in the first value.
        every_write_seen: bool,
    },
    /// What followed from that is done, or the cgroup is gone: nothing of an agent's is there.
    Restored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    None,
    /// Open the file for writing without writing: what cannot be written could not be kept.
    TryOpen,
    /// Write a value, for a reason.
    Write(bool, Cause),
    /// Report what would be written.
    ReportDryRun,
    /// Save that the value is an agent's own, for the next agent.
    Save,
    /// Keep the original value: what is there now is not known, or this agent writes nothing.
    Keep,
}

/// What is known of one container's value.
#[derive(Debug)]
pub(super) struct OomGroupState {
    wanted: bool,
    dry_run: bool,
    provenance: Provenance,
    phase: Phase,
    echo: Echo,
    /// This agent, or one before it, has written the value.
    written_by_us: bool,
    /// The value that this agent wrote last.
    last_written: Option<bool>,
    dry_run_reported: bool,
    writes: u64,
    reverts: u64,
}

impl OomGroupState {
    pub(super) fn new(wanted: bool, origin: Origin, dry_run: bool) -> Self {
        let provenance = match origin {
            Origin::Made => Provenance::Fresh { had_1: false },
            Origin::Existing => Provenance::Preexisting(None),
            Origin::Adjusted(original) => Provenance::Inherited { original, was_there: false },
        };
        OomGroupState {
            wanted,
            dry_run,
            provenance,
            phase: Phase::Settling,
            echo: Echo::None,
            written_by_us: matches!(origin, Origin::Adjusted(_)),
            last_written: None,
            dry_run_reported: false,
            writes: 0,
            reverts: 0,
        }
    }

    /// An earlier agent has written the value in place of this one.
    pub(super) fn inherit(&mut self, original: bool) {
        let was_there = match self.provenance {
            Provenance::Fresh { .. } => false,
            Provenance::Preexisting(_) => true,
            Provenance::Inherited { was_there, .. } => was_there,
        };
        self.provenance = Provenance::Inherited { original, was_there };
        self.written_by_us = true;
    }

    /// Takes notice of what was seen, and says what to do.
    pub(super) fn step(&mut self, seen: Seen) -> Action {
        match seen {
            Seen::Value(value) => self.value(value),
            Seen::Writable(value) => {
                let reports =
                    value != self.wanted && !std::mem::replace(&mut self.dry_run_reported, true);
                if reports { Action::ReportDryRun } else { Action::None }
            }
            Seen::Written { cause, watched } => self.written(cause, watched),
            Seen::Changed(value) => {
                self.changed(value);
                Action::None
            }
            Seen::EchoLost => {
                self.echo = Echo::None;
                Action::None
            }
            Seen::Wanted(wanted) => {
                self.dry_run_reported = false;
                if wanted != self.wanted {
                    self.wanted = wanted;
                    self.phase = match self.phase {
                        Phase::Settling | Phase::Holding => Phase::Settling,
                        Phase::BackedOff { .. } => Phase::BackedOff { held: false },
                    };
                }
                Action::None
            }
            Seen::TooFast => {
                self.echo = Echo::None;
                self.phase = Phase::BackedOff { held: self.is_held() };
                Action::None
            }
            Seen::Resumed => {
                if let Phase::BackedOff { held } = self.phase {
                    self.phase = if held { Phase::Holding } else { Phase::Settling };
                }
                Action::None
            }
            Seen::Released { value, every_write_seen } => self.released(value, every_write_seen),
            Seen::Restored => {
                self.written_by_us = false;
                Action::None
            }
        }
    }

    fn released(&mut self, value: Option<bool>, every_write_seen: bool) -> Action {
        let Some(original) = self.value_to_restore(every_write_seen) else { return Action::None };
        // A rule may want the original by now. Then another value is still an agent's own only if
        // this one could not write it.
        let may_be_ours =
            self.wanted != original || (self.last_written != Some(original) && !self.is_held());
        match value {
            Some(value) if value != original && may_be_ours && !self.dry_run => {
                Action::Write(original, Cause::Restore)
            }
            // It has been written since, which is not ours to undo.
            Some(value) if value == original || !may_be_ours => self.step(Seen::Restored),
            None if !may_be_ours => self.step(Seen::Restored),
            _ => Action::Keep,
        }
    }

    fn value(&mut self, value: bool) -> Action {
        match &mut self.provenance {
            Provenance::Preexisting(original) => *original = original.or(Some(value)),
            // A 1 that is not ours is the runtime's. Ours may be there although 0 is wanted by now.
            Provenance::Fresh { had_1 } if value && self.last_written != Some(true) => {
                *had_1 = true;
            }
            Provenance::Fresh { .. } | Provenance::Inherited { .. } => {}
        }
        if value != self.wanted && !self.dry_run {
            // The runtime's own value, written at creation, is no revert.
            let cause = if self.is_held() { Cause::Revert } else { Cause::Enforce };
            return Action::Write(self.wanted, cause);
        }
        if value == self.wanted && self.was_there() {
            // What was right before the agent came is held; that of a cgroup in the making is
            // the kernel's.
            self.hold();
        }
        // That an earlier agent has written it says nothing about this one.
        if self.writes == 0 { Action::TryOpen } else { Action::None }
    }

    fn written(&mut self, cause: Cause, watched: bool) -> Action {
        self.writes += 1;
        self.last_written = Some(self.wanted);
        self.reverts += u64::from(cause == Cause::Revert);
        self.echo = if watched { Echo::OwnWrite } else { Echo::None };
        self.hold();
        if std::mem::replace(&mut self.written_by_us, true) { Action::None } else { Action::Save }
    }

    /// Perhaps the value that is wanted anyway was written: the 1 that the runtime of a new
    /// container writes is remembered even then.
    fn changed(&mut self, value: Option<bool>) {
        if std::mem::replace(&mut self.echo, Echo::None) == Echo::OwnWrite {
            return;
        }
        if let (Provenance::Fresh { had_1 }, Some(true)) = (&mut self.provenance, value) {
            *had_1 = true;
        }
        if self.written_by_us && value == Some(self.wanted) {
            // The runtime has written what it was asked for. A later change is a revert.
            self.hold();
        }
    }

    fn hold(&mut self) {
        self.phase = match self.phase {
            Phase::Settling | Phase::Holding => Phase::Holding,
            Phase::BackedOff { .. } => Phase::BackedOff { held: true },
        };
    }

    fn is_held(&self) -> bool {
        matches!(self.phase, Phase::Holding | Phase::BackedOff { held: true })
    }

    fn was_there(&self) -> bool {
        match self.provenance {
            Provenance::Fresh { .. } => false,
            Provenance::Preexisting(_) => true,
            Provenance::Inherited { was_there, .. } => was_there,
        }
    }

    /// The value is not corrected for a while.
    pub(super) fn is_backed_off(&self) -> bool {
        matches!(self.phase, Phase::BackedOff { .. })
    }

    /// The value that something else wanted, as far as it is known.
    pub(super) fn original_value(&self) -> Option<bool> {
        match self.provenance {
            Provenance::Fresh { had_1 } => had_1.then_some(true),
            Provenance::Preexisting(original) => original,
            Provenance::Inherited { original, .. } => Some(original),
        }
    }

    /// The value to restore, if it is an agent's own that is there. A new cgroup that nothing
    /// else wrote to had the kernel's 0, if every write was seen.
    pub(super) fn value_to_restore(&self, every_write_seen: bool) -> Option<bool> {
        let kernels = every_write_seen.then_some(false);
        self.original_value().or(kernels).filter(|_| self.written_by_us)
    }

    /// The next report of inotify is of the agent's own write.
    pub(super) fn expects_echo(&self) -> bool {
        self.echo == Echo::OwnWrite
    }

    pub(super) fn wanted(&self) -> bool {
        self.wanted
    }

    /// Writes that went well.
    pub(super) fn writes(&self) -> u64 {
        self.writes
    }

    /// Those of them that undid another's.
    pub(super) fn reverts(&self) -> u64 {
        self.reverts
    }
}

#[cfg(test)]
mod tests;
