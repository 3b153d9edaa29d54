//! Follows the pods of a node at the API server: the only part of `pods` that
//! knows it.
//!
//! First a list, in a stream where the server has that, and then a watch, which continues
//! from its last version until the server no longer has that version. Known pods stay
//! in use meanwhile. The beginning and the end of an outage are logged.

mod outage;
mod pauses;
mod skipped;
mod unheard;
mod wire;

use crate::kubernetes::client::{Answer, ApiServer, Failure, RequestError};
use herder_model::{
    backoff::{Pace, random},
    pods::{Event, current::CurrentPods},
};
use kube::api::{ListParams, Request, WatchParams};
use outage::Outages;
use pauses::Pauses;
use skipped::Skipped;
use std::time::Duration;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use unheard::Unheard;
use wire::{Line, PodList, WatchedPod};

/// Lists in a stream that may fail before LIST is tried, and watches before it is tried again: a
/// proxy between may not pass on a stream.
const STREAM_TRIES: u32 = 3;

const PODS: &str = "/api/v1/pods";

/// The largest list, bytes. A pod has some 10 KiB. It is in memory as a whole, in the limit of the
/// DaemonSet; a list in a stream is not.
const LARGEST_LIST: usize = 24 << 20;

/// Pods of a page, where the list is larger. A pod has 9 MiB at most: etcd takes 1.5 MiB, and of
/// some letters JSON makes six.
const PAGE: u32 = 2;

/// Any version: then a list comes out of the server's watch cache, which knows pods by
/// their node, and not from etcd, which would have to read those of all nodes. client-go's
/// reflector asks the same; a limit would go to etcd again.
const ANY_VERSION: &str = "0";

/// Follows the pods of a node until the core is gone. While the server is away
/// nothing is sent: the core goes on with what it knows.
pub async fn watch(server: ApiServer, node: &str, pace: Pace, to: Followers) {
    let mut feed = Feed {
        server,
        selector: format!("spec.nodeName={node}"),
        to,
        pauses: Pauses::new(pace),
        version: None,
        lists: Lists::Streamed,
        in_pages: false,
        failed_lists: 0,
        failed_watches: 0,
        heard: false,
        unheard: Unheard::default(),
        skipped: Skipped::default(),
        answered: None,
        outages: Outages::default(),
    };
    loop {
        if let Err(stop) = feed.turn().await {
            let Some(wait) = feed.stopped(stop) else { return };
            sleep(wait).await;
        }
    }
}

/// The receivers of pods.
pub struct Followers {
    /// The receiver of events. The watch ends when it is gone.
    pub events: mpsc::Sender<Event>,
    /// Their current labels, if another part needs them.
    pub current: Option<CurrentPods>,
}

struct Feed {
    server: ApiServer,
    /// Which pods, by a field.
    selector: String,
    to: Followers,
    pauses: Pauses,
    /// Where a watch takes up; none before there is a list.
    version: Option<String>,
    lists: Lists,
    /// Whether LIST is asked for in pages: once one was too large as a whole, others would be, too.
    in_pages: bool,
    failed_lists: u32,
    /// Watches that were not answered, one after the other.
    failed_watches: u32,
    /// There was a line in the answer that is being read.
    heard: bool,
    unheard: Unheard,
    skipped: Skipped,
    /// When the answer began that is being read.
    answered: Option<Instant>,
    outages: Outages,
}

/// How the pods are listed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lists {
    Streamed,
    /// By LIST, because those in a stream failed. Once a watch is answered they are tried again: the
    /// server may only have been overloaded.
    Plain,
    /// By LIST, because the server has no others.
    OnlyPlain,
}

/// Why a list or watch has ended.
enum Stop {
    CoreGone,
    /// The server closed the watch in good order, as it does every few minutes.
    Closed,
    Failed(RequestError),
}

impl From<RequestError> for Stop {
    fn from(error: RequestError) -> Self {
        Stop::Failed(error)
    }
}

impl Feed {
    /// One list, or one watch until it ends.
    async fn turn(&mut self) -> Result<(), Stop> {
        (self.answered, self.heard) = (None, false);
        self.list_for_skipped();
        match self.version.clone() {
            None if self.lists != Lists::Streamed => self.list().await,
            version => self.watch(version.as_deref()).await,
        }
    }

    async fn list(&mut self) -> Result<(), Stop> {
        let mut all = ListParams::default().fields(&self.selector);
        let mut parameters = all.clone().match_any();
        if self.in_pages {
            all = all.limit(PAGE);
            parameters = all.clone();
        }
        self.pass_on(Event::ListStarted).await?;
        loop {
            let request = Request::new(PODS).list(&parameters);
            let list: PodList = self.ask(request).await?.json(LARGEST_LIST).await?;
            for pod in list.items {
                self.applied(pod).await?;
            }
            match list.metadata.next.filter(|next| !next.is_empty()) {
                // A page is of the version that the first one had.
                Some(next) => parameters = all.clone().continue_token(&next),
                None => return self.listed(list.metadata.resource_version).await,
            }
        }
    }

    /// A watch from this version on; without one, beginning with a list.
    async fn watch(&mut self, version: Option<&str>) -> Result<(), Stop> {
        let began_with_list = version.is_none();
        let mut listing = began_with_list;
        let parameters = WatchParams {
            field_selector: Some(self.selector.clone()),
            send_initial_events: began_with_list,
            ..WatchParams::default()
        };
        let request = Request::new(PODS).watch(&parameters, version.unwrap_or(ANY_VERSION));
        let mut answer = self.ask(request).await?;
        if listing {
            self.pass_on(Event::ListStarted).await?;
        } else {
            self.watch_answered();
        }
        loop {
            let line = answer.line().await;
            if answer.take_skipped() && !listing {
                self.skipped.skipped();
            }
            let Some(line) = line? else { break };
            self.heard = true;
            self.unheard.heard(began_with_list);
            let version = match line {
                Line::Applied(pod) => self.applied(pod).await?,
                Line::Deleted(pod) => self.deleted(pod).await?,
                Line::Bookmark(version, true) if listing => {
                    listing = false;
                    self.listed(version).await?;
                    continue;
                }
                Line::Bookmark(..) if !listing && self.list_for_skipped() => {
                    return Err(Stop::Closed);
                }
                Line::Bookmark(version, _) => Some(version),
                Line::Error { code, message } => {
                    return Err(self.server.failed(RequestError::watch(code, &message)).into());
                }
            };
            if !listing {
                let missing = || self.malformed("an event has no resourceVersion");
                self.version = Some(version.ok_or_else(missing)?);
            }
        }
        Err(if listing { self.malformed("the list ended too early").into() } else { Stop::Closed })
    }

    async fn ask(
        &mut self,
        request: Result<hyper::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Answer, RequestError> {
        // The parts of each are ours, or the server's own.
        let request = request.map_err(|error| self.malformed(&error.to_string()))?;
        let answer = self.server.send(request).await?;
        self.answered();
        Ok(answer)
    }

    async fn applied(&mut self, pod: WatchedPod) -> Result<Option<String>, Stop> {
        match pod.pod {
            Some(pod) => self.pass_on(Event::Applied(pod)).await?,
            None => self.left_out(&pod),
        }
        Ok(pod.version)
    }

    async fn deleted(&mut self, pod: WatchedPod) -> Result<Option<String>, Stop> {
        match &pod.pod {
            Some(pod) => self.pass_on(Event::Deleted(pod.uid)).await?,
            None => self.left_out(&pod),
        }
        Ok(pod.version)
    }

    async fn listed(&mut self, version: String) -> Result<(), Stop> {
        self.version = Some(version);
        self.failed_lists = 0;
        self.pass_on(Event::Listed).await
    }

    async fn pass_on(&mut self, event: Event) -> Result<(), Stop> {
        if let Some(current) = &self.to.current {
            current.apply(&event);
        }
        self.to.events.send(event).await.map_err(|_| Stop::CoreGone)
    }

    fn left_out(&self, pod: &WatchedPod) {
        self.malformed("a pod has no usable uid");
        tracing::warn!(
            namespace = pod.namespace.as_deref(),
            pod = pod.name.as_deref(),
            "A pod without a usable uid is ignored."
        );
    }

    fn malformed(&self, what: &str) -> RequestError {
        self.server.failed(RequestError::Malformed(what.to_owned()))
    }

    /// The server is there. Where it answers lists and no watches, the pauses go on.
    fn answered(&mut self) {
        self.answered = Some(Instant::now());
        if self.failed_watches < STREAM_TRIES {
            self.pauses.answered();
            self.outages.answered(&self.server);
        }
    }

    /// It is, and so is all between.
    fn watch_answered(&mut self) {
        self.failed_watches = 0;
        self.answered();
        if self.lists == Lists::Plain {
            self.lists = Lists::Streamed;
        }
    }

    /// What follows from the end of a list or watch, and how long to wait; nothing more
    /// once the core is gone.
    fn stopped(&mut self, stop: Stop) -> Option<Duration> {
        let now = Instant::now();
        match (stop, self.answered) {
            (Stop::CoreGone, _) => return None,
            (Stop::Failed(error), _) if self.refuses_streaming(&error) => {
                tracing::info!("The API server has no streaming list; pods are read by LIST.");
                self.lists = Lists::OnlyPlain;
                return Some(Duration::ZERO);
            }
            (Stop::Failed(error), _) if error.failure() == Failure::Expired => {
                tracing::info!(
                    error = error.to_string(),
                    "The pods are listed again: the API server no longer has the changes since the last one seen."
                );
                self.version = None;
                self.answered();
                return Some(self.pauses.expired(now, random()));
            }
            (Stop::Failed(error), None) => {
                // A proxy may hold a stream back, or answer with a page of its own. Where nothing
                // answers, or a server refuses, LIST would not be answered either.
                if matches!(
                    error.failure(),
                    Failure::Timeout | Failure::Server | Failure::Malformed
                ) {
                    self.list_failed();
                    self.watch_failed();
                }
                let wait = self.pauses.unanswered(random());
                self.outages.unanswered(&self.server, &error, wait);
                return Some(wait);
            }
            (Stop::Failed(error), Some(began)) => self.broke_off(&error, now - began),
            (Stop::Closed, began) => self.closed(began.unwrap_or(now), now),
        }
        Some(self.pauses.ended(self.answered.unwrap_or(now), now, random()))
    }

    fn closed(&mut self, began: Instant, now: Instant) {
        let why = self.unheard.ended(now - began, self.heard);
        self.list_again(why);
    }

    fn list_for_skipped(&mut self) -> bool {
        let is_due = self.version.is_some() && self.skipped.take_due(Instant::now());
        self.list_again(is_due.then_some("a change was too long to be read"));
        is_due
    }

    fn list_again(&mut self, why: Option<&str>) {
        if let Some(why) = why {
            tracing::info!("The pods are listed again: {why}.");
            self.version = None;
        }
    }

    fn broke_off(&mut self, error: &RequestError, lasted: Duration) {
        tracing::info!(
            server = self.server.url(),
            error = error.to_string(),
            "The watch of the pods broke off; known pods stay in use."
        );
        self.list_failed();
        if matches!(error, RequestError::TooLong(_)) {
            tracing::info!("The list of pods is read in pages.");
            self.in_pages = true;
        }
        // A list that is cut says nothing of watches.
        if error.failure() == Failure::Cut && self.version.is_some() {
            let why = self.unheard.cut(lasted, self.heard);
            self.list_again(why);
        } else {
            // What is not an API server's may have swallowed something.
            self.version = None;
        }
    }

    /// Counts a list that did not complete, if it was one.
    fn list_failed(&mut self) {
        if self.version.is_none() {
            self.failed_lists += 1;
            if self.lists == Lists::Streamed && self.failed_lists >= STREAM_TRIES {
                tracing::info!("A streaming list did not complete; pods are read by LIST.");
                self.lists = Lists::Plain;
            }
        }
    }

    /// Counts a watch that was not answered, if it was one. Where none is, there are lists.
    fn watch_failed(&mut self) {
        if self.version.is_none() || self.lists == Lists::Streamed {
            return;
        }
        self.failed_watches += 1;
        if self.failed_watches == STREAM_TRIES {
            tracing::info!(
                "Watches of the pods are not answered; the pods are listed now and then."
            );
        }
        if self.failed_watches >= STREAM_TRIES {
            self.version = None;
        }
    }

    /// Whether a server says that it has no streaming list: without the feature gate
    /// WatchList, off by default before 1.32, it calls `sendInitialEvents` forbidden in a
    /// 422 (`validateWatchOptions()`,
    /// apimachinery/pkg/apis/meta/internalversion/validation/validation.go).
    fn refuses_streaming(&self, error: &RequestError) -> bool {
        let asked = self.lists == Lists::Streamed && self.version.is_none();
        asked
            && matches!(error, RequestError::Refused { status, .. } if matches!(status.as_u16(), 400 | 422))
    }
}
