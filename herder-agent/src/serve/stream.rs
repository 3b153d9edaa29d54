//! Kills as they happen: server-sent events, for the page, for
//! `herder-agent kills --follow`, and for curl.
//!
//! A stream holds the number of the last kill that it has written, and reads the next one
//! in the journal when the client has read that. A client that is too slow for the journal gets
//! the number of kills that it missed, and delays no other client.
//!
//! An agent numbers its kills from 1. So the id of an event also says which agent gave it: one that
//! was started anew would else take the number of an earlier one for its own, and leave out what
//! it has before that.

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
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
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
const ALIVE: Duration = Duration::from_secs(15);

/// When it is asked again who reads, where that could not be said.
const AGAIN: Duration = Duration::from_millis(500);

/// All streams of a server.
#[derive(Clone)]
pub(super) struct Streams {
    /// Whose they are.
    open: Arc<Mutex<Vec<IpAddr>>>,
    /// Closed when the server stops.
    serving: watch::Receiver<()>,
    bounds: Bounds,
    /// What ids begin with; no other agent's do.
    start: Arc<str>,
}

/// One of the streams, until it is dropped.
pub(super) struct Slot {
    streams: Streams,
    address: IpAddr,
}

impl Streams {
    /// They end when the sender of `serving` is dropped.
    pub(super) fn new(serving: watch::Receiver<()>, bounds: Bounds) -> Self {
        let start = format!("{:016x}", RandomState::new().hash_one(())).into();
        Streams { open: Arc::default(), serving, bounds, start }
    }

    /// Answers an operator with a stream that begins after the kill `Last-Event-ID`, or now.
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
        let last = last_event(headers).and_then(|id| self.number(id));
        let last = last.map_or(newest, |last| if last > newest { 0 } else { last });
        self.follow(Operator { start: self.start.clone() }, last, reporter, access, slot)
    }

    /// The number in the id of an event, which is 0 if another agent gave it; or a mere number.
    fn number(&self, id: &str) -> Option<u64> {
        match id.split_once('-') {
            Some((start, number)) if *start == *self.start => number.parse().ok(),
            Some(_) => Some(0),
            None => id.parse().ok(),
        }
    }

    /// Answers with a stream that begins after a kill. It ends when `access` changes, so that its
    /// client is asked again whether it may have it.
    pub(super) fn follow(
        &self,
        audience: impl Audience,
        last: u64,
        reporter: &Arc<Reporter>,
        access: watch::Receiver<Access>,
        slot: Slot,
    ) -> Answer {
        let (now, hello) = (Instant::now(), audience.hello(last));
        let live = Live {
            audience,
            last,
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
        let frames = stream::iter([hello]).chain(frames).map(|bytes| Ok(Frame::data(bytes)));
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

/// The kill that a client had last.
pub(super) fn last_event(headers: &HeaderMap) -> Option<&str> {
    headers.get("last-event-id")?.to_str().ok()
}

/// A client that follows, and what of the kills it hears.
pub(super) trait Audience: Send + 'static {
    /// What a stream begins with that goes on after a kill.
    fn hello(&self, last: u64) -> Bytes;

    /// The event for a kill, if it is to hear of it.
    fn kill(&self, kill: &KillRecord) -> Option<Bytes>;

    /// The event for what became of a kill's container, if it is to hear of it.
    fn settled(&self, kill: &KillRecord) -> Option<Bytes>;

    /// The event for kills that are not kept any more, if it is to hear of them.
    fn missed(&self, kills: u64) -> Option<Bytes>;

    /// Whether it is still the one that reads; none if that cannot be said now.
    fn is_there(&self) -> impl Future<Output = Option<bool>> + Send;
}

/// A client that the port for operators has let in.
struct Operator {
    start: Arc<str>,
}

impl Audience for Operator {
    /// With an id, so that a client that has had no kill yet goes on here, too.
    fn hello(&self, last: u64) -> Bytes {
        let text = ": kills as they happen; GET /api/v1/kills has the last ones\nretry: 2000\n";
        format!("{text}id: {}-{last}\n\n", self.start).into()
    }

    fn kill(&self, kill: &KillRecord) -> Option<Bytes> {
        Some(event(&format!("kill\nid: {}-{}", self.start, kill.id), kill))
    }

    fn settled(&self, kill: &KillRecord) -> Option<Bytes> {
        Some(event("settled", kill))
    }

    fn missed(&self, kills: u64) -> Option<Bytes> {
        Some(format!("event: missed\ndata: {{\"missed\":{kills}}}\n\n").into())
    }

    async fn is_there(&self) -> Option<bool> {
        Some(true)
    }
}

/// One stream.
struct Live<A> {
    audience: A,
    /// The kill that was looked at last.
    last: u64,
    /// How many of those were looked at of which it became known what became of the container.
    settled: u64,
    reporter: Arc<Reporter>,
    news: watch::Receiver<()>,
    serving: watch::Receiver<()>,
    access: watch::Receiver<Access>,
    alive: Instant,
    end: Instant,
    _slot: Slot,
}

impl<A: Audience> Live<A> {
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
                Ok(()) = self.access.changed() => return None,
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

    /// Whether the client that has asked is the one that reads. A client that hears nothing more
    /// asks again, and hears why. Where that cannot be said now, it is asked again: the client would
    /// begin anew after what it was about to hear.
    async fn is_still_there(&mut self) -> bool {
        loop {
            if let Some(is_there) = self.audience.is_there().await {
                return is_there;
            }
            tokio::select! {
                _ = self.serving.changed() => return false,
                Ok(()) = self.access.changed() => return false,
                () = sleep_until(self.end) => return false,
                () = sleep(AGAIN) => {}
            }
        }
    }

    /// The next kill that was not looked at, or how many there were before it that are not kept any
    /// more.
    fn kill(&mut self) -> Option<Bytes> {
        while let Some(kill) = self.reporter.kill_after(self.last) {
            let missed = kill.id.saturating_sub(self.last).saturating_sub(1);
            if missed > 0 {
                self.last = kill.id.saturating_sub(1);
                if let Some(bytes) = self.audience.missed(missed) {
                    return Some(bytes);
                }
            }
            self.last = kill.id;
            if let Some(bytes) = self.audience.kill(&kill) {
                return Some(bytes);
            }
        }
        None
    }

    /// The next kill of which it became known what became of the container.
    fn fate(&mut self) -> Option<Bytes> {
        while let Some((place, kill)) = self.reporter.settled_after(self.settled) {
            self.settled = place;
            if let Some(bytes) = self.audience.settled(&kill) {
                return Some(bytes);
            }
        }
        None
    }
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
