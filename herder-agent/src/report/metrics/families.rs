//! Every family: name, help, labels.

mod shield;

use super::{
    super::Refused,
    config::ConfigFamilies,
    family::{Exposed, Family},
    making::{counter, gauge, histogram, plain, register},
};
use crate::{
    kubernetes::{client::Failure, events::send::Outcome},
    runtime::nri,
};
use herder_model::{
    cgroup::tree::Role,
    enforcement::Obstacle,
    oom::reasons::{Lost, NoKill, Unattributed, Unseen},
};
use prometheus::{Histogram, IntCounter, Registry, process_collector::ProcessCollector};
use shield::ShieldFamilies;

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
    pub(super) config: ConfigFamilies,
    pub(super) refused: Family<1>,
    pub(super) log_dropped: IntCounter,
    pub(super) restarts: Family<4>,
    pub(super) api_errors: Family<1>,
    pub(super) events: Family<1>,
    pub(super) bad_annotations: IntCounter,
    pub(super) build_info: Family<5>,
    pub(super) nri_adjustments: Family<1>,
    pub(super) nri_connected: Family<0>,
    pub(super) nri_connections: Family<1>,
    pub(super) nri_answer_seconds: Histogram,
    pub(super) shield: ShieldFamilies,
}

impl Families {
    pub(super) fn new() -> Self {
        let registry = Registry::new();
        let mut exposed = Vec::new();
        let families = Families {
            kills: counter(
                &mut exposed,
                "herder_oom_kills_total",
                "OOM kills in pods. One kill is one decision of the kernel, whatever number of processes dies.",
                ["namespace", "pod", "container", "kind", "limit"],
            ),
            processes: counter(
                &mut exposed,
                "herder_oom_killed_processes_total",
                "Processes that died in OOM kills in pods, each counted under its own container.",
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
                "OOM kills in pods that the container survived: it still had processes some time later.",
                ["namespace", "pod", "container"],
            ),
            host_survived: counter(
                &mut exposed,
                "herder_host_oom_kills_survived_total",
                "OOM kills outside of pods that the cgroup survived: it still had processes some time later.",
                ["cgroup"],
            ),
            oom_group: gauge(
                &mut exposed,
                "herder_container_oom_group",
                "Current memory.oom.group of a matched container, 0 or 1.",
                ["namespace", "pod", "container"],
            ),
            oom_group_wanted: gauge(
                &mut exposed,
                "herder_container_oom_group_wanted",
                "The memory.oom.group that the rule wants for a matched container, 0 or 1.",
                ["namespace", "pod", "container"],
            ),
            host_oom_group_wanted: gauge(
                &mut exposed,
                "herder_host_oom_group_wanted",
                "The memory.oom.group that the rule wants for a matched cgroup outside of pods, 0 or 1.",
                ["cgroup"],
            ),
            host_oom_group: gauge(
                &mut exposed,
                "herder_host_oom_group",
                "Current memory.oom.group of a matched cgroup outside of pods, 0 or 1.",
                ["cgroup"],
            ),
            writes: counter(
                &mut exposed,
                "herder_oom_group_writes_total",
                "Attempts to write memory.oom.group.",
                ["rule", "result"],
            ),
            reverts: counter(
                &mut exposed,
                "herder_oom_group_reverts_total",
                "Changes of an enforced memory.oom.group by something else, each of which the agent corrected.",
                ["rule"],
            ),
            not_enforceable: gauge(
                &mut exposed,
                "herder_not_enforceable",
                "Matched containers for which the rule's value is not enforceable.",
                ["reason"],
            ),
            not_kept: gauge(
                &mut exposed,
                "herder_cgroups_not_kept",
                "Cgroups that the agent does not track because a bound is reached: those found at its last walk, and those made since.",
                ["role"],
            ),
            lost_kills: counter(
                &mut exposed,
                "herder_kills_lost_total",
                "OOM kills or victims that could not be reported.",
                ["reason"],
            ),
            lost_records: counter(
                &mut exposed,
                "herder_records_lost_total",
                "Other kernel records that were lost: ends of kills, exits, new cgroups.",
                ["reason"],
            ),
            unattributed: counter(
                &mut exposed,
                "herder_kills_unattributed_total",
                "Reported OOM kills whose cgroup, pod or container is unknown.",
                ["reason"],
            ),
            unseen: counter(
                &mut exposed,
                "herder_kills_unseen_total",
                "Processes that the kernel counted as OOM-killed and no agent reported.",
                ["reason"],
            ),
            ignored: counter(
                &mut exposed,
                "herder_marks_ignored_total",
                "Kernel marks of OOM victims that are not counted as kills.",
                ["reason"],
            ),
            report_seconds: histogram(
                &registry,
                "herder_kill_report_seconds",
                "Seconds from the kernel's mark of a victim until the kill is counted.",
                &[
                    1e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.05, 0.1, 0.5, 1.0,
                    10.0,
                ],
            ),
            enforce_seconds: histogram(
                &registry,
                "herder_enforce_seconds",
                "Seconds from seeing a changed memory.oom.group until the correction is written.",
                &[1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.1, 1.0],
            ),
            exit_seconds: histogram(
                &registry,
                "herder_victim_exit_seconds",
                "Seconds from the kernel's mark of a victim until its last thread exits.",
                &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0],
            ),
            config: ConfigFamilies::new(&registry, &mut exposed),
            refused: counter(
                &mut exposed,
                "herder_http_refused_total",
                "HTTP requests and TLS handshakes of clients that were not let in, each counted once.",
                ["reason"],
            ),
            log_dropped: plain(
                &registry,
                "herder_log_lines_dropped_total",
                "Log lines dropped because standard output was not read fast enough.",
            ),
            restarts: counter(
                &mut exposed,
                "herder_container_restarts_total",
                "Restarts of containers in pods, by the reason of the previous end.",
                ["namespace", "pod", "container", "reason"],
            ),
            api_errors: counter(
                &mut exposed,
                "herder_api_errors_total",
                "Requests to the Kubernetes API server that failed or were cut off, each counted once.",
                ["reason"],
            ),
            events: counter(
                &mut exposed,
                "herder_events_total",
                "Occurrences for Kubernetes Events, by result.",
                ["result"],
            ),
            bad_annotations: plain(
                &registry,
                "herder_bad_annotations_total",
                "Values of the annotations herder.dev/oom-group and herder.dev/oom-escalate that could not be followed, each counted once per pod.",
            ),
            build_info: gauge(
                &mut exposed,
                "herder_build_info",
                "Always 1; its labels are the agent's version and revision, the kernel, the source of kills, and by what means kills are told apart.",
                ["version", "revision", "kernel", "source", "means"],
            ),
            nri_adjustments: counter(
                &mut exposed,
                "herder_nri_adjustments_total",
                "Containers in NRI requests, by what the agent answered.",
                ["result"],
            ),
            nri_connected: gauge(
                &mut exposed,
                "herder_nri_connected",
                "1 while the agent is registered with the container runtime by NRI, else 0.",
                [],
            ),
            nri_connections: counter(
                &mut exposed,
                "herder_nri_connections_total",
                "Attempts to register with the container runtime by NRI.",
                ["result"],
            ),
            nri_answer_seconds: histogram(
                &registry,
                "herder_nri_answer_seconds",
                "Seconds from reading an NRI request until its answer is written.",
                &[5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.05, 0.25, 1.0, 2.0],
            ),
            shield: ShieldFamilies::new(&mut exposed),
            registry,
            exposed,
        };
        families.start_at_zero();
        families
    }

    /// What runs here, with its source of kills.
    pub(super) fn build(&self, source: &str, means: &str) {
        let revision = option_env!("HERDER_REVISION").unwrap_or("unknown");
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        self.build_info.set([env!("CARGO_PKG_VERSION"), revision, &kernel, source, means], 1);
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
        nri::Outcome::ALL
            .into_iter()
            .for_each(|outcome| self.nri_adjustments.begin([outcome.as_str()]));
        nri::Attempt::ALL
            .into_iter()
            .for_each(|attempt| self.nri_connections.begin([attempt.as_str()]));
        self.nri_connected.set([], 0);
        Refused::ALL.into_iter().for_each(|refused| self.refused.begin([refused.as_str()]));
        register(&self.registry, ProcessCollector::for_self());
    }
}
