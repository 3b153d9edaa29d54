//! A pod's kills as they happen. Whose the connection is can change while it lasts, so the core is
//! asked before each event; and at each sign of life, so that a stream ends soon after its pod.

use super::{Asked, Pods};
use crate::{
    report::{KillRecord, own::OwnKill},
    serve::{
        answer::Answer,
        stream::{Audience, Slot, event, last_event},
    },
};
use bytes::Bytes;
use herder_model::{owner::id::PodUid, pods::addresses::SelfRefused};
use hyper::HeaderMap;
use std::net::IpAddr;

/// A pod that follows its own kills.
struct OwnPod {
    pods: Pods,
    pod: PodUid,
    address: IpAddr,
}

impl Asked<'_> {
    /// Answers with a stream that begins after the kill `Last-Event-ID`, or now.
    pub(super) fn follow(self, pod: PodUid, headers: &HeaderMap, slot: Slot) -> Answer {
        self.peer.follows();
        let last = last_event(headers)
            .map_or_else(|| self.reporter.last_kill(), |name| self.number(pod, name));
        let pods = self.pods.clone();
        let audience = OwnPod { pods, pod, address: self.peer.address() };
        self.streams.follow(audience, last, self.reporter, self.in_force, slot)
    }

    /// The number of the pod's kill of this name. One that is not kept, or of an earlier agent, was
    /// before all that are kept.
    fn number(&self, pod: PodUid, name: &str) -> u64 {
        let mut before = self.reporter.last_kill().saturating_add(1);
        while let Some(kill) = self.reporter.kill_before(before) {
            if kill.pod_uid == Some(pod) && self.pods.names.of(&kill) == name {
                return kill.id;
            }
            before = kill.id;
        }
        0
    }
}

impl Audience for OwnPod {
    fn hello(&self, _last: u64) -> Bytes {
        Bytes::from_static(b": this pod's kills as they happen\nretry: 2000\n\n")
    }

    fn kill(&self, kill: &KillRecord) -> Option<Bytes> {
        let own = OwnKill::new(kill, self.pod, &self.pods.names)?;
        Some(event(&format!("kill\nid: {}", own.id), &own))
    }

    fn settled(&self, kill: &KillRecord) -> Option<Bytes> {
        Some(event("settled", &OwnKill::new(kill, self.pod, &self.pods.names)?))
    }

    /// How many kills there were is not the pod's business.
    fn missed(&self, _kills: u64) -> Option<Bytes> {
        None
    }

    /// A core that has too much to do does not say it.
    async fn is_there(&self) -> Option<bool> {
        match self.pods.at(self.address).await {
            Err(SelfRefused::Busy) => None,
            found => Some(found == Ok(self.pod)),
        }
    }
}
