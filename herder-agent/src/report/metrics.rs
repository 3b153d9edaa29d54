//! The metrics: names, types and labels are a contract (docs/metrics.md).
//!
//! No label has an unbounded set of values: no pid, command name, uid or
//! container ID. Those are in the log line and the API.

mod families;
mod family;
mod series;
mod values;

use super::{
    ConfigInForce,
    lock::{Held, Lock},
};
use families::Families;
use family::Key;
pub(crate) use family::PIECE;
use herder_model::{
    clock::Monotonic,
    enforcement::{Cause, OomGroupWrite, WriteResult},
    escalation::{self, To},
    kill::KillReport,
    oom::{Kind, event::Means},
    owner::{ContainerNames, Owner},
};
use prometheus::{TEXT_FORMAT, TextEncoder};
use series::Series;
use std::time::{Duration, SystemTime};

/// The cgroup label of kills whose cgroup was never seen.
const UNKNOWN: &str = "unknown";

/// How long the series of a container outlive it by default.
pub(super) const RETENTION: Duration = Duration::from_secs(15 * 60);

/// The content type of the exposition.
pub const EXPOSITION: &str = TEXT_FORMAT;

/// Where an exposition begins, or goes on.
#[derive(Debug, Default)]
pub struct Place {
    family: usize,
    after: Option<Key>,
}

/// All families, and which series they have.
#[derive(Debug)]
pub struct Metrics {
    pub(super) families: Families,
    series: Lock<Series>,
}

impl Metrics {
    /// With every series that has a known set of labels at 0. Series of containers
    /// outlive them by the retention.
    pub fn new(retention: Duration) -> Self {
        Metrics { families: Families::new(), series: Lock::new(Series::new(retention)) }
    }

    /// Sets the source of kills, by its name, and by what means decisions are known.
    pub fn source(&self, name: &str, means: Means) {
        let revision = option_env!("HERDER_REVISION").unwrap_or("unknown");
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let labels = [env!("CARGO_PKG_VERSION"), revision, &kernel, name, means.as_str()];
        self.families.build_info.set(labels, 1);
    }

    /// The text exposition from a place on: a little more than a [`PIECE`] at most, and where
    /// it goes on, if it does.
    pub fn piece(&self, mut place: Place) -> (String, Option<Place>) {
        let mut text = String::new();
        while let Some(family) = self.families.exposed.get(place.family) {
            let after = family.expose(&mut text, place.after.as_ref()).unwrap_or_else(|error| {
                tracing::error!(%error, "Cannot write the metrics.");
                None
            });
            let family = place.family + usize::from(after.is_none());
            place = Place { family, after };
            if text.len() >= PIECE {
                return (text, Some(place));
            }
        }
        if let Err(error) =
            TextEncoder::new().encode_utf8(&self.families.registry.gather(), &mut text)
        {
            tracing::error!(%error, "Cannot write the metrics.");
        }
        (text, None)
    }

    /// The whole of it, and its content type.
    pub fn exposition(&self) -> (Vec<u8>, &'static str) {
        let (mut text, mut place) = self.piece(Place::default());
        while let Some(next) = place {
            let (more, rest) = self.piece(next);
            text.push_str(&more);
            place = rest;
        }
        (text.into_bytes(), EXPOSITION)
    }

    fn series(&self) -> Held<'_, Series> {
        self.series.lock()
    }

    pub(super) fn kill(&self, report: &KillReport, age: Duration, now: Monotonic) {
        let families = &self.families;
        families.report_seconds.observe(age.as_secs_f64());
        // These metrics count which containers ended, so a group inside of a container that
        // lives on counts as sub-processes.
        let kind = if report.ends { report.kind } else { Kind::Subprocess };
        let (kind, limit) = (kind.as_str(), report.limit.as_str());
        let mut series = self.series();
        match &report.owner {
            Owner::Container(names) => {
                let labels = [&names.namespace, &names.pod, &names.container].map(String::as_str);
                series.touch(&report.owner, now);
                families.kills.add([labels[0], labels[1], labels[2], kind, limit], 1);
                // One of which nothing could be read leaves the last value. What is in none of the
                // pod's containers has no limit that could be raised.
                if let Some(used) = report.container_used()
                    && !names.container.is_empty()
                {
                    families.memory.set(labels, used);
                }
            }
            Owner::Host { cgroup } => {
                let known = report.cgroup.is_some();
                let label = if known { series.host_label(cgroup) } else { UNKNOWN.to_owned() };
                families.host_kills.add([label.as_str(), kind, limit], 1);
            }
            // The core waits for names, and then says `Container` or `Host`.
            Owner::Unnamed { .. } => {}
        }
        for owner in &report.victim_owners {
            if let Owner::Container(names) = owner {
                let labels = [&names.namespace, &names.pod, &names.container].map(String::as_str);
                series.touch(owner, now);
                families.processes.add([labels[0], labels[1], labels[2], kind], 1);
            }
        }
    }

    /// A container lived on after a kill.
    pub(super) fn survived(&self, owner: &Owner, now: Monotonic) {
        let mut series = self.series();
        match owner {
            Owner::Container(ContainerNames { namespace, pod, container }) => {
                series.touch(owner, now);
                self.families.survived.add([namespace, pod, container], 1);
            }
            Owner::Host { cgroup } | Owner::Unnamed { cgroup } => {
                self.families.host_survived.add([&series.host_label(cgroup)], 1);
            }
        }
    }

    /// What a rule may be counted for begins at 0, so that a first failure is seen.
    pub(super) fn rule(&self, name: &str) {
        for result in ["ok", "gone", "error"] {
            self.families.writes.begin([name, result]);
        }
        self.families.reverts.begin([name]);
    }

    /// What the escalation of a rule may come to begins at 0, so that the first one is seen.
    pub(super) fn escalating(&self, rule: &str, to: To) {
        for outcome in escalation::Outcome::ALL {
            self.families.escalations.begin([rule, to.as_str(), outcome.as_str()]);
        }
    }

    pub(super) fn config_in_force(&self, config: &ConfigInForce, read: SystemTime) {
        let families = &self.families;
        families.config_info.set_only([&config.hash, config.log_level.as_str()], 1);
        families.config_last_successful.set([], 1);
        // A clock before 1970 is wrong anyway.
        let read = read.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        families.config_last_success.set([], read.as_secs());
    }

    pub(super) fn oom_group_write(&self, write: &OomGroupWrite) {
        let result = match &write.result {
            WriteResult::Ok => "ok",
            WriteResult::Gone => "gone",
            WriteResult::Error(_) => "error",
        };
        self.families.writes.add([&*write.rule, result], 1);
        self.families.enforce_seconds.observe(write.took.as_secs_f64());
        if write.cause == Cause::Revert {
            self.families.reverts.add([&*write.rule], 1);
        }
    }

    /// The value of a matched container beside the one its rule wants. Its kills then begin at 0 so
    /// that `increase()` sees the first one.
    pub(super) fn oom_group_effective(
        &self,
        owner: &Owner,
        value: Option<bool>,
        wanted: bool,
        now: Monotonic,
    ) {
        let mut series = self.series();
        match value {
            Some(value) => series.present(owner, &self.families, value, wanted),
            None => series.gone(owner, &self.families, now),
        }
    }

    /// A cgroup of an owner was removed.
    pub(super) fn left(&self, owner: &Owner, now: Monotonic) {
        self.series().left(owner, now);
    }

    pub(super) fn expire(&self, now: Monotonic, is_there: impl Fn(&ContainerNames) -> bool) {
        self.series().expire(&self.families, now, is_there);
        self.families.values.forget_unused();
    }

    /// Log lines that were dropped since the start.
    pub fn log_lines_dropped(&self, total: u64) {
        self.families.log_dropped.set([], total);
    }
}

#[cfg(test)]
mod tests;
