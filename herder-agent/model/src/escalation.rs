//! When single-process mode has failed a container: after so many sub-process kills within a time
//! its next kill takes all of it, or it is restarted.
//!
//! ```text
//!  a sub-process kill ─► container: so many within the time? ─► node: is a restart allowed now?
//!                              └── quiet for so long: back to the rule's value
//! ```
//!
//! `container` decides for one container, `node` for all of them and keeps the budget. Both take
//! the time from their caller, and neither knows a file.

pub mod container;
pub mod node;

use crate::text::shortened;
use jiff::SignedDuration;
use serde::Deserialize;
use std::{fmt, time::Duration};

/// What is asked for where a rule does not say it.
pub const DEFAULT_AFTER: u64 = 3;

/// The same as [`DEFAULT_AFTER`], for the time.
pub const DEFAULT_WITHIN: Duration = Duration::from_secs(5 * 60);

/// Most kills that are waited for. The moment of each is remembered, for each container.
pub const MOST_AFTER: u64 = 100;

/// The bounds of the time. Below a second the kills of one burst would count; past a day
/// kills hardly belong together.
const WITHIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(24 * 60 * 60)];

/// What happens to a container that loses one process after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Escalate {
    after: u8,
    within: Duration,
    to: To,
}

labels! {
    /// What it is escalated to: the word in a rule, and the `to` label.
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum To {
        /// `memory.oom.group` becomes 1: the kernel's next kill takes all processes.
        Group = "group",
        /// All processes are killed at once (`cgroup.kill`).
        Restart = "restart",
    }
}

labels! {
    /// What came of an escalation.
    pub enum Outcome {
        Done = "ok",
        /// This kernel has no `cgroup.kill`, so `memory.oom.group` was set to 1 in its place.
        GroupInstead = "group-instead",
        /// A restart that the budget of the node does not allow yet; it is tried again.
        OverBudget = "over-budget",
        /// A restart that was put off, and not due any more when the budget allowed it.
        Lapsed = "lapsed",
        /// The cgroup was removed, or is under no rule any more.
        Gone = "gone",
        /// The kernel refused.
        Error = "error",
        /// A dry run: nothing was written.
        DryRun = "dry-run",
        /// The cgroup is not one container, so that more would be hit than had the kills.
        Refused = "refused",
    }
}

/// Why something is no escalation. The text names what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EscalateError {
    /// Not of the form of an annotation.
    #[error("{0:?} is not of the form 3/5m=restart: kills, a time, and group or restart")]
    Form(String),
    #[error("{0} is not a number of kills from 1 to {MOST_AFTER}")]
    After(String),
    #[error("{0:?} is no duration; write a number with its unit, such as 30s, 5m or 1h")]
    Duration(String),
    #[error("{0:?} is out of bounds: from 1s to 24h")]
    Within(String),
    #[error("{0:?} is none of group, restart")]
    To(String),
}

impl Escalate {
    /// After so many kills within a time.
    pub fn new(after: u64, within: Duration, to: To) -> Result<Self, EscalateError> {
        let bounded =
            u8::try_from(after).ok().filter(|it| (1..=MOST_AFTER).contains(&(*it).into()));
        let after = bounded.ok_or_else(|| EscalateError::After(after.to_string()))?;
        Ok(Escalate { after, within, to })
    }

    /// The value of a pod's annotation, such as `3/5m=restart`. The text of the error is short
    /// however long the value is.
    pub fn parse(text: &str) -> Result<Self, EscalateError> {
        let parts = || {
            let (kills, to) = text.trim().split_once('=')?;
            let (after, within) = kills.split_once('/')?;
            Some((after.trim(), within.trim(), to.trim()))
        };
        let (after, within, to) = parts().ok_or_else(|| EscalateError::Form(shortened(text)))?;
        let is_number = after.bytes().all(|byte| byte.is_ascii_digit());
        let after = Some(after)
            .filter(|_| is_number)
            .and_then(|it| it.parse().ok())
            .ok_or_else(|| EscalateError::After(shortened(after)))?;
        let to = To::ALL.into_iter().find(|it| it.as_str() == to);
        let to = to.ok_or_else(|| EscalateError::To(shortened(parts().map_or("", |it| it.2))))?;
        Self::new(after, duration(within)?, to)
    }

    pub fn after(self) -> usize {
        self.after.into()
    }

    /// Within which time; and so long it has to be quiet for the rule's value to come back.
    pub fn within(self) -> Duration {
        self.within
    }

    pub fn to(self) -> To {
        self.to
    }
}

/// As the annotation has it.
impl fmt::Display for Escalate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}={}", self.after, short(self.within), self.to.as_str())
    }
}

/// A time within the bounds, as people write it: `30s`, `5m`, `1h`.
pub fn duration(text: &str) -> Result<Duration, EscalateError> {
    let is_short = text.len() <= 32;
    let parsed = Some(text).filter(|_| is_short).and_then(|it| it.parse::<SignedDuration>().ok());
    let parsed = parsed.ok_or_else(|| EscalateError::Duration(shortened(text)))?;
    let out = || EscalateError::Within(shortened(text));
    let parsed = Duration::try_from(parsed).map_err(|_| out())?;
    let [least, most] = WITHIN;
    if (least..=most).contains(&parsed) { Ok(parsed) } else { Err(out()) }
}

/// A time in its largest whole unit.
pub fn short(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds % 3600 == 0 && seconds > 0 => format!("{}h", seconds / 3600),
        seconds if seconds % 60 == 0 && seconds > 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_is_kills_in_a_time_and_what_follows() {
        let table = [
            ("3/5m=restart", "3/5m=restart"),
            (" 1 / 90s = group ", "1/90s=group"),
            ("100/24h=restart", "100/24h=restart"),
            ("2/1h 30m=group", "2/90m=group"),
        ];
        for (text, expected) in table {
            assert_eq!(Escalate::parse(text).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn mistakes_name_what_was_written() {
        let long = "x".repeat(100_000);
        let table = [
            ("", "3/5m=restart"),
            ("3", "3/5m=restart"),
            ("3/5m", "3/5m=restart"),
            ("3=restart", "3/5m=restart"),
            ("0/5m=group", "0 is not a number of kills from 1 to 100"),
            ("101/5m=group", "101 is not"),
            ("300/5m=group", "300 is not"),
            ("-1/5m=group", "-1 is not"),
            ("+3/5m=group", "+3 is not"),
            ("three/5m=group", "three is not"),
            ("99999999999999999999/5m=group", "99999999999999999999 is not"),
            ("3/5=group", "\"5\" is no duration"),
            ("3/=group", "\"\" is no duration"),
            ("3/5 years=group", "no duration"),
            ("3/0s=group", "\"0s\" is out of bounds"),
            ("3/-5m=group", "\"-5m\" is out of bounds"),
            ("3/999ms=group", "out of bounds"),
            ("3/25h=group", "out of bounds"),
            ("3/5m=kill", "\"kill\" is none of group, restart"),
            ("3/5m=Restart", "\"Restart\" is none"),
            ("3/5m=restart=group", "none of group, restart"),
            (&long, "is not of the form"),
        ];
        for (text, word) in table {
            let error = Escalate::parse(text).unwrap_err().to_string();
            assert!(error.contains(word) && error.len() < 256, "{text}: {error}");
        }
    }

    #[test]
    fn a_time_is_shown_in_its_largest_whole_unit() {
        for (seconds, expected) in
            [(1, "1s"), (60, "1m"), (90, "90s"), (3600, "1h"), (86_400, "24h")]
        {
            assert_eq!(short(Duration::from_secs(seconds)), expected);
        }
    }
}
