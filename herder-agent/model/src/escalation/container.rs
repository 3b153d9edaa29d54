//! One container: its sub-process kills of late, and what follows from them.
//!
//! A state machine without IO and without a clock: [`Escalation::step`] takes what was seen and says
//! what to do, so that one table test walks its transitions.

use super::{Escalate, To};
use crate::clock::Monotonic;
use std::collections::VecDeque;

labels! {
    /// How far it is, as clients are shown it.
    pub enum Phase {
        /// Kills are counted.
        Counting = "counting",
        /// There were enough: a restart is to be made.
        Due = "waiting",
        /// The restart is being written.
        Restarting = "restarting",
        /// `memory.oom.group` is to be 1.
        Group = "group",
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The kernel killed one process of it at this time. `can_restart` says whether there is a
    /// `cgroup.kill`.
    Kill {
        at: Monotonic,
        /// Whether its processes can be killed by its cgroup.
        can_restart: bool,
    },
    /// The kernel killed its init, or all of it: what follows in this cgroup is a new container.
    Ended,
    Time(Monotonic),
    /// The restart is being written from now on.
    Started,
    /// All processes were killed, by now.
    Restarted(Monotonic),
    /// The restart, or the group, could not be had. The next kill tries it again.
    Failed,
    /// Nothing was done, and is not to be tried again before there were as many kills once more.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    None,
    /// Want 1 in place of the rule's value. `instead` of a restart, which cannot be had.
    Group {
        /// The rule asks for a restart.
        instead: bool,
    },
    /// Kill all processes, as soon as that is allowed.
    Restart,
    /// The rule's value again.
    Back,
    /// The restart is not due any more.
    Lapse,
}

/// What is known of one container.
#[derive(Clone, Debug)]
pub struct Escalation {
    escalate: Escalate,
    /// The latest kills, so many as are asked for at most; the oldest first.
    kills: VecDeque<Monotonic>,
    /// Kills until then were of what was there before, or before the rule.
    since: Monotonic,
    phase: Phase,
}

impl Escalation {
    /// One whose kills are counted from 0, and only those after that moment.
    pub fn new(escalate: Escalate, since: Monotonic) -> Self {
        Escalation { escalate, kills: VecDeque::new(), since, phase: Phase::Counting }
    }

    /// One that an earlier agent has set to 1 until it is quiet, and whose last kill was then.
    pub fn raised(escalate: Escalate, last: Monotonic) -> Self {
        let kills = [last].into();
        Escalation { kills, phase: Phase::Group, ..Self::new(escalate, last) }
    }

    pub fn escalate(&self) -> Escalate {
        self.escalate
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Kills that count now.
    pub fn kills(&self) -> usize {
        self.kills.len()
    }

    /// When the last of them happened.
    pub fn last(&self) -> Option<Monotonic> {
        self.kills.back().copied()
    }

    /// When it was quiet for so long that the rule's value comes back; none if there is nothing to
    /// come back from.
    pub fn quiet_at(&self) -> Option<Monotonic> {
        Some(*self.kills.back()? + self.escalate.within())
    }

    /// Takes notice of what was seen, and says what to do.
    pub fn step(&mut self, seen: Seen) -> Action {
        match seen {
            Seen::Kill { at, can_restart } => self.kill(at, can_restart),
            Seen::Ended => self.begin_again(),
            Seen::Time(now) => match self.quiet_at() {
                // What is being written has yet to end.
                Some(quiet) if quiet <= now && self.phase != Phase::Restarting => {
                    let lapses = self.phase == Phase::Due;
                    let action = self.begin_again();
                    if lapses { Action::Lapse } else { action }
                }
                _ => Action::None,
            },
            Seen::Started => {
                if self.phase == Phase::Due {
                    self.phase = Phase::Restarting;
                }
                Action::None
            }
            Seen::Restarted(now) => {
                self.since = now;
                self.begin_again()
            }
            Seen::Failed => {
                self.phase = Phase::Counting;
                Action::None
            }
            Seen::Refused => self.begin_again(),
        }
    }

    fn kill(&mut self, at: Monotonic, can_restart: bool) -> Action {
        if at <= self.since {
            return Action::None;
        }
        // Reports of kills come nearly in their order.
        let at = self.last().map_or(at, |last| last.max(at));
        self.kills.push_back(at);
        if self.kills.len() > self.escalate.after() {
            self.kills.pop_front();
        }
        if self.phase != Phase::Counting {
            return Action::None;
        }
        let within = self.escalate.within();
        let is_old = |then: &mut Monotonic| at.saturating_duration_since(*then) > within;
        while self.kills.pop_front_if(is_old).is_some() {}
        if self.kills.len() < self.escalate.after() {
            return Action::None;
        }
        match self.escalate.to() {
            To::Restart if can_restart => {
                self.phase = Phase::Due;
                Action::Restart
            }
            to => {
                self.phase = Phase::Group;
                Action::Group { instead: to == To::Restart }
            }
        }
    }

    fn begin_again(&mut self) -> Action {
        // Nor does it keep the room that they took.
        self.kills = VecDeque::new();
        match std::mem::replace(&mut self.phase, Phase::Counting) {
            Phase::Group => Action::Back,
            Phase::Counting | Phase::Due | Phase::Restarting => Action::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const GROUP: Action = Action::Group { instead: false };

    fn at(seconds: u64) -> Monotonic {
        Monotonic::ZERO + Duration::from_secs(1000 + seconds)
    }

    fn kill(seconds: u64) -> Seen {
        Seen::Kill { at: at(seconds), can_restart: true }
    }

    fn escalation(text: &str) -> Escalation {
        Escalation::new(Escalate::parse(text).unwrap(), Monotonic::ZERO)
    }

    /// What it shows, the rule's words, what is seen, what follows from each, and how far it is in
    /// the end.
    type Case<'a> = (&'a str, &'a str, &'a [Seen], &'a [Action], (Phase, usize));

    fn walked(text: &str, seen: &[Seen]) -> (Vec<Action>, Phase, usize) {
        let mut it = escalation(text);
        let actions = seen.iter().map(|seen| it.step(*seen)).collect();
        (actions, it.phase(), it.kills())
    }

    #[test]
    fn transitions() {
        use Action::{Back, Lapse, None as Nothing, Restart};
        let instead = Seen::Kill { at: at(1), can_restart: false };
        let (group, restart) = ("2/60s=group", "2/60s=restart");
        let table: [Case<'_>; 17] = [
            ("too few", group, &[kill(0)], &[Nothing], (Phase::Counting, 1)),
            ("enough", group, &[kill(0), kill(60)], &[Nothing, GROUP], (Phase::Group, 2)),
            ("too slow", group, &[kill(0), kill(61)], &[Nothing; 2], (Phase::Counting, 1)),
            ("one is enough", "1/60s=group", &[kill(0)], &[GROUP], (Phase::Group, 1)),
            (
                "said once",
                group,
                &[kill(0), kill(1), kill(2)],
                &[Nothing, GROUP, Nothing],
                (Phase::Group, 2),
            ),
            (
                "quiet",
                group,
                &[kill(0), kill(1), Seen::Time(at(60)), Seen::Time(at(61))],
                &[Nothing, GROUP, Nothing, Back],
                (Phase::Counting, 0),
            ),
            (
                "a later kill puts the quiet off",
                group,
                &[kill(0), kill(1), kill(50), Seen::Time(at(61)), Seen::Time(at(110))],
                &[Nothing, GROUP, Nothing, Nothing, Back],
                (Phase::Counting, 0),
            ),
            (
                "the container ends",
                group,
                &[kill(0), kill(1), Seen::Ended, kill(2)],
                &[Nothing, GROUP, Back, Nothing],
                (Phase::Counting, 1),
            ),
            (
                "quiet without anything to restore",
                group,
                &[kill(0), Seen::Time(at(60))],
                &[Nothing; 2],
                (Phase::Counting, 0),
            ),
            ("restart", restart, &[kill(0), kill(1)], &[Nothing, Restart], (Phase::Due, 2)),
            (
                "its end is a new container, and late reports are of the old one",
                restart,
                &[kill(0), kill(1), Seen::Started, Seen::Restarted(at(5)), kill(4), kill(6)],
                &[Nothing, Restart, Nothing, Nothing, Nothing, Nothing],
                (Phase::Counting, 1),
            ),
            (
                "no cgroup.kill",
                restart,
                &[kill(0), instead],
                &[Nothing, Action::Group { instead: true }],
                (Phase::Group, 2),
            ),
            (
                "put off too long",
                restart,
                &[kill(0), kill(1), Seen::Time(at(61))],
                &[Nothing, Restart, Lapse],
                (Phase::Counting, 0),
            ),
            (
                "ended by itself before",
                restart,
                &[kill(0), kill(1), Seen::Ended],
                &[Nothing, Restart, Nothing],
                (Phase::Counting, 0),
            ),
            (
                "a write that hangs is waited for",
                restart,
                &[kill(0), kill(1), Seen::Started, Seen::Time(at(900))],
                &[Nothing, Restart, Nothing, Nothing],
                (Phase::Restarting, 2),
            ),
            (
                "a failure is tried again at the next kill",
                restart,
                &[kill(0), kill(1), Seen::Started, Seen::Failed, kill(2)],
                &[Nothing, Restart, Nothing, Nothing, Restart],
                (Phase::Due, 2),
            ),
            (
                "a refusal is said after as many kills once more",
                restart,
                &[kill(0), kill(1), Seen::Refused, kill(2), kill(3)],
                &[Nothing, Restart, Nothing, Nothing, Restart],
                (Phase::Due, 2),
            ),
        ];
        for (case, text, seen, actions, (phase, kills)) in table {
            assert_eq!(walked(text, seen), (actions.to_vec(), phase, kills), "{case}");
        }
    }

    #[test]
    fn no_more_kills_are_kept_than_are_asked_for() {
        let mut it = escalation("100/24h=restart");
        for second in 0..10_000 {
            it.step(kill(second));
            assert!(it.kills() <= 100);
        }
        assert_eq!(it.phase(), Phase::Due);
    }

    /// They were reported late, or the rule came a moment ago.
    #[test]
    fn kills_from_before_the_rule_do_not_count() {
        let mut it = Escalation::new(Escalate::parse("1/60s=group").unwrap(), at(10));
        for second in [5, 10] {
            assert_eq!((it.step(kill(second)), it.kills()), (Action::None, 0), "{second}");
        }
        assert_eq!(it.step(kill(11)), GROUP);
    }

    /// Two rings are read one after the other.
    #[test]
    fn a_kill_that_is_reported_late_does_not_make_the_time_run_backwards() {
        let mut it = escalation("3/60s=group");
        for second in [50, 10, 55] {
            it.step(kill(second));
        }
        assert_eq!((it.last(), it.phase()), (Some(at(55)), Phase::Group));
    }
}
