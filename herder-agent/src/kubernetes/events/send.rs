//! Writes Events to the API server: the only part of `events` that knows it.
//!
//! The queue is short and never waited for. A request that fails for a while is
//! tried again; one that the server refuses is counted and dropped. kube's `Api<Event>` would build
//! the requests, but sends them past [`ApiServer::send`], and shows no head of an answer: neither
//! Retry-After nor whether it is JSON.

use super::{
    Occurrence, Reason,
    correlate::{Correlator, Outgoing, UPDATE_EVERY},
    gate::{Gate, Pass, SuppressedCount},
    message, object,
};
use crate::kubernetes::client::{ApiServer, Failure, RequestError};
use herder_model::{
    backoff::{Backoff, Pace, random},
    owner::id::PodUid,
};
use hyper::{Method, Request, header::CONTENT_TYPE};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{
        Notify,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Instant, sleep, sleep_until},
};

/// Occurrences that may wait. A pod's share is 25 at once, so this is a node's
/// bad day; each takes some hundred bytes.
const QUEUE: usize = 128;

/// Tries for one Event, as client-go's `maxTriesPerEvent` (tools/record/event.go); with the
/// default pace they take one to two minutes, client-go's 10 s apart two.
const TRIES: u32 = 12;

/// Tries where an admission webhook fails. That may be about the Events of one namespace alone, or
/// last for days, and those behind wait meanwhile. Other failures of a server, as while etcd chooses
/// a leader, are over for all at once.
const TRIES_OF_WEBHOOK: u32 = 3;

/// Longest answer that is read, bytes: an Event comes back, or a Status.
const LARGEST_ANSWER: usize = 64 << 10;

/// What became of an occurrence. A metric label, so the set is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Created,
    /// An Event was counted up.
    Updated,
    /// It is only counted, in the Event of some like it.
    Suppressed,
    Dropped,
    /// The server did not take it.
    Failed(Failure),
}

impl Outcome {
    pub const LABELS: [&str; 5] = ["created", "updated", "suppressed", "dropped", "failed"];

    /// The value of the `result` label. Why a request failed is counted by
    /// [`crate::kubernetes::client`].
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

/// Called with the outcome of every occurrence, and each time that one is counted up; counts it.
pub type OnOutcome = Arc<dyn Fn(Outcome) + Send + Sync>;

/// Where occurrences are handed in.
pub struct EventQueue {
    sender: Sender<Waiting>,
    gate: Gate,
    behind: Arc<Notify>,
    on_outcome: OnOutcome,
}

/// The other end of the queue.
pub struct EventReceiver {
    waiting: Receiver<Waiting>,
    behind: Arc<Notify>,
}

/// An occurrence, with what is like it and is not handed in.
type Waiting = (Occurrence, SuppressedCount);

/// Writes what the queue brings.
pub struct EventWriter {
    receiver: EventReceiver,
    on_outcome: OnOutcome,
    server: ApiServer,
    node: String,
    pace: Pace,
    correlator: Correlator,
    /// When Events are counted up that say less than what happened.
    due: Option<Instant>,
    /// Of what was taken out of the queue, so many are not yet done.
    open: usize,
    forbidden_logged: bool,
}

impl EventQueue {
    /// A queue and its end, which an [`EventWriter`] takes.
    pub fn new(on_outcome: OnOutcome) -> (Self, EventReceiver) {
        let (sender, waiting) = channel(QUEUE);
        let behind = Arc::<Notify>::default();
        let receiver = EventReceiver { waiting, behind: behind.clone() };
        (EventQueue { sender, gate: Gate::default(), behind, on_outcome }, receiver)
    }

    /// Hands an occurrence in, or drops it when the queue is full.
    pub fn emit(&self, occurrence: Occurrence) {
        self.hand_in(occurrence, SuppressedCount::default());
    }

    /// Hands in a kill that happened at this time, which is built only for that; or counts it, if
    /// some like it were emitted just before.
    pub fn emit_kill(
        &mut self,
        pod: PodUid,
        container: &str,
        reason: Reason,
        time: Timestamp,
        build: impl FnOnce() -> Occurrence,
    ) {
        match self.gate.pass(pod, container, reason, time, Instant::now()) {
            Pass::Emit(suppressed) => self.hand_in(build(), suppressed),
            Pass::Counted { first } => {
                (self.on_outcome)(Outcome::Suppressed);
                if first {
                    self.behind.notify_one();
                }
            }
        }
    }

    fn hand_in(&self, occurrence: Occurrence, suppressed: SuppressedCount) {
        if self.sender.try_send((occurrence, suppressed)).is_err() {
            (self.on_outcome)(Outcome::Dropped);
        }
    }
}

impl EventReceiver {
    /// What waits, if there is something.
    pub fn take(&mut self) -> Option<Occurrence> {
        self.waiting.try_recv().ok().map(|(occurrence, _)| occurrence)
    }
}

impl EventWriter {
    /// The writer of a queue, which is to be run in a task of its own.
    pub fn new(
        receiver: EventReceiver,
        server: ApiServer,
        node: &str,
        pace: Pace,
        on_outcome: OnOutcome,
    ) -> Self {
        EventWriter {
            receiver,
            on_outcome,
            server,
            node: node.to_owned(),
            pace,
            correlator: Correlator::default(),
            due: None,
            open: 0,
            forbidden_logged: false,
        }
    }

    /// Runs until the queue is gone and what it brought is written, or until `end`. Returns how
    /// much was not written.
    pub async fn run(mut self, end: impl Future<Output = ()>) -> usize {
        tokio::select! {
            biased;
            () = self.write_all() => {}
            () = end => {}
        }
        while self.receiver.take().is_some() {
            self.open += 1;
        }
        (0..self.open).for_each(|_| (self.on_outcome)(Outcome::Dropped));
        self.open
    }

    async fn write_all(&mut self) {
        loop {
            let due = self.due;
            tokio::select! {
                biased;
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.catch_up(UPDATE_EVERY).await;
                }
                waiting = self.receiver.waiting.recv() => match waiting {
                    Some((occurrence, suppressed)) => self.take(occurrence, suppressed).await,
                    None => break,
                },
                () = self.receiver.behind.notified() => self.fall_behind(),
            }
        }
        self.catch_up(Duration::ZERO).await;
    }

    async fn take(&mut self, mut occurrence: Occurrence, suppressed: SuppressedCount) {
        self.open += 1;
        let left = occurrence.left.take();
        let outcome = match self.correlator.correlate(occurrence, suppressed, Instant::now()) {
            Some(mut outgoing) => {
                if let Some(left) = left {
                    let more = message::left_running(left.count().await);
                    self.correlator.append(&mut outgoing, &more);
                }
                self.write(&outgoing).await
            }
            None => {
                self.fall_behind();
                Outcome::Suppressed
            }
        };
        self.open -= 1;
        (self.on_outcome)(outcome);
    }

    /// Some Event says less than what happened.
    fn fall_behind(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + UPDATE_EVERY);
    }

    /// Counts up what was last written so long ago, as far as that is allowed.
    async fn catch_up(&mut self, after: Duration) {
        self.due = None;
        for one in self.correlator.behind() {
            let now = Instant::now();
            let due = now >= one.at + after;
            let event = due.then(|| self.correlator.catch_up(one, now));
            let Some(outgoing) = event.flatten() else {
                self.fall_behind();
                continue;
            };
            self.open += 1;
            let outcome = self.write(&outgoing).await;
            self.open -= 1;
            (self.on_outcome)(outcome);
            if matches!(outcome, Outcome::Failed(_)) {
                // The others would only keep waiting what comes new.
                return self.fall_behind();
            }
        }
    }

    async fn write(&mut self, outgoing: &Outgoing) -> Outcome {
        let mut backoff = Backoff::new(self.pace);
        let mut update = outgoing.is_update;
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match self.request(outgoing, update).await {
                Ok(()) if update => return Outcome::Updated,
                Ok(()) => return Outcome::Created,
                Err(error) => error,
            };
            match error.failure() {
                // Events expire after an hour (`--event-ttl`), and one that was
                // suppressed never was: then it is written anew.
                Failure::NotFound if update => {
                    update = false;
                    continue;
                }
                // Its answer was lost, but the Event was written.
                Failure::Conflict if tries > 1 => return Outcome::Created,
                failure @ Failure::Server if error.is_of_webhook() && tries >= TRIES_OF_WEBHOOK => {
                    self.give_up(outgoing, &error);
                    return Outcome::Failed(failure);
                }
                Failure::Throttled
                | Failure::Unauthorized
                | Failure::Server
                | Failure::Connection
                | Failure::Cut
                | Failure::Timeout
                // A proxy in between may hang, restart, or show a login page.
                | Failure::Malformed
                    if tries < TRIES =>
                {
                    let wait = backoff.after_failure(random());
                    tracing::debug!(error = error.to_string(), ?wait, "The request for an Event is retried.");
                    sleep(wait).await;
                }
                failure => {
                    self.give_up(outgoing, &error);
                    return Outcome::Failed(failure);
                }
            }
        }
    }

    fn give_up(&mut self, outgoing: &Outgoing, error: &RequestError) {
        self.correlator.forget(outgoing);
        if error.lacks_right() {
            if !self.forbidden_logged {
                self.forbidden_logged = true;
                tracing::warn!(
                    error = error.to_string(),
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
            error = error.to_string(),
            "An Event could not be written."
        );
    }

    async fn request(&self, outgoing: &Outgoing, update: bool) -> Result<(), RequestError> {
        let namespace = &outgoing.about.namespace;
        let collection = format!("/api/v1/namespaces/{namespace}/events");
        let request = if update {
            Request::builder()
                .method(Method::PATCH)
                .uri(format!("{collection}/{}", outgoing.name))
                .header(CONTENT_TYPE, "application/strategic-merge-patch+json")
                .body(object::patch(outgoing))
        } else {
            Request::builder()
                .method(Method::POST)
                .uri(collection)
                .header(CONTENT_TYPE, "application/json")
                .body(object::object(outgoing, &self.node))
        };
        let malformed = |error: hyper::http::Error| RequestError::Malformed(error.to_string());
        let request = request.map_err(|error| self.server.failed(malformed(error)))?;
        let answer = self.server.send(request).await?;
        answer.json::<object::Written>(LARGEST_ANSWER).await.map(drop)
    }
}
