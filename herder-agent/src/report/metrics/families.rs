//! Every family: name, help, labels.

use super::family::{Exposed, Family, FamilyKind};
use crate::{
    kubernetes::{client::Failure, events::send::Outcome},
    runtime::nri,
};
use herder_model::{
    cgroup::tree::Role,
    enforcement::Obstacle,
    oom::reasons::{Lost, NoKill, Unattributed, Unseen},
};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, Registry, core::Collector,
    process_collector::ProcessCollector,
};

/// The kernel's release, for `herder_build_info`.
fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

#[derive(Debug)]
pub(super) struct Families {
    /// Histograms, counters without labels, and the process's own.
    pub(super) registry: Registry,
    /// All others, which write themselves.
    pub(super) exposed: Vec<Box<dyn Exposed>>,
    pub(super) kills: Family<5>,
    pub(super) processes: Family<4>,
    pub(super) host_kills: Family<3>,
    pub(super) survived: Family<3>,
    pub(super) host_survived: Family<1>,
    pub(super) oom_group: Family<3>,
    pub(super) oom_group_wanted: Family<3>,
    pub(super) host_oom_group: Family<1>,
    pub(super) host_oom_group_wanted: Family<1>,
    pub(super) writes: Family<2>,
    pub(super) reverts: Family<1>,
    pub(super) not_enforceable: Family<1>,
    pub(super) not_kept: Family<1>,
    pub(super) lost_kills: Family<1>,
    pub(super) lost_records: Family<1>,
    pub(super) unattributed: Family<1>,
    pub(super) unseen: Family<1>,
    pub(super) ignored: Family<1>,
    pub(super) report_seconds: Histogram,
    pub(super) enforce_seconds: Histogram,
    pub(super) exit_seconds: Histogram,
    pub(super) reloads: Family<1>,
    pub(super) config_watched: Family<0>,
    pub(super) config_watch_failures: IntCounter,
    pub(super) log_dropped: IntCounter,
    pub(super) restarts: Family<4>,
    pub(super) api_errors: Family<1>,
    pub(super) events: Family<1>,
    pub(super) bad_annotations: IntCounter,
    pub(super) build_info: Family<4>,
    pub(super) nri_adjustments: Family<1>,
    pub(super) nri_connected: Family<0>,
    pub(super) nri_connections: Family<1>,
    pub(super) nri_answer_seconds: Histogram,
}

impl Families {
    pub(super) fn new() -> Self {
        let registry = Registry::new();
        let mut exposed = Vec::new();
        let families = Families {
            kills: counter(
                &mut exposed,
                "herder_oom_kills_total",
                "OOM kills of containers of pods. A kill is one decision of the kernel, whatever number of processes dies.",
                ["namespace", "pod", "container", "kind", "limit"],
            ),
            processes: counter(
                &mut exposed,
                "herder_oom_killed_processes_total",
                "Processes that died in OOM kills of containers of pods.",
                ["namespace", "pod", "container", "kind"],
            ),
            host_kills: counter(
                &mut exposed,
                "herder_host_oom_kills_total",
                "OOM kills outside of pods.",
                ["cgroup", "kind", "limit"],
            ),
            survived: counter(
                &mut exposed,
                "herder_oom_kills_survived_total",
                "OOM kills that the container of a pod survived: it had processes some time later.",
                ["namespace", "pod", "container"],
            ),
            host_survived: counter(
                &mut exposed,
                "herder_host_oom_kills_survived_total",
                "OOM kills outside of pods that the cgroup survived: it had processes some time later.",
                ["cgroup"],
            ),
            oom_group: gauge(
                &mut exposed,
                "herder_container_oom_group",
                "memory.oom.group of a container that a rule matches, as it is now.",
                ["namespace", "pod", "container"],
            ),
            oom_group_wanted: gauge(
                &mut exposed,
                "herder_container_oom_group_wanted",
                "The memory.oom.group that a rule wants of a container.",
                ["namespace", "pod", "container"],
            ),
            host_oom_group_wanted: gauge(
                &mut exposed,
                "herder_host_oom_group_wanted",
                "The memory.oom.group that a rule wants of a cgroup outside of pods.",
                ["cgroup"],
            ),
            host_oom_group: gauge(
                &mut exposed,
                "herder_host_oom_group",
                "memory.oom.group of a cgroup outside of pods that a rule matches, as it is now.",
                ["cgroup"],
            ),
            writes: counter(
                &mut exposed,
                "herder_oom_group_writes_total",
                "Writes of memory.oom.group.",
                ["rule", "result"],
            ),
            reverts: counter(
                &mut exposed,
                "herder_oom_group_reverts_total",
                "Times that somebody changed an enforced memory.oom.group and it was written again.",
                ["rule"],
            ),
            not_enforceable: gauge(
                &mut exposed,
                "herder_not_enforceable",
                "Matched containers whose behaviour memory.oom.group cannot steer.",
                ["reason"],
            ),
            not_kept: gauge(
                &mut exposed,
                "herder_cgroups_not_kept",
                "Cgroups beyond the number that the agent keeps track of, at its last walk and made since.",
                ["role"],
            ),
            lost_kills: counter(
                &mut exposed,
                "herder_kills_lost_total",
                "OOM kills, or victims of one, that could not be told.",
                ["reason"],
            ),
            lost_records: counter(
                &mut exposed,
                "herder_records_lost_total",
                "Other things of the kernel that could not be told: the end of a kill, an exit, a new cgroup.",
                ["reason"],
            ),
            unattributed: counter(
                &mut exposed,
                "herder_kills_unattributed_total",
                "Reported OOM kills whose pod or cgroup, or only the container in the pod, is not known.",
                ["reason"],
            ),
            unseen: counter(
                &mut exposed,
                "herder_kills_unseen_total",
                "Processes that the kernel counted as OOM-killed and the agent did not tell.",
                ["reason"],
            ),
            ignored: counter(
                &mut exposed,
                "herder_marks_ignored_total",
                "Marks of OOM victims that are no kills of their own.",
                ["reason"],
            ),
            report_seconds: histogram(
                &registry,
                "herder_kill_report_seconds",
                "From the kernel's mark of a victim to the kill being counted.",
                &[
                    1e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.05, 0.1, 0.5, 1.0,
                    10.0,
                ],
            ),
            enforce_seconds: histogram(
                &registry,
                "herder_enforce_seconds",
                "From a change of memory.oom.group being seen to its correction being written.",
                &[1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.1, 1.0],
            ),
            exit_seconds: histogram(
                &registry,
                "herder_victim_exit_seconds",
                "From the kernel's mark of a victim to the exit of its last thread.",
                &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0],
            ),
            reloads: counter(
                &mut exposed,
                "herder_config_reloads_total",
                "Changed configurations, taken (ok) or refused (error).",
                ["result"],
            ),
            config_watched: gauge(
                &mut exposed,
                "herder_config_watched",
                "1 while changes of the configuration file are watched for; 0 while it is only read every 10 s, and without a file.",
                [],
            ),
            config_watch_failures: plain(
                &registry,
                "herder_config_watch_failures_total",
                "Tries to watch for changes of the configuration file that failed.",
            ),
            log_dropped: plain(
                &registry,
                "herder_log_lines_dropped_total",
                "Log lines that were dropped because standard output was not read.",
            ),
            restarts: counter(
                &mut exposed,
                "herder_container_restarts_total",
                "Times that a container of a pod was started again, by the reason of its end.",
                ["namespace", "pod", "container", "reason"],
            ),
            api_errors: counter(
                &mut exposed,
                "herder_api_errors_total",
                "Requests to the Kubernetes API server that failed or were cut.",
                ["reason"],
            ),
            events: counter(
                &mut exposed,
                "herder_events_total",
                "What was to be told in Kubernetes Events, by what became of it.",
                ["result"],
            ),
            bad_annotations: plain(
                &registry,
                "herder_bad_annotations_total",
                "Values of pods' annotation herder.dev/oom-group that could not be understood.",
            ),
            build_info: gauge(
                &mut exposed,
                "herder_build_info",
                "1, with what runs here, and where it hears of kills.",
                ["version", "revision", "kernel", "source"],
            ),
            nri_adjustments: counter(
                &mut exposed,
                "herder_nri_adjustments_total",
                "What the container runtime was answered about containers, by NRI.",
                ["result"],
            ),
            nri_connected: gauge(
                &mut exposed,
                "herder_nri_connected",
                "Whether the container runtime asks this agent before it makes containers, by NRI.",
                [],
            ),
            nri_connections: counter(
                &mut exposed,
                "herder_nri_connections_total",
                "Tries to be asked by the container runtime.",
                ["result"],
            ),
            nri_answer_seconds: histogram(
                &registry,
                "herder_nri_answer_seconds",
                "From a question of the container runtime being read to its answer being written.",
                &[5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.05, 0.25, 1.0, 2.0],
            ),
            registry,
            exposed,
        };
        families.start_at_zero();
        families
    }

    /// What runs here, with its source of kills.
    pub(super) fn build(&self, source: &str) {
        let revision = option_env!("HERDER_REVISION").unwrap_or("unknown");
        self.build_info.set([env!("CARGO_PKG_VERSION"), revision, &kernel(), source], 1);
    }

    /// Where a loss is counted.
    pub(super) fn lost(&self, reason: Lost) -> &Family<1> {
        if reason.loses_kill() { &self.lost_kills } else { &self.lost_records }
    }

    fn start_at_zero(&self) {
        Lost::all().for_each(|reason| self.lost(reason).begin([reason.as_str()]));
        for reason in Unattributed::ALL {
            self.unattributed.begin([reason.as_str()]);
        }
        for reason in Unseen::ALL {
            self.unseen.begin([reason.as_str()]);
        }
        for reason in NoKill::ALL {
            self.ignored.begin([reason.as_str()]);
        }
        for reason in Obstacle::ALL {
            self.not_enforceable.begin([reason.as_str()]);
        }
        for role in Role::ALL {
            self.not_kept.begin([role.as_str()]);
        }
        for failure in Failure::ALL {
            self.api_errors.begin([failure.as_str()]);
        }
        for result in Outcome::LABELS {
            self.events.begin([result]);
        }
        for outcome in nri::Outcome::ALL {
            self.nri_adjustments.begin([outcome.as_str()]);
        }
        for attempt in nri::Attempt::ALL {
            self.nri_connections.begin([attempt.as_str()]);
        }
        self.nri_connected.set([], 0);
        self.config_watched.set([], 0);
        for result in ["ok", "error"] {
            self.reloads.begin([result]);
        }
        register(&self.registry, ProcessCollector::for_self());
    }
}

#[expect(clippy::expect_used, reason = "names and labels are constants, which a unit test covers")]
fn register(registry: &Registry, collector: impl Collector + 'static) {
    registry.register(Box::new(collector)).expect("no family is registered twice");
}

fn counter<const N: usize>(
    exposed: &mut Vec<Box<dyn Exposed>>,
    name: &str,
    help: &str,
    labels: [&'static str; N],
) -> Family<N> {
    family(FamilyKind::Counter, exposed, name, help, labels)
}

fn gauge<const N: usize>(
    exposed: &mut Vec<Box<dyn Exposed>>,
    name: &str,
    help: &str,
    labels: [&'static str; N],
) -> Family<N> {
    family(FamilyKind::Gauge, exposed, name, help, labels)
}

#[expect(clippy::expect_used, reason = "names and labels are constants, which a unit test covers")]
fn family<const N: usize>(
    kind: FamilyKind,
    exposed: &mut Vec<Box<dyn Exposed>>,
    name: &str,
    help: &str,
    labels: [&'static str; N],
) -> Family<N> {
    let family = Family::new(kind, name, help, labels).expect("a valid family");
    exposed.push(Box::new(family.clone()));
    family
}

#[expect(clippy::expect_used, reason = "names and labels are constants, which a unit test covers")]
fn plain(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let family = IntCounter::new(name, help).expect("a valid family");
    register(registry, family.clone());
    family
}

#[expect(clippy::expect_used, reason = "names and labels are constants, which a unit test covers")]
fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    let family = Histogram::with_opts(options).expect("a valid family");
    register(registry, family.clone());
    family
}
