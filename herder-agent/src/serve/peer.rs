//! The client at the other end of a connection, and which side waits for the other.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::time::Instant;

/// A client. Clones are the same.
#[derive(Clone)]
pub(super) struct Peer {
    address: IpAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Since when the connection is there, until its client has asked something.
    new: Option<Instant>,
    /// Since when it makes a TLS handshake, until its client has asked something.
    handshake: Option<Instant>,
    /// Answers that are being made.
    answers: usize,
    streams: bool,
    /// Since when the socket takes no more.
    unread: Option<Instant>,
    /// Since when nothing is owed to the client.
    waiting: Instant,
}

/// What happens on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// It is there since then, and the client has asked nothing yet.
    New(Instant),
    /// It makes a TLS handshake since then, and the client has asked nothing yet.
    Handshake(Instant),
    /// The server waits for another request, or the rest of one, since then.
    Waiting(Instant),
    /// An answer is being made or written.
    Answering,
    /// The server waits for the client to read since then.
    Unread(Instant),
    /// It follows the kills.
    Streaming,
}

/// An answer that is being made, until it is dropped.
pub(super) struct Answering(Peer);

impl Peer {
    pub(super) fn new(address: IpAddr) -> Self {
        let now = Instant::now();
        let state = State {
            new: Some(now),
            handshake: None,
            answers: 0,
            streams: false,
            unread: None,
            waiting: now,
        };
        Peer { address, state: Arc::new(Mutex::new(state)) }
    }

    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    pub(super) fn doing(&self) -> Doing {
        self.with(|state| match *state {
            State { new: Some(since), .. } => Doing::New(since),
            State { handshake: Some(since), .. } => Doing::Handshake(since),
            State { streams: true, .. } => Doing::Streaming,
            State { unread: Some(since), .. } => Doing::Unread(since),
            State { answers: 0, waiting, .. } => Doing::Waiting(waiting),
            State { .. } => Doing::Answering,
        })
    }

    pub(super) fn shakes_hands(&self) {
        self.with(|state| {
            state.new = None;
            state.handshake = Some(Instant::now());
        });
    }

    /// The client has asked something.
    pub(super) fn asks(&self) {
        self.with(|state| {
            state.new = None;
            state.handshake = None;
            state.waiting = Instant::now();
        });
    }

    /// From now on the connection is a stream.
    pub(super) fn follows(&self) {
        self.with(|state| state.streams = true);
    }

    pub(super) fn answering(&self) -> Answering {
        self.with(|state| state.answers += 1);
        Answering(self.clone())
    }

    /// The socket took something.
    pub(super) fn took(&self) {
        self.with(|state| {
            state.unread = None;
            state.waiting = Instant::now();
        });
    }

    /// The socket took nothing.
    pub(super) fn took_nothing(&self) {
        self.with(|state| {
            state.unread.get_or_insert_with(Instant::now);
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.with(|state| {
            state.answers -= 1;
            state.waiting = Instant::now();
        });
    }
}
