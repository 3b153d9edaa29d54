//! Kills as they happen: server-sent events, for the page, for
//! `herder-agent kills --follow`, and for curl.
//!
//! A stream costs a slot and one place in the journal's bounded channel. A client
//! that reads too slowly for that is told how many kills it missed, and delays
//! nobody.

use super::respond::{Answer, text};
use crate::report::{KillRecord, Reporter};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{Either, StreamBody};
use hyper::{
    HeaderMap, StatusCode,
    body::Frame,
    header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue},
};
use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch},
    time::{Instant, sleep_until},
};

/// Streams at once. They hold a connection each, of the few that are served.
pub(super) const STREAMS: usize = 12;

/// How long one may last. Browsers and `--follow` then ask again, with the number
/// of the last kill they have.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);

/// A comment this often keeps proxies from cutting a quiet stream.
const ALIVE: Duration = Duration::from_secs(15);

/// All streams of a server.
#[derive(Clone)]
pub(super) struct Streams {
    slots: Arc<Semaphore>,
    /// Closed when the server stops.
    serving: watch::Receiver<()>,
}

/// Whether a connection has become a stream, which may last longer than others.
#[derive(Clone, Default)]
pub(super) struct Streaming(Arc<AtomicBool>);

impl Streaming {
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Streams {
    /// They end when the sender of `serving` is dropped.
    pub(super) fn new(serving: watch::Receiver<()>) -> Self {
        Streams { slots: Arc::new(Semaphore::new(STREAMS)), serving }
    }

    /// Answers with a stream that begins after the kill `Last-Event-ID`, or now.
    pub(super) fn open(
        &self,
        headers: &HeaderMap,
        reporter: &Reporter,
        streaming: &Streaming,
    ) -> Answer {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            let why = format!("{STREAMS} streams are open already\n");
            return text(StatusCode::SERVICE_UNAVAILABLE, why);
        };
        let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
        let (missed, live) = reporter.follow(last);
        streaming.0.store(true, Ordering::Relaxed);
        let now = Instant::now();
        let live = Live {
            // So that the client knows at once that it is connected.
            waiting: [hello()].into_iter().chain(missed.iter().map(event)).collect(),
            live,
            serving: self.serving.clone(),
            alive: now + ALIVE,
            end: now + LONGEST,
            _slot: slot,
        };
        let frames = stream::unfold(live, |mut live| async {
            let bytes = live.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(bytes)), live))
        });
        let mut answer = Answer::new(Either::Right(StreamBody::new(frames.boxed())));
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // No other request may profit from the longer life of this connection.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        answer
    }
}

/// One stream.
struct Live {
    waiting: VecDeque<Bytes>,
    live: broadcast::Receiver<Arc<KillRecord>>,
    serving: watch::Receiver<()>,
    alive: Instant,
    end: Instant,
    _slot: OwnedSemaphorePermit,
}

impl Live {
    /// What is sent next; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(bytes) = self.waiting.pop_front() {
            return Some(bytes);
        }
        tokio::select! {
            // The server stops: nothing is ever sent on this channel.
            _ = self.serving.changed() => None,
            () = sleep_until(self.end) => None,
            kill = self.live.recv() => match kill {
                Ok(kill) => Some(event(&kill)),
                Err(broadcast::error::RecvError::Lagged(missed)) => Some(lagged(missed)),
                Err(broadcast::error::RecvError::Closed) => None,
            },
            () = sleep_until(self.alive) => {
                self.alive = Instant::now() + ALIVE;
                Some(Bytes::from_static(b": alive\n\n"))
            }
        }
    }
}

fn hello() -> Bytes {
    Bytes::from_static(
        b": kills as they happen; GET /api/v1/kills has the last ones\nretry: 2000\n\n",
    )
}

/// JSON has no line breaks, so one `data` line is enough.
fn event(kill: &Arc<KillRecord>) -> Bytes {
    let mut text = format!("event: kill\nid: {}\ndata: ", kill.id);
    match serde_json::to_string(kill.as_ref()) {
        Ok(json) => text.push_str(&json),
        // Records are plain data, for which this does not happen.
        Err(error) => drop(write!(text, "{{\"error\":\"{error}\"}}")),
    }
    text.push_str("\n\n");
    text.into()
}

fn lagged(missed: u64) -> Bytes {
    format!("event: missed\ndata: {{\"missed\":{missed}}}\n\n").into()
}
