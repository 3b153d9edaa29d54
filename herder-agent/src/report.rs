//! Reports: one call for each occurrence writes the log line, counts, and keeps the
//! record, so that the three cannot drift apart. A kill takes two, because its scene is read
//! between them; the second takes what the first gives.

mod arguments;
mod config;
mod enforcement;
mod escalation;
pub mod heartbeat;
pub mod journal;
mod lock;
pub mod metrics;
pub mod own;
mod port;
mod record;
pub mod requests;
mod runtime;
mod shield;

pub use config::ConfigInForce;
pub use port::{InForce, Refused};
pub use record::KillRecord;

use crate::{
    kernel::clock::Clock,
    kubernetes::{client::Failure, events::send},
};
use arguments::Kept;
use herder_model::{
    cgroup::{CgroupPath, tree::Role},
    clock::Monotonic,
    enforcement::Obstacle,
    kill::KillReport,
    oom::{
        event::Means,
        reasons::{Lost, NoKill, Unattributed, Unseen},
    },
    owner::{ContainerNames, Owner},
    pods::restarts::RestartSeen,
    rules::annotation::AnnotationError,
    scene::Scene,
};
use journal::Journal;
use lock::{Held, Lock};
use metrics::{Metrics, RETENTION};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// Receives all occurrences. Shared by the core and the server.
#[derive(Debug)]
pub struct Reporter {
    clock: Clock,
    metrics: Metrics,
    journal: Lock<Journal>,
    arguments: Lock<Kept>,
    source: OnceLock<&'static str>,
    config: Lock<Option<ConfigInForce>>,
    reported_unread: AtomicBool,
}

impl Default for Reporter {
    fn default() -> Self {
        Self::new(RETENTION, Clock::System)
    }
}

impl Reporter {
    /// One whose series of containers outlive them by so long.
    pub fn new(retention: Duration, clock: Clock) -> Self {
        Reporter {
            clock,
            metrics: Metrics::new(retention),
            journal: Lock::new(Journal::default()),
            arguments: Lock::new(Kept::default()),
            source: OnceLock::new(),
            config: Lock::new(None),
            reported_unread: AtomicBool::new(false),
        }
    }

    /// The source of kills is attached; this is its name, and by what means decisions are known.
    /// Of several calls the first counts.
    pub fn attached(&self, source: &'static str, means: Means) {
        if self.source.set(source).is_ok() {
            self.metrics.source(source, means);
        }
    }

    /// Whether kills are only counted because the kernel refused the eBPF programs.
    pub fn ebpf_refused(&self, refused: bool) {
        self.metrics.families.ebpf_refused.set([], refused.into());
    }

    /// The name of the source of kills, once that is known.
    pub fn source(&self) -> Option<&'static str> {
        self.source.get().copied()
    }

    /// The metrics, to be served.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The newest kills, newest first.
    pub fn kills(&self, limit: usize) -> Vec<Arc<KillRecord>> {
        self.journal().newest(limit)
    }

    /// The number of the newest kill; 0 if there is none.
    pub fn last_kill(&self) -> u64 {
        self.journal().last()
    }

    /// The newest kept kill with a smaller number.
    pub fn kill_before(&self, id: u64) -> Option<Arc<KillRecord>> {
        self.journal().before(id)
    }

    /// The oldest kept kill with a larger number.
    pub fn kill_after(&self, id: u64) -> Option<Arc<KillRecord>> {
        self.journal().after(id)
    }

    /// A kept kill and, if it is one of the last, its scene.
    pub fn kill_with_scene(&self, id: u64) -> Option<(Arc<KillRecord>, Option<Arc<Scene>>)> {
        self.journal().kill(id)
    }

    /// How often it became known what became of a kill's container.
    pub fn last_settled(&self) -> u64 {
        self.journal().last_settled()
    }

    /// The next kill, after so many of them, of which that became known; and its place.
    pub fn settled_after(&self, place: u64) -> Option<(u64, Arc<KillRecord>)> {
        self.journal().settled_after(place)
    }

    /// Wakes with each kill from now on, and when it is known what became of its container.
    pub fn news_of_kills(&self) -> watch::Receiver<()> {
        self.journal().news()
    }

    fn journal(&self) -> Held<'_, Journal> {
        self.journal.lock()
    }

    /// Reports a kill. Returns its number.
    pub fn kill(&self, report: &KillReport) -> u64 {
        self.keep(self.announce(report), report)
    }

    /// Counts and logs a kill. Its record is still to be kept: [`Self::keep`].
    #[must_use]
    pub fn announce(&self, report: &KillReport) -> KillRecord {
        let now = self.clock.now();
        let marked = report.kill.victims.first().map_or(Monotonic::ZERO, |victim| victim.time);
        let age = now.saturating_duration_since(marked);
        self.metrics.kill(report, age, now);
        let record = KillRecord::new(report, age);
        // Names from outside are strings, which both formats quote, so that they cannot
        // forge a line.
        tracing::info!(
            kind = report.kind.as_str(),
            limit = report.limit.as_str(),
            limit_bytes = record.limit_bytes,
            limit_cgroup = record.limit_cgroup,
            container_limit_bytes = record.container_limit_bytes,
            exiting = Some(record.exiting).filter(|exiting| *exiting > 0),
            namespace = record.namespace,
            pod = record.pod,
            container = record.container,
            cgroup = record.cgroup.as_deref().unwrap_or("unknown"),
            group_cgroup = record.group_cgroup,
            pod_uid = record.pod_uid.map(tracing::field::display),
            container_id = record.container_id.map(tracing::field::display),
            rule = record.rule,
            processes = record.processes,
            pid = record.victim.pid,
            ns_pid = record.victim.ns_pid,
            comm = record.victim.comm,
            uid = record.victim.uid,
            oom_score_adj = record.victim.oom_score_adj,
            anon_rss = record.victim.anon_rss,
            trigger_pid = record.trigger.as_ref().map(|trigger| trigger.pid),
            trigger_comm = record.trigger.as_ref().map(|trigger| &*trigger.comm),
            age_us = u64::try_from(age.as_micros()).unwrap_or(u64::MAX),
            "OOM kill."
        );
        record
    }

    /// Keeps the record of a kill with its scene, which may have been read since it was announced.
    /// Returns its number.
    pub fn keep(&self, mut record: KillRecord, report: &KillReport) -> u64 {
        let finding = report.finding_of_pod();
        record.own.finding = finding.map(|finding| finding.text_without_ids().into());
        let number = self.journal().add(record, report.scene.clone());
        scene(number, report);
        number
    }

    /// It is known what became of the container after a kill that did not take it at once: it has
    /// survived, or ended after some time, perhaps with something in the way of its rule. Gives
    /// the kill's record, if it is kept and did not say so before.
    pub fn settled(
        &self,
        kill: u64,
        owner: &Owner,
        ended: Option<Duration>,
        obstacle: Option<Obstacle>,
    ) -> Option<Arc<KillRecord>> {
        let record = self.journal().settled(kill, ended)?;
        match ended {
            None => self.metrics.survived(owner, self.clock.now()),
            Some(ended) => tracing::warn!(
                kill_id = record.id,
                namespace = record.namespace,
                pod = record.pod,
                container = record.container,
                cgroup = record.cgroup.as_deref().unwrap_or("unknown"),
                after_ms = u64::try_from(ended.as_millis()).unwrap_or(u64::MAX),
                obstacle = obstacle.map(Obstacle::as_str),
                "Container ended after an OOM kill in it."
            ),
        }
        Some(record)
    }

    /// The last thread of a victim is gone, so long after its mark.
    pub fn victim_exited(&self, tgid: u32, after: Duration) {
        self.metrics.families.exit_seconds.observe(after.as_secs_f64());
        self.journal().exited(tgid, after);
    }

    /// Something could not be reported, so many times.
    pub fn lost(&self, reason: Lost, times: u64) {
        tracing::error!(reason = reason.as_str(), times, "Records of the kernel were lost.");
        self.metrics.families.lost(reason).add([reason.as_str()], times);
    }

    /// The kernel reported a cgroup by a path that names nothing. Only the first one is logged,
    /// because a workload may cause any number.
    pub fn cgroup_unread(&self, error: &dyn std::error::Error) {
        if !self.reported_unread.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "A new cgroup was missed until the next walk; further ones are only counted in herder_records_lost_total.");
        }
        let reason = Lost::CgroupPath;
        self.metrics.families.lost(reason).add([reason.as_str()], 1);
    }

    /// The owner of a reported kill is unknown, or known only in part.
    pub fn unattributed(&self, reason: Unattributed) {
        let text = match reason {
            Unattributed::UnknownContainer => "The container of an OOM kill is unknown.",
            Unattributed::UnknownPod | Unattributed::UnknownCgroup => {
                "The pod or cgroup of an OOM kill is unknown."
            }
        };
        tracing::warn!(reason = reason.as_str(), "{text}");
        self.metrics.families.unattributed.add([reason.as_str()], 1);
    }

    /// Processes that the kernel counted and no agent reported; without a cgroup if only the
    /// node's count has them.
    pub fn unseen(&self, reason: Unseen, cgroup: Option<&CgroupPath>, processes: u64) {
        let cgroup = cgroup.map_or_else(|| "unknown".to_owned(), CgroupPath::to_string);
        tracing::warn!(reason = reason.as_str(), cgroup, processes, "OOM kills were not reported.");
        self.metrics.families.unseen.add([reason.as_str()], processes);
    }

    /// A mark that is not a kill.
    pub fn no_kill(&self, reason: NoKill, pid: u32, tid: u32) {
        tracing::debug!(reason = reason.as_str(), pid, tid, "A mark of the kernel is not a kill.");
        self.metrics.families.ignored.add([reason.as_str()], 1);
    }

    /// Rules that may be the cause of writes, by their names.
    pub fn rules<'a>(&self, names: impl Iterator<Item = &'a str>) {
        names.for_each(|name| self.metrics.rule(name));
    }

    /// A cgroup of an owner was removed; its series go after a while.
    pub fn owner_left(&self, owner: &Owner) {
        self.metrics.left(owner, self.clock.now());
    }

    /// How many cgroups are there and not kept, before and now, by their [`Role`].
    pub fn not_kept(&self, before: [u64; 2], now: [u64; 2]) {
        let [containers, others] = now;
        if before == [0; 2] {
            tracing::warn!(
                containers,
                others,
                "There are more cgroups than the agent keeps. Kills in the others are reported for the nearest kept cgroup above; containers among them are not enforced."
            );
        } else if now == [0; 2] {
            tracing::info!("All cgroups are kept again.");
        }
        for (role, cgroups) in Role::ALL.into_iter().zip(now) {
            self.metrics.families.not_kept.set([role.as_str()], cgroups);
        }
    }

    /// A container was started again. If a kill that was seen ended it, its record
    /// says so from now on.
    pub fn restart(&self, restart: &RestartSeen) {
        let RestartSeen { names, reason, times, ended } = restart;
        let kill = ended.and_then(|ended| self.journal().restarted(ended, *reason));
        tracing::info!(
            namespace = names.namespace,
            pod = names.pod,
            container = names.container,
            reason = reason.as_str(),
            times,
            kill_id = kill.map(|(id, _)| id),
            kill_kind = kill.map(|(_, kind)| kind.as_str()),
            "Container restarted."
        );
        let ContainerNames { namespace, pod, container } = names;
        let labels: [&str; 4] = [namespace, pod, container, reason.as_str()];
        self.metrics.families.restarts.add(labels, u64::from(*times));
    }

    /// A request to the API server failed.
    pub fn api_error(&self, failure: Failure) {
        self.metrics.families.api_errors.add([failure.as_str()], 1);
    }

    /// The outcome of an occurrence for Events.
    pub fn event(&self, outcome: send::Outcome) {
        self.metrics.families.events.add([outcome.as_str()], 1);
    }

    /// A pod's annotation is invalid.
    pub fn bad_annotation(&self, namespace: &str, pod: &str, error: &AnnotationError) {
        tracing::warn!(namespace, pod, %error, "The pod's annotation is invalid; the pod is left alone.");
        self.metrics.families.bad_annotations.add([], 1);
    }

    /// Forgets the series of containers that are long gone. Those of pods that
    /// are there stay.
    pub fn expire(&self, is_there: impl Fn(&ContainerNames) -> bool) {
        self.metrics.expire(self.clock.now(), is_there);
    }
}

/// Logs the scene of a kill for those who look for it, as the API has it.
fn scene(number: u64, report: &KillReport) {
    let Some(scene) = &report.scene else { return };
    if tracing::enabled!(tracing::Level::DEBUG) {
        tracing::debug!(
            kill_id = number,
            finding = scene.finding.as_ref().map(|finding| &*finding.text),
            scene = serde_json::to_string(&**scene).unwrap_or_default(),
            "Scene of an OOM kill."
        );
    }
}

#[cfg(test)]
pub(crate) mod tests;
