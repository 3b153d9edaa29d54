//! A kill as the API returns it.

use herder_model::kill::KillReport;
use herder_model::{
    cgroup::CgroupPath,
    oom::{Kind, Limit, Victim},
    owner::{
        Owner,
        id::{ContainerId, PodUid},
        path::{PodCgroup, QosClass, Runtime},
    },
    pods::restarts::Reason,
};
use serde::Serialize;
use std::time::{Duration, SystemTime};

/// Most processes of one kill that are listed; all are counted. A thousand kills
/// with all of theirs are what the API may have to write for a client.
const LISTED: usize = 8;

/// A kill, ready to be written as JSON. Sizes are bytes.
#[derive(Clone, Debug, Serialize)]
pub struct KillRecord {
    /// Running number since the agent started, from 1.
    pub id: u64,
    /// When the kernel marked the victim, RFC 3339, UTC.
    pub time: String,
    pub kind: Kind,
    pub limit: Limit,
    /// The limit that the kernel hit; none if that was not read.
    pub limit_bytes: Option<u64>,
    /// The cgroup that has it; none if it is the node that was full.
    pub limit_cgroup: Option<String>,
    /// The limit of the victim's container; none if it has none, or that was not read.
    pub container_limit_bytes: Option<u64>,
    /// What the container had in use at the kill ([`KillReport::container_used`]).
    pub container_memory_bytes: Option<u64>,
    /// Larger processes of the container that were still exiting, so that the kernel found no
    /// other than the init.
    pub exiting: usize,
    /// Namespace of the pod, if it is one.
    pub namespace: Option<String>,
    pub pod: Option<String>,
    pub container: Option<String>,
    /// The chosen victim's cgroup.
    pub cgroup: Option<String>,
    /// The cgroup that was killed as a group, if it was one and it is known which.
    pub group_cgroup: Option<String>,
    /// The pod's UID as its cgroup has it, that is, a static pod's config hash.
    pub pod_uid: Option<PodUid>,
    pub qos_class: Option<QosClass>,
    /// The container's ID at its runtime.
    pub container_id: Option<ContainerId>,
    pub runtime: Option<Runtime>,
    pub rule: Option<String>,
    /// Processes that were killed.
    pub processes: usize,
    /// The process that the kernel chose.
    pub victim: ProcessRecord,
    /// All killed processes, the chosen one first; at most 8.
    pub victims: Vec<ProcessRecord>,
    /// The task whose allocation failed, if that is known.
    pub trigger: Option<TriggerRecord>,
    /// From the mark to this report, seconds.
    pub report_seconds: f64,
    /// Whether the container lived on: it had processes some time later. None until that is known.
    pub survived: Option<bool>,
    /// How long after the mark its end was seen, seconds, if it did not survive and that was seen.
    pub ended_seconds: Option<f64>,
    /// The restart that followed when this kill ended the container; none until
    /// the pod's status shows it.
    pub restarted: Option<RestartRecord>,
    /// What more the victim's pod is shown.
    #[serde(skip)]
    pub(super) own: Own,
}

/// Of a kill, what only its pod is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    /// Processes of the pod that were killed.
    pub(super) processes: usize,
    /// The limit that the kernel hit, if it is the pod's or in it.
    pub(super) limit_bytes: Option<u64>,
    /// What its scene shows, where that is about the pod alone.
    pub(super) finding: Option<Box<str>>,
}

/// A container was started again.
#[derive(Clone, Debug, Serialize)]
pub struct RestartRecord {
    /// Why its last incarnation ended, as the pod's status says.
    pub reason: Reason,
    /// When this was seen, RFC 3339, UTC.
    pub seen: String,
}

/// A killed process; its memory in bytes. Without eBPF only the number of them is known, and their
/// cgroup.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ProcessRecord {
    /// It was in the same pod as the one that the kernel chose.
    #[serde(skip)]
    pub(super) is_of_pod: bool,
    /// Process id on the node.
    pub pid: Option<u32>,
    /// The marked thread.
    pub tid: Option<u32>,
    /// Process id inside of the container.
    pub ns_pid: Option<u32>,
    pub comm: Option<String>,
    /// User id on the node.
    pub uid: Option<u32>,
    pub oom_score_adj: Option<i32>,
    pub total_vm: Option<u64>,
    pub anon_rss: Option<u64>,
    pub file_rss: Option<u64>,
    pub shmem_rss: Option<u64>,
    /// From the mark to the end of its last thread, seconds; none until then.
    pub exit_seconds: Option<f64>,
}

/// Who asked for memory.
#[derive(Clone, Debug, Serialize)]
pub struct TriggerRecord {
    /// Process id on the node.
    pub pid: u32,
    /// Thread id on the node.
    pub tid: u32,
    pub comm: String,
    pub cgroup_id: u64,
}

impl KillRecord {
    /// Of a report, so long after the mark. The journal gives the number.
    pub(super) fn new(report: &KillReport, age: Duration) -> Self {
        let names = match &report.owner {
            Owner::Container(names) => Some(names),
            Owner::Host { .. } | Owner::Unnamed { .. } => None,
        };
        // The path says so much whether or not the API server does.
        let pod = report.pod;
        let container = pod.as_ref().and_then(PodCgroup::container);
        let kill = &report.kill;
        let is_of_pod = |at: usize| {
            pod.is_some_and(|pod| report.victim_pods.get(at) == Some(&Some(pod.pod_uid)))
        };
        let processes = 0..kill.victims.len();
        let own = Own {
            processes: processes.filter(|at| is_of_pod(*at)).count(),
            limit_bytes: report.limits.bytes.filter(|_| report.is_within_pod()),
            // It is known when the record is kept.
            finding: None,
        };
        let listed = kill.victims.iter().take(LISTED).enumerate();
        let victims: Vec<_> = listed
            .map(|(at, victim)| ProcessRecord {
                is_of_pod: is_of_pod(at),
                ..ProcessRecord::new(victim)
            })
            .collect();
        KillRecord {
            id: 0,
            time: rfc3339(SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)),
            kind: report.kind,
            limit: report.limit,
            limit_bytes: report.limits.bytes,
            limit_cgroup: report.limits.cgroup.as_ref().map(|path| path.as_str().to_owned()),
            container_limit_bytes: report.limits.container.and_then(|memory| memory.limit),
            container_memory_bytes: report.container_used(),
            exiting: report.exiting,
            namespace: names.map(|names| names.namespace.clone()),
            pod: names.map(|names| names.pod.clone()),
            container: names.map(|names| names.container.clone()),
            cgroup: report.cgroup.as_ref().map(CgroupPath::to_string),
            group_cgroup: report.group.as_ref().map(CgroupPath::to_string),
            pod_uid: pod.map(|pod| pod.pod_uid),
            qos_class: pod.map(|pod| pod.qos),
            container_id: container.map(|container| container.id),
            runtime: container.map(|container| container.runtime),
            rule: report.rule.clone(),
            processes: kill.victims.len(),
            victim: victims.first().cloned().unwrap_or_default(),
            victims,
            trigger: kill.trigger.as_ref().map(|trigger| TriggerRecord {
                pid: trigger.tgid,
                tid: trigger.tid,
                comm: trigger.comm.clone(),
                cgroup_id: trigger.cgroup.0,
            }),
            report_seconds: age.as_secs_f64(),
            survived: report.ends.then_some(false),
            ended_seconds: None,
            restarted: None,
            own,
        }
    }
}

impl ProcessRecord {
    fn new(victim: &Victim) -> Self {
        if !victim.is_named() {
            return ProcessRecord::default();
        }
        ProcessRecord {
            is_of_pod: false,
            pid: Some(victim.tgid),
            tid: Some(victim.tid),
            ns_pid: victim.ns_pid.map(|ns| ns.pid),
            comm: Some(victim.comm.clone()),
            uid: Some(victim.uid),
            oom_score_adj: victim.oom_score_adj,
            total_vm: victim.sizes.map(|sizes| sizes.total_vm),
            anon_rss: victim.sizes.map(|sizes| sizes.anon_rss),
            file_rss: victim.sizes.map(|sizes| sizes.file_rss),
            shmem_rss: victim.sizes.map(|sizes| sizes.shmem_rss),
            exit_seconds: None,
        }
    }
}

pub(super) fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map(|time| format!("{time:.3}")).unwrap_or_default()
}
