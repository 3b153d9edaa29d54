//! Every family, in one place: type, name, labels, which series are there from the start, and the
//! HELP line.

use super::{
    family::{Exposed, Family, FamilyKind},
    values::Values,
};
use crate::{
    enforce::shield::{ScoreWrite, Written},
    kubernetes::{client::Failure, events::send::Outcome},
    report::Refused,
    runtime::nri,
};
use herder_model::{
    arguments::Missing,
    cgroup::tree::Role,
    enforcement::Obstacle,
    oom::reasons::{Lost, NoKill, Unattributed, Unseen},
    pods::addresses::SelfRefused,
    shield::Unprotected,
};
use prometheus::{
    Histogram, HistogramOpts, Registry, core::Collector, process_collector::ProcessCollector,
};
use std::sync::Arc;

/// Makes `Families` and how one is made. After `from` stand the labels of the series that begin
/// at 0.
macro_rules! families {
    (
        series {
            $($field:ident: $kind:ident $name:literal [$($label:literal),*] $(from $first:expr)?,
                $help:literal;)*
        }
        histograms {
            $($histogram:ident: $histogram_name:literal $buckets:expr, $histogram_help:literal;)*
        }
    ) => {
        #[derive(Debug)]
        pub(in crate::report) struct Families {
            /// Histograms, and the process's own.
            pub(super) registry: Registry,
            pub(super) values: Arc<Values>,
            /// All others, which write themselves.
            pub(super) exposed: Vec<Box<dyn Exposed>>,
            $(pub(in crate::report) $field: Family<{
                const LABELS: &[&str] = &[$($label),*];
                LABELS.len()
            }>,)*
            $(pub(in crate::report) $histogram: Histogram,)*
        }

        impl Families {
            /// All names and labels are constants, which a unit test covers.
            pub(super) fn new() -> Self {
                let registry = Registry::new();
                let register = |collector: Box<dyn Collector>| {
                    registry.register(collector).expect("no family is registered twice");
                };
                register(Box::new(ProcessCollector::for_self()));
                let values = Arc::<Values>::default();
                $(
                    let kind = FamilyKind::$kind;
                    let $field = Family::new(kind, $name, $help, [$($label),*], values.clone())
                        .expect("a valid family");
                    $($first.into_iter().for_each(|labels| $field.begin(labels));)?
                )*
                $(
                    let options = HistogramOpts::new($histogram_name, $histogram_help);
                    let $histogram = Histogram::with_opts(options.buckets($buckets.to_vec()))
                        .expect("a valid family");
                    register(Box::new($histogram.clone()));
                )*
                let exposed: Vec<Box<dyn Exposed>> = vec![$(Box::new($field.clone())),*];
                Families { registry, values, exposed, $($field,)* $($histogram,)* }
            }
        }
    };
}

families! {
    series {
        kills: Counter "herder_oom_kills_total"
            ["namespace", "pod", "container", "kind", "limit"],
            "OOM kills in pods. One kill is one decision of the kernel, whatever number of processes dies.";
        processes: Counter "herder_oom_killed_processes_total"
            ["namespace", "pod", "container", "kind"],
            "Processes that died in OOM kills in pods, each counted under its own container.";
        host_kills: Counter "herder_host_oom_kills_total" ["cgroup", "kind", "limit"],
            "OOM kills outside of pods.";
        survived: Counter "herder_oom_kills_survived_total" ["namespace", "pod", "container"],
            "OOM kills in pods that the container survived: it still had processes some time later.";
        host_survived: Counter "herder_host_oom_kills_survived_total" ["cgroup"],
            "OOM kills outside of pods that the cgroup survived: it still had processes some time later.";
        memory: Gauge "herder_container_oom_memory_bytes" ["namespace", "pod", "container"],
            "Bytes of memory that a container in a pod used at its last OOM kill: the kernel's figure, or the limit, if its own limit was hit; else the most that it can have been by what was read right after the kill.";
        restarts: Counter "herder_container_restarts_total"
            ["namespace", "pod", "container", "reason"],
            "Restarts of containers in pods, by the reason of the previous end.";

        oom_group: Gauge "herder_container_oom_group" ["namespace", "pod", "container"],
            "Current memory.oom.group of a matched container, 0 or 1.";
        oom_group_wanted: Gauge "herder_container_oom_group_wanted"
            ["namespace", "pod", "container"],
            "The memory.oom.group that the rule wants for a matched container, 0 or 1.";
        host_oom_group: Gauge "herder_host_oom_group" ["cgroup"],
            "Current memory.oom.group of a matched cgroup outside of pods, 0 or 1.";
        host_oom_group_wanted: Gauge "herder_host_oom_group_wanted" ["cgroup"],
            "The memory.oom.group that the rule wants for a matched cgroup outside of pods, 0 or 1.";
        writes: Counter "herder_oom_group_writes_total" ["rule", "result"],
            "Attempts to write memory.oom.group.";
        reverts: Counter "herder_oom_group_reverts_total" ["rule"],
            "Changes of an enforced memory.oom.group by something else, each of which the agent corrected.";
        not_enforceable: Gauge "herder_not_enforceable" ["reason"]
            from Obstacle::ALL.map(|reason| [reason.as_str()]),
            "Matched containers for which the rule's value is not enforceable.";
        not_kept: Gauge "herder_cgroups_not_kept" ["role"]
            from Role::ALL.map(|role| [role.as_str()]),
            "Cgroups that the agent does not track because a bound is reached: those found at its last walk, and those made since.";
        not_restored: Gauge "herder_cgroups_not_restored" [] from [[]],
            "Cgroups whose original memory.oom.group could not be restored when their rule went; each walk tries again.";
        escalations: Counter "herder_escalations_total" ["rule", "to", "result"],
            "Escalations of containers that kept losing processes, by what came of them.";

        lost_kills: Counter "herder_kills_lost_total" ["reason"]
            from Lost::all().filter(|reason| reason.loses_kill()).map(|reason| [reason.as_str()]),
            "OOM kills or victims that could not be reported.";
        lost_records: Counter "herder_records_lost_total" ["reason"]
            from Lost::all().filter(|reason| !reason.loses_kill()).map(|reason| [reason.as_str()]),
            "Other kernel records that were lost: ends of kills, exits, new cgroups; and overflows of inotify's queues.";
        unattributed: Counter "herder_kills_unattributed_total" ["reason"]
            from Unattributed::ALL.map(|reason| [reason.as_str()]),
            "Reported OOM kills whose cgroup, pod or container is unknown.";
        unseen: Counter "herder_kills_unseen_total" ["reason"]
            from Unseen::ALL.map(|reason| [reason.as_str()]),
            "Processes that the kernel counted as OOM-killed and no agent reported.";
        ignored: Counter "herder_marks_ignored_total" ["reason"]
            from NoKill::ALL.map(|reason| [reason.as_str()]),
            "Kernel marks of OOM victims that are not counted as kills.";
        // Those that are waited for are counted when more is known.
        arguments: Counter "herder_victim_arguments_total" ["result"]
            from Missing::ALL
                .into_iter()
                .filter(|missing| *missing != Missing::Waiting)
                .map(Missing::as_str)
                .chain(["read"])
                .map(|result| [result]),
            "Victims whose rule has victimArguments, by whether their arguments were read.";
        arguments_lost: Counter "herder_victim_arguments_lost_total" [] from [[]],
            "Records of arguments that did not fit into the ring buffer.";

        inits_protected: Gauge "herder_inits_protected" [] from [[]],
            "Containers whose init is exempt from OOM kills because their rule has, or had, protectInit.";
        inits_unprotected: Gauge "herder_inits_unprotected" ["reason"]
            from Unprotected::ALL.map(|reason| [reason.as_str()]),
            "Containers whose rule has protectInit and whose init is not exempt from OOM kills.";
        score_writes: Counter "herder_oom_score_writes_total" ["what", "result"]
            from Written::ALL.into_iter().flat_map(|what| {
                ScoreWrite::LABELS.map(|result| [what.as_str(), result])
            }),
            "Processes whose oom_score_adj was written, or was to be, because of protectInit.";
        forks: Counter "herder_init_forks_total" [] from [[]],
            "Processes that were forked exempt from OOM kills in a container with a protected init.";
        forks_lost: Counter "herder_init_forks_lost_total" [] from [[]],
            "Records of such forks that did not fit into the ring buffer; the container's processes are then looked through.";
        no_victim: Counter "herder_init_no_victim_total" [] from [[]],
            "Times that the OOM killer found no process to kill for a limit that concerns a protected init, at most fifty a second for each limit.";

        build_info: Gauge "herder_build_info"
            ["version", "revision", "kernel", "source", "means"],
            "Always 1; its labels are the agent's version and revision, the kernel, the source of kills, and by what means kills are told apart.";
        ebpf_refused: Gauge "herder_ebpf_refused" [] from [[]],
            "1 if kills are only counted because the kernel refused the eBPF programs, else 0.";
        config_info: Gauge "herder_config_info" ["hash", "log_level"],
            "Always 1; its labels are the hash of the configuration file in force, and the log level.";
        config_last_successful: Gauge "herder_config_last_reload_successful" [],
            "1 if the configuration file is in force as it was last read, 0 if it was rejected.";
        config_last_success: Gauge "herder_config_last_reload_success_timestamp_seconds" [],
            "When the configuration in force was read, in seconds since 1970.";
        config_reloads: Counter "herder_config_reloads_total" ["result"] from [["ok"], ["error"]],
            "Changed configurations that are in force (ok) or were rejected (error).";
        config_watched: Gauge "herder_config_watched" [] from [[]],
            "1 while inotify watches the configuration file, 0 while it is only read every 10 s or there is no file.";
        config_watch_failures: Counter "herder_config_watch_failures_total" [] from [[]],
            "Failed attempts to watch the configuration file.";
        access_last_successful: Gauge "herder_web_config_last_reload_successful" [],
            "1 if the --web-config-file and the files that it names are in force as they were last read, 0 if they were rejected; no series without one.";
        access_reloads: Counter "herder_web_config_reloads_total" ["result"]
            from [["ok"], ["error"]],
            "Changes of the --web-config-file or of a file that it names, in force (ok) or rejected (error).";
        refused: Counter "herder_http_refused_total" ["reason"]
            from Refused::ALL.map(|reason| [reason.as_str()]),
            "HTTP requests and TLS handshakes of clients that were not let in, each counted once.";
        self_refused: Counter "herder_self_refused_total" ["reason"]
            from SelfRefused::ALL.map(|reason| [reason.as_str()]),
            "Requests of pods for their own kills that were refused.";
        log_dropped: Counter "herder_log_lines_dropped_total" [] from [[]],
            "Log lines dropped because standard output was not read fast enough.";

        api_errors: Counter "herder_api_errors_total" ["reason"]
            from Failure::ALL.map(|reason| [reason.as_str()]),
            "Requests to the Kubernetes API server that failed or were cut off, each counted once.";
        events: Counter "herder_events_total" ["result"] from Outcome::LABELS.map(|label| [label]),
            "Occurrences for Kubernetes Events, by result.";
        bad_annotations: Counter "herder_bad_annotations_total" [] from [[]],
            "Values of the annotations herder.dev/oom-group and herder.dev/oom-escalate that could not be followed, each counted once per pod.";
        nri_adjustments: Counter "herder_nri_adjustments_total" ["result"]
            from nri::Outcome::ALL.map(|outcome| [outcome.as_str()]),
            "Containers in NRI requests, by what the agent answered.";
        nri_connected: Gauge "herder_nri_connected" [] from [[]],
            "1 while the agent is registered with the container runtime by NRI, else 0.";
        nri_connections: Counter "herder_nri_connections_total" ["result"]
            from nri::Attempt::ALL.map(|attempt| [attempt.as_str()]),
            "Attempts to register with the container runtime by NRI.";
    }
    histograms {
        report_seconds: "herder_kill_report_seconds"
            [1e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0],
            "Seconds from the kernel's mark of a victim until the kill is counted.";
        enforce_seconds: "herder_enforce_seconds"
            [1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.1, 1.0],
            "Seconds from seeing a changed memory.oom.group until the correction is written.";
        exit_seconds: "herder_victim_exit_seconds"
            [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0],
            "Seconds from the kernel's mark of a victim until its last thread exits.";
        nri_answer_seconds: "herder_nri_answer_seconds"
            [5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.05, 0.25, 1.0, 2.0],
            "Seconds from reading an NRI request until its answer is written.";
    }
}

impl Families {
    /// Where a loss is counted.
    pub(in crate::report) fn lost(&self, reason: Lost) -> &Family<1> {
        if reason.loses_kill() { &self.lost_kills } else { &self.lost_records }
    }
}
