//! The metrics: names, types and labels are a contract (docs/metrics.md).
//!
//! No label has an unbounded set of values: no pid, command name, uid or
//! container ID. Those are in the log line and the API.

mod arguments;
mod config;
mod escalated;
mod families;
mod family;
mod making;
mod series;
mod workload;

use super::{
    Refused,
    lock::{Held, Lock},
};
use crate::{
    enforce::shield::{ScoreWrite, Written},
    kubernetes::{client::Failure, events::send::Outcome},
    runtime::nri,
};
use arguments::ArgumentsRead;
use escalated::Escalated;
use families::Families;
use family::Key;
pub(crate) use family::PIECE;
use herder_model::{
    cgroup::tree::Role,
    oom::Kind,
    owner::{ContainerNames, Owner},
    pods::{addresses::SelfRefused, restarts::RestartSeen},
};
use herder_model::{
    enforcement::{Cause, Obstacle, OomGroupWrite, WriteResult},
    kill::KillReport,
    oom::{
        event::Means,
        reasons::{Lost, NoKill, Unattributed, Unseen},
    },
    shield::Unprotected,
};
use prometheus::{TEXT_FORMAT, TextEncoder};
use series::Series;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use workload::Workload;

/// The cgroup label of kills whose cgroup was never seen.
const UNKNOWN: &str = "unknown";

/// How long the series of a container outlive it by default.
const RETENTION: Duration = Duration::from_secs(15 * 60);

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
    families: Families,
    escalated: Escalated,
    arguments: ArgumentsRead,
    workload: Workload,
    series: Lock<Series>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(RETENTION)
    }
}

impl Metrics {
    /// With every series that has a known set of labels at 0. Series of containers
    /// outlive them by the retention.
    pub fn new(retention: Duration) -> Self {
        let mut families = Families::new();
        let escalated = Escalated::new(&mut families.exposed);
        let arguments = ArgumentsRead::new(&mut families.exposed);
        let workload = Workload::new(&mut families.exposed);
        let series = Lock::new(Series::new(retention));
        Metrics { families, escalated, arguments, workload, series }
    }

    /// Sets the source of kills, by its name, and by what means decisions are known.
    pub fn source(&self, name: &str, means: Means) {
        self.families.build(name, means.as_str());
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

    pub(super) fn kill(&self, report: &KillReport, age: Duration) {
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
                series.touch(&report.owner);
                families.kills.add([labels[0], labels[1], labels[2], kind, limit], 1);
                self.workload.killed(report);
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
                series.touch(owner);
                families.processes.add([labels[0], labels[1], labels[2], kind], 1);
            }
        }
    }

    /// A container lived on after a kill.
    pub(super) fn survived(&self, owner: &Owner) {
        let mut series = self.series();
        match owner {
            Owner::Container(ContainerNames { namespace, pod, container }) => {
                series.touch(owner);
                self.families.survived.add([namespace, pod, container], 1);
            }
            Owner::Host { cgroup } | Owner::Unnamed { cgroup } => {
                self.families.host_survived.add([&series.host_label(cgroup)], 1);
            }
        }
    }

    pub(super) fn victim_exited(&self, after: Duration) {
        self.families.exit_seconds.observe(after.as_secs_f64());
    }

    pub(super) fn lost(&self, reason: Lost, times: u64) {
        self.families.lost(reason).add([reason.as_str()], times);
    }

    pub(super) fn unattributed(&self, reason: Unattributed) {
        self.families.unattributed.add([reason.as_str()], 1);
    }

    pub(super) fn unseen(&self, reason: Unseen, processes: u64) {
        self.families.unseen.add([reason.as_str()], processes);
    }

    pub(super) fn no_kill(&self, reason: NoKill) {
        self.families.ignored.add([reason.as_str()], 1);
    }

    /// What a rule may be counted for begins at 0, so that a first failure is seen.
    pub(super) fn rule(&self, name: &str) {
        for result in ["ok", "gone", "error"] {
            self.families.writes.begin([name, result]);
        }
        self.families.reverts.begin([name]);
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
        now: Instant,
    ) {
        let mut series = self.series();
        match value {
            Some(value) => series.present(owner, &self.families, value, wanted),
            None => series.gone(owner, &self.families, now),
        }
    }

    /// A cgroup of an owner was removed.
    pub(super) fn left(&self, owner: &Owner, now: Instant) {
        self.series().left(owner, now);
    }

    pub(super) fn obstacles(&self, containers: &BTreeMap<Obstacle, usize>) {
        for obstacle in Obstacle::ALL {
            let count = containers.get(&obstacle).copied().unwrap_or(0);
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            self.families.not_enforceable.set([obstacle.as_str()], count);
        }
    }

    pub(super) fn not_kept(&self, cgroups: [u64; 2]) {
        for (role, cgroups) in Role::ALL.into_iter().zip(cgroups) {
            self.families.not_kept.set([role.as_str()], cgroups);
        }
    }

    pub(super) fn refused(&self, refused: Refused) {
        self.families.refused.add([refused.as_str()], 1);
    }

    pub(super) fn self_refused(&self, refused: SelfRefused) {
        self.workload.refused(refused);
    }

    pub(super) fn restart(&self, restart: &RestartSeen) {
        let ContainerNames { namespace, pod, container } = &restart.names;
        let labels: [&str; 4] = [namespace, pod, container, restart.reason.as_str()];
        self.families.restarts.add(labels, u64::from(restart.times));
    }

    pub(super) fn api_error(&self, failure: Failure) {
        self.families.api_errors.add([failure.as_str()], 1);
    }

    pub(super) fn event(&self, outcome: Outcome) {
        self.families.events.add([outcome.as_str()], 1);
    }

    pub(super) fn bad_annotation(&self) {
        self.families.bad_annotations.inc();
    }

    pub(super) fn nri_answer(&self, outcome: nri::Outcome) {
        self.families.nri_adjustments.add([outcome.as_str()], 1);
    }

    pub(super) fn nri_answered(&self, took: Duration) {
        self.families.nri_answer_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn nri_connection(&self, attempt: nri::Attempt) {
        self.families.nri_connections.add([attempt.as_str()], 1);
    }

    pub(super) fn nri_connected(&self, connected: bool) {
        self.families.nri_connected.set([], connected.into());
    }

    pub(super) fn score_write(&self, what: Written, result: &ScoreWrite) {
        self.families.shield.writes.add([what.as_str(), result.as_str()], 1);
    }

    pub(super) fn init_forked(&self) {
        self.families.shield.forks.add([], 1);
    }

    pub(super) fn init_forks_lost(&self, times: u64) {
        self.families.shield.forks_lost.add([], times);
    }

    pub(super) fn protections(&self, protected: usize, unprotected: &BTreeMap<Unprotected, usize>) {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.families.shield.protected.set([], number(protected));
        for reason in Unprotected::ALL {
            let count = unprotected.get(&reason).copied().unwrap_or(0);
            self.families.shield.unprotected.set([reason.as_str()], number(count));
        }
    }

    pub(super) fn expire(&self, now: Instant, is_there: impl Fn(&ContainerNames) -> bool) {
        let expired = self.series().expire(&self.families, now, is_there);
        expired.iter().for_each(|owner| self.workload.expired(owner));
    }

    /// Log lines that were dropped since the start.
    pub fn log_lines_dropped(&self, total: u64) {
        let counter = &self.families.log_dropped;
        counter.inc_by(total.saturating_sub(counter.get()));
    }
}

#[cfg(test)]
mod tests;
