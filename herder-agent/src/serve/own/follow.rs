//! A pod's kills as they happen. Whose the connection is can change while it lasts, so the core is
//! asked before each event; and at each sign of life, so that a stream ends soon after its pod.

use super::{Asked, Pods};
use crate::{
    report::{Reporter, own::OwnKill},
    serve::{
        access::Access,
        answer::{Answer, streamed},
        stream::{ALIVE, LONGEST, Slot, event},
    },
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use herder_model::{owner::id::PodUid, pods::addresses::SelfRefused};
use hyper::{
    HeaderMap,
    body::Frame,
    header::{CONNECTION, HeaderValue},
};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

/// When a core that had too much to do is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// One stream.
struct Following {
    pods: Pods,
    pod: PodUid,
    address: IpAddr,
    /// The kill that was looked at last.
    last: u64,
    /// How many of those were looked at of which it became known what became of the container.
    settled: u64,
    reporter: Arc<Reporter>,
    news: watch::Receiver<()>,
    serving: watch::Receiver<()>,
    in_force: watch::Receiver<Access>,
    alive: Instant,
    end: Instant,
    _slot: Slot,
}

impl Asked<'_> {
    /// Answers with a stream that begins after the kill `Last-Event-ID`, or now.
    pub(super) fn follow(self, pod: PodUid, headers: &HeaderMap, slot: Slot) -> Answer {
        self.peer.follows();
        let last = headers.get("last-event-id").and_then(|name| name.to_str().ok());
        let now = Instant::now();
        let following = Following {
            last: last.map_or_else(|| self.reporter.last_kill(), |name| self.number(pod, name)),
            pods: self.pods.clone(),
            pod,
            address: self.peer.address(),
            settled: self.reporter.last_settled(),
            news: self.reporter.news_of_kills(),
            reporter: self.reporter.clone(),
            serving: self.streams.serving.clone(),
            in_force: self.in_force,
            alive: now + ALIVE,
            end: now + LONGEST,
            _slot: slot,
        };
        let frames = stream::unfold(following, |mut following| async {
            let bytes = following.next().await?;
            Some((bytes, following))
        });
        // So that the client knows at once that it is connected.
        let hello = Bytes::from_static(b": this pod's kills as they happen\nretry: 2000\n\n");
        let frames = stream::iter([hello]).chain(frames).map(|bytes| Ok(Frame::data(bytes)));
        let mut answer = streamed("text/event-stream", frames.boxed());
        // No other request may profit from the longer life of this connection.
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        answer
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

impl Following {
    /// What is sent next; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.kill().or_else(|| self.fate()) {
                return self.is_still_there().await.then_some(bytes);
            }
            tokio::select! {
                // The server stops: nothing is ever sent on this channel.
                _ = self.serving.changed() => return None,
                // What the port asks of its clients has changed.
                Ok(()) = self.in_force.changed() => return None,
                () = sleep_until(self.end) => return None,
                news = self.news.changed() => news.ok()?,
                () = sleep_until(self.alive) => {
                    self.alive = Instant::now() + ALIVE;
                    let alive = Bytes::from_static(b": alive\n\n");
                    return self.is_still_there().await.then_some(alive);
                }
            }
        }
    }

    /// Whether the pod that has asked is the one that reads. A client that is told nothing more
    /// asks again, and hears why. A core that has too much to do is asked again: the client would
    /// begin anew after what it was about to be told.
    async fn is_still_there(&mut self) -> bool {
        loop {
            let found = self.pods.at(self.address).await;
            if found != Err(SelfRefused::Busy) {
                return found == Ok(self.pod);
            }
            tokio::select! {
                _ = self.serving.changed() => return false,
                Ok(()) = self.in_force.changed() => return false,
                () = sleep_until(self.end) => return false,
                () = sleep(AGAIN) => {}
            }
        }
    }

    /// The pod's next kill that was not looked at.
    fn kill(&mut self) -> Option<Bytes> {
        while let Some(kill) = self.reporter.kill_after(self.last) {
            self.last = kill.id;
            if let Some(own) = OwnKill::new(&kill, self.pod, &self.pods.names) {
                return Some(event(&format!("kill\nid: {}", own.id), &own));
            }
        }
        None
    }

    /// The pod's next kill of which it became known what became of the container.
    fn fate(&mut self) -> Option<Bytes> {
        while let Some((place, kill)) = self.reporter.settled_after(self.settled) {
            self.settled = place;
            if let Some(own) = OwnKill::new(&kill, self.pod, &self.pods.names) {
                return Some(event("settled", &own));
            }
        }
        None
    }
}
