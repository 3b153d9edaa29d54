//! Writes Events to the API server: the only part of `events` that knows kube.
//!
//! The queue is short and never waited for. A request that fails for a while is
//! tried again; one that the server refuses is counted and dropped.

use super::{
    Occurrence,
    correlate::{Correlator, Outgoing},
    message,
};
use crate::apiserver::{
    Failure,
    backoff::{Backoff, Pace, random},
};
use http_body_util::{BodyExt, Limited};
use hyper::{Method, Request, header::CONTENT_TYPE};
use jiff::Timestamp;
use kube::{Client, client::Body};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::{Instant, sleep, timeout},
};

/// Occurrences that may wait. A pod's share is 25 at once, so this is a node's
/// bad day; each takes some hundred bytes.
const QUEUE: usize = 128;

/// Tries for one Event; with the default pace about two minutes, as long as
/// client-go goes on (`maxTriesPerEvent` 12, 10 s apart; tools/record/event.go).
const TRIES: u32 = 7;

/// Longest answer that is read, bytes: an Event comes back, or a Status.
const LARGEST_ANSWER: usize = 64 << 10;

/// How long an answer may take once its head is there.
const ANSWER: Duration = Duration::from_secs(70);

/// The cause in the 403 of a namespace that is being deleted
/// (`NamespaceTerminatingCause`, k8s.io/api/core/v1/types.go): nothing that a
/// ClusterRole could allow.
const TERMINATING: &str = "NamespaceTerminating";

/// `source.component` and `reportingComponent`.
const COMPONENT: &str = "herder";

/// What became of an occurrence. A metric label, so the set is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A new Event was written.
    Created,
    /// An Event was counted up.
    Updated,
    /// The pod's share was used up.
    Suppressed,
    /// The queue was full.
    Dropped,
    /// The server did not take it.
    Failed(Failure),
}

impl Outcome {
    /// All values of the `result` label.
    pub const LABELS: [&str; 5] = ["created", "updated", "suppressed", "dropped", "failed"];

    /// The value of the `result` label. Why a request failed is counted by
    /// [`crate::apiserver`].
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Created => "created",
            Outcome::Updated => "updated",
            Outcome::Suppressed => "suppressed",
            Outcome::Dropped => "dropped",
            Outcome::Failed(_) => "failed",
        }
    }
}

/// Told of the outcome of every occurrence; counts it.
pub type OnOutcome = Arc<dyn Fn(Outcome) + Send + Sync>;

/// Where occurrences are handed in.
#[derive(Clone)]
pub struct EventQueue {
    sender: Sender<Occurrence>,
    on_outcome: OnOutcome,
}

/// Writes what the queue brings.
pub struct EventWriter {
    receiver: Receiver<Occurrence>,
    on_outcome: OnOutcome,
    client: Client,
    node: String,
    pace: Pace,
    correlator: Correlator,
    forbidden_told: bool,
}

impl EventQueue {
    /// A queue and its end, which an [`EventWriter`] takes.
    pub fn new(on_outcome: OnOutcome) -> (Self, Receiver<Occurrence>) {
        let (sender, receiver) = channel(QUEUE);
        (EventQueue { sender, on_outcome }, receiver)
    }

    /// Hands an occurrence in, or drops it when the queue is full.
    pub fn tell(&self, occurrence: Occurrence) {
        if self.sender.try_send(occurrence).is_err() {
            (self.on_outcome)(Outcome::Dropped);
        }
    }
}

impl EventWriter {
    /// The writer of a queue, which is to be run in a task of its own.
    pub fn new(
        receiver: Receiver<Occurrence>,
        client: Client,
        node: &str,
        pace: Pace,
        on_outcome: OnOutcome,
    ) -> Self {
        EventWriter {
            receiver,
            on_outcome,
            client,
            node: node.to_owned(),
            pace,
            correlator: Correlator::default(),
            forbidden_told: false,
        }
    }

    /// Runs until all queues are gone and what they brought is written.
    pub async fn run(mut self) {
        while let Some(occurrence) = self.receiver.recv().await {
            let occurrence = completed(occurrence).await;
            let outcome = match self.correlator.correlate(occurrence, Instant::now()) {
                Some(outgoing) => self.write(&outgoing).await,
                None => Outcome::Suppressed,
            };
            (self.on_outcome)(outcome);
        }
    }

    async fn write(&mut self, outgoing: &Outgoing) -> Outcome {
        let mut backoff = Backoff::new(self.pace);
        let mut update = outgoing.is_update();
        let mut tries = 0;
        loop {
            tries += 1;
            let failure = match self.request(outgoing, update).await {
                Ok(()) if update => return Outcome::Updated,
                Ok(()) => return Outcome::Created,
                Err(failure) => failure,
            };
            match failure {
                // Events expire after an hour (`--event-ttl`), and one that was
                // suppressed never was: then it is written anew.
                Failure::NotFound if update => {
                    update = false;
                    continue;
                }
                // Its answer was lost, but the Event was written.
                Failure::Conflict if tries > 1 => return Outcome::Created,
                Failure::Throttled
                | Failure::Unauthorized
                | Failure::Server
                | Failure::Connection
                | Failure::Cut
                | Failure::Timeout
                    if tries < TRIES =>
                {
                    sleep(backoff.after_failure(random())).await;
                }
                failure => {
                    self.give_up(outgoing, failure);
                    return Outcome::Failed(failure);
                }
            }
        }
    }

    fn give_up(&mut self, outgoing: &Outgoing, failure: Failure) {
        self.correlator.forget(outgoing);
        if failure == Failure::Forbidden {
            if !self.forbidden_told {
                self.forbidden_told = true;
                tracing::warn!(
                    "The ClusterRole does not allow events: add the verbs create and patch, or \
                     turn them off with --events off. This is said once."
                );
            }
            return;
        }
        tracing::warn!(
            namespace = %outgoing.about.namespace,
            pod = %outgoing.about.pod,
            reason = outgoing.reason.as_str(),
            failure = failure.as_str(),
            "An Event could not be written."
        );
    }

    async fn request(&self, outgoing: &Outgoing, update: bool) -> Result<(), Failure> {
        let namespace = &outgoing.about.namespace;
        let collection = format!("/api/v1/namespaces/{namespace}/events");
        let request = if update {
            Request::builder()
                .method(Method::PATCH)
                .uri(format!("{collection}/{}", outgoing.name))
                .header(CONTENT_TYPE, "application/strategic-merge-patch+json")
                .body(Body::from(self.patch(outgoing)))
        } else {
            Request::builder()
                .method(Method::POST)
                .uri(collection)
                .header(CONTENT_TYPE, "application/json")
                .body(Body::from(self.object(outgoing)))
        };
        let request = request.map_err(|_| Failure::Malformed)?;
        let response = self.client.send(request).await.map_err(|_| Failure::Connection)?;
        let failure = Failure::of_status(response.status());
        let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect();
        let body = timeout(ANSWER, body).await.map_err(|_| Failure::Timeout)?;
        match (failure, body) {
            (Some(failure), Ok(body)) => {
                let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
                tracing::debug!(
                    failure = failure.as_str(),
                    answer = text.trim(),
                    "An Event failed."
                );
                Err(if text.contains(TERMINATING) { Failure::NotFound } else { failure })
            }
            (Some(failure), Err(_)) => Err(failure),
            (None, Ok(_)) => Ok(()),
            (None, Err(_)) => Err(Failure::Cut),
        }
    }

    fn patch(&self, outgoing: &Outgoing) -> Vec<u8> {
        json!({
            "count": outgoing.count,
            "lastTimestamp": seconds(outgoing.last),
            "message": outgoing.message,
        })
        .to_string()
        .into_bytes()
    }

    fn object(&self, outgoing: &Outgoing) -> Vec<u8> {
        let about = &outgoing.about;
        let mut involved = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "name": about.pod,
            "namespace": about.namespace,
            "uid": about.uid,
        });
        if let (Some(path), Some(involved)) = (about.field_path(), involved.as_object_mut()) {
            involved.insert("fieldPath".to_owned(), path.into());
        }
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "name": outgoing.name, "namespace": about.namespace },
            "involvedObject": involved,
            "reason": outgoing.reason.as_str(),
            "message": outgoing.message,
            "type": outgoing.reason.event_type(),
            "count": outgoing.count,
            "firstTimestamp": seconds(outgoing.first),
            "lastTimestamp": seconds(outgoing.last),
            "source": { "component": COMPONENT, "host": self.node },
            "reportingComponent": COMPONENT,
            "reportingInstance": self.node,
        })
        .to_string()
        .into_bytes()
    }
}

/// With what could not be known at once.
async fn completed(mut occurrence: Occurrence) -> Occurrence {
    if let Some(left) = occurrence.left.take() {
        occurrence.message += &message::goes_on(left.count().await);
    }
    occurrence
}

/// A time as `metav1.Time` has it: whole seconds, UTC.
fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}
