//! Kills as they happen: server-sent events, for the page, for
//! `herder-agent kills --follow`, and for curl.
//!
//! A stream holds the number of the last kill that it has written, and reads the next one
//! in the journal when the client has read that. A client that is too slow for the journal gets
//! the number of kills that it missed, and delays no other client.

use super::{
    Access,
    answer::{Answer, streamed, text},
    peer::Peer,
};
use crate::report::{KillRecord, Reporter};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use hyper::{
    HeaderMap, StatusCode,
    body::Frame,
    header::{CONNECTION, HeaderValue},
};
use serde::Serialize;
use std::{
    fmt::Write,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Streams at once. They hold a connection each, of the few that are served.
pub(super) const STREAMS: usize = 12;

/// Streams of one address: a browser opens so many connections.
pub(super) const OF_ONE_ADDRESS: usize = 6;

/// How many streams there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) all: usize,
    pub(super) of_one_address: usize,
}

impl Bounds {
    /// On the port for operators.
    pub(super) const OPERATORS: Bounds = Bounds { all: STREAMS, of_one_address: OF_ONE_ADDRESS };
}

/// How long one may last. Browsers and `--follow` then ask again, with the number
/// of the last kill they have.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);

/// A comment this often keeps proxies from cutting a quiet stream.
pub(super) const ALIVE: Duration = Duration::from_secs(15);

/// All streams of a server.
#[derive(Clone)]
pub(super) struct Streams {
    /// Whose they are.
    open: Arc<Mutex<Vec<IpAddr>>>,
    /// Closed when the server stops.
    pub(super) serving: watch::Receiver<()>,
    bounds: Bounds,
}

/// One of the streams, until it is dropped.
pub(super) struct Slot {
    streams: Streams,
    address: IpAddr,
}

impl Streams {
    /// They end when the sender of `serving` is dropped.
    pub(super) fn new(serving: watch::Receiver<()>, bounds: Bounds) -> Self {
        Streams { open: Arc::default(), serving, bounds }
    }

    /// Answers with a stream that begins after the kill `Last-Event-ID`, or now. It ends when `access`
    /// changes, so that its client is asked again whether it may have it.
    pub(super) fn open(
        &self,
        headers: &HeaderMap,
        reporter: &Arc<Reporter>,
        peer: &Peer,
        access: watch::Receiver<Access>,
    ) -> Answer {
        let slot = match self.enter(peer.address()) {
            Ok(slot) => slot,
            Err(why) => return text(StatusCode::SERVICE_UNAVAILABLE, why),
        };
        peer.follows();
        let newest = reporter.last_kill();
        let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
        let now = Instant::now();
        let live = Live {
            // An agent that was started anew counts from 1 again.
            last: last.map_or(newest, |last| if last > newest { 0 } else { last }),
            settled: reporter.last_settled(),
            news: reporter.news_of_kills(),
            reporter: reporter.clone(),
            serving: self.serving.clone(),
            access,
            alive: now + ALIVE,
            end: now + LONGEST,
            _slot: slot,
        };
        let frames = stream::unfold(live, |mut live| async {
            let bytes = live.next().await?;
            Some((bytes, live))
        });
        // So that the client knows at once that it is connected.
        let frames = stream::iter([hello()]).chain(frames).map(|bytes| Ok(Frame::data(bytes)));
        let mut answer = streamed("text/event-stream", frames.boxed());
        // No other request may profit from the longer life of this connection.
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        answer
    }

    /// Takes a place, or says why there is none.
    pub(super) fn enter(&self, address: IpAddr) -> Result<Slot, String> {
        self.with(|open| {
            let Bounds { all, of_one_address } = self.bounds;
            if open.len() >= all {
                return Err(format!("{all} streams are open already\n"));
            }
            if open.iter().filter(|other| **other == address).count() >= of_one_address {
                return Err(format!("{of_one_address} streams of your address are open already\n"));
            }
            open.push(address);
            Ok(Slot { streams: self.clone(), address })
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vec<IpAddr>) -> T) -> T {
        work(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.streams.with(|open| {
            if let Some(place) = open.iter().position(|address| *address == self.address) {
                open.swap_remove(place);
            }
        });
    }
}

struct Live {
    /// The kill that was written last.
    last: u64,
    /// How many of those were written of which it became known what became of the container.
    settled: u64,
    reporter: Arc<Reporter>,
    news: watch::Receiver<()>,
    serving: watch::Receiver<()>,
    access: watch::Receiver<Access>,
    alive: Instant,
    end: Instant,
    _slot: Slot,
}

impl Live {
    /// What is sent next; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.kill().or_else(|| self.fate()) {
                return Some(bytes);
            }
            tokio::select! {
                // The server stops: nothing is ever sent on this channel.
                _ = self.serving.changed() => return None,
                Ok(()) = self.access.changed() => return None,
                () = sleep_until(self.end) => return None,
                news = self.news.changed() => news.ok()?,
                () = sleep_until(self.alive) => {
                    self.alive = Instant::now() + ALIVE;
                    return Some(Bytes::from_static(b": alive\n\n"));
                }
            }
        }
    }

    /// The next kill that is not written yet, or how many there were before it that are not
    /// kept any more.
    fn kill(&mut self) -> Option<Bytes> {
        let kill = self.reporter.kill_after(self.last)?;
        let missed = kill.id.saturating_sub(self.last).saturating_sub(1);
        self.last = kill.id.saturating_sub(u64::from(missed > 0));
        Some(if missed > 0 { lagged(missed) } else { new(&kill) })
    }

    /// The next kill of which it became known what became of the container.
    fn fate(&mut self) -> Option<Bytes> {
        let (place, kill) = self.reporter.settled_after(self.settled)?;
        self.settled = place;
        Some(event("settled", &*kill))
    }
}

fn hello() -> Bytes {
    Bytes::from_static(
        b": kills as they happen; GET /api/v1/kills has the last ones\nretry: 2000\n\n",
    )
}

fn new(kill: &KillRecord) -> Bytes {
    event(&format!("kill\nid: {}", kill.id), kill)
}

/// JSON has no line breaks, so one `data` line is enough. An update of an earlier kill has no
/// number of its own: a client begins again after the last kill.
pub(super) fn event(name: &str, kill: &impl Serialize) -> Bytes {
    let mut text = format!("event: {name}\ndata: ");
    match serde_json::to_string(kill) {
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
