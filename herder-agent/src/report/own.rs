//! What a pod is shown of its own kills.
//!
//! A record for operators says more than a pod may know: processes of other pods that the same
//! decision killed, which task asked for memory, paths and process ids of the node. And its number
//! says how many kills others had. So a pod's record is made of it field by field, and its `id`
//! says nothing.

use super::{
    KillRecord, Reporter,
    record::{ProcessRecord, RestartRecord},
};
use herder_model::{
    oom::{Kind, Limit},
    owner::id::{ContainerId, PodUid},
    pods::addresses::SelfRefused,
};
use serde::Serialize;
use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

/// What kills are called towards pods: the same for the same kill as long as the agent runs.
/// Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct KillNames(Arc<RandomState>);

/// A kill, as its pod is shown it. Sizes are bytes.
#[derive(Debug, Serialize)]
pub struct OwnKill<'a> {
    /// Names the kill; no number.
    pub id: String,
    time: &'a str,
    container: Option<&'a str>,
    container_id: Option<ContainerId>,
    kind: Kind,
    limit: Limit,
    /// None if the limit is not the pod's own, or was not read.
    limit_bytes: Option<u64>,
    container_limit_bytes: Option<u64>,
    container_memory_bytes: Option<u64>,
    /// Processes of the pod.
    processes: usize,
    victim: OwnProcess<'a>,
    /// Of the pod; at most as many as the record has.
    victims: Vec<OwnProcess<'a>>,
    /// Why it happened, in words; none where nothing is found.
    finding: Option<&'a str>,
    survived: Option<bool>,
    ended_seconds: Option<f64>,
    restarted: Option<&'a RestartRecord>,
}

/// A process of the pod.
#[derive(Debug, Serialize)]
struct OwnProcess<'a> {
    ns_pid: Option<u32>,
    comm: Option<&'a str>,
    oom_score_adj: Option<i32>,
    total_vm: Option<u64>,
    anon_rss: Option<u64>,
    file_rss: Option<u64>,
    shmem_rss: Option<u64>,
    exit_seconds: Option<f64>,
}

impl KillNames {
    /// The name of a kill.
    pub fn of(&self, kill: &KillRecord) -> String {
        format!("{:016x}", self.0.hash_one(kill.id))
    }
}

impl<'a> OwnKill<'a> {
    /// What the pod is shown of a kill; none if it is not the pod's.
    pub fn new(kill: &'a KillRecord, pod: PodUid, names: &KillNames) -> Option<Self> {
        if kill.pod_uid != Some(pod) {
            return None;
        }
        let victims = kill.victims.iter().filter(|victim| victim.is_of_pod);
        Some(OwnKill {
            id: names.of(kill),
            time: &kill.time,
            container: kill.container.as_deref(),
            container_id: kill.container_id,
            kind: kill.kind,
            limit: kill.limit,
            limit_bytes: kill.own.limit_bytes,
            container_limit_bytes: kill.container_limit_bytes,
            container_memory_bytes: kill.container_memory_bytes,
            processes: kill.own.processes,
            victim: OwnProcess::new(&kill.victim),
            victims: victims.map(OwnProcess::new).collect(),
            finding: kill.own.finding.as_deref(),
            survived: kill.survived,
            ended_seconds: kill.ended_seconds,
            restarted: kill.restarted.as_ref(),
        })
    }
}

impl<'a> OwnProcess<'a> {
    fn new(process: &'a ProcessRecord) -> Self {
        OwnProcess {
            ns_pid: process.ns_pid,
            comm: process.comm.as_deref(),
            oom_score_adj: process.oom_score_adj,
            total_vm: process.total_vm,
            anon_rss: process.anon_rss,
            file_rss: process.file_rss,
            shmem_rss: process.shmem_rss,
            exit_seconds: process.exit_seconds,
        }
    }
}

impl Reporter {
    /// A client that asked for its own kills was refused.
    pub fn self_refused(&self, refused: SelfRefused) {
        self.metrics.families.self_refused.add([refused.as_str()], 1);
    }
}

#[cfg(test)]
mod tests;
