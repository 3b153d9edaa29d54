//! The HTTP server:
//!
//! * `GET /metrics`: for Prometheus
//! * `GET /livez`: the server answers
//! * `GET /readyz`: the programs are attached and the first walk is done
//! * `GET /api/v1/kills`: the last kills, newest first; `?limit=N`
//! * `GET /api/v1/kills/stream`: kills as they happen (server-sent events)
//! * `GET /api/v1/containers`: the matched containers
//! * `GET /api/v1/node`: which node this is
//! * `GET /`: a page that shows all that to people
//!
//! It only reads, and has no secrets to tell. Whatever a client does costs it a
//! bounded amount of memory and delays nobody else; no address gets all connections.

mod page;
mod peers;
mod readiness;
mod respond;
mod stream;

pub use readiness::{Latch, Readiness};

use crate::{core::Command, report::Reporter};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use peers::Peers;
use std::{
    collections::VecDeque, convert::Infallible, future::Future, io, net::SocketAddr, pin::pin,
    sync::Arc, time::Duration,
};
use stream::{Streaming, Streams};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing_appender::non_blocking::ErrorCounter;

/// Connections that are served at once; who comes then takes the place of the oldest that
/// is no stream. Each may hold one answer of at most some MiB (`/api/v1/kills` when all
/// were group kills).
const CONNECTIONS: usize = 24;

/// How long a client may take to send the head of its request.
const HEAD: Duration = Duration::from_secs(5);

/// How long a connection may last in whole, unless it is a stream.
const CONNECTION: Duration = Duration::from_secs(60);

/// How long a place is its client's at least. Of a flood of connections each could else be
/// cut before it is looked at; so a full backlog (1,024) is through in half a second.
const ASK: Duration = Duration::from_millis(10);

/// Largest head of a request, bytes.
const LARGEST_HEAD: usize = 16 * 1024;

/// How long requests that are being answered may take at the end.
const FINISH: Duration = Duration::from_secs(2);

/// The port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; choose another address with --listen")]
pub struct ServeError {
    address: SocketAddr,
    source: io::Error,
}

/// What the server tells about.
#[derive(Clone)]
pub struct State {
    reporter: Arc<Reporter>,
    readiness: Readiness,
    core: mpsc::Sender<Command>,
    dropped: Option<ErrorCounter>,
    node: Arc<str>,
}

impl State {
    /// Takes handles to the rest of the agent.
    pub fn new(
        reporter: Arc<Reporter>,
        readiness: Readiness,
        core: mpsc::Sender<Command>,
        dropped: Option<ErrorCounter>,
        node: &str,
    ) -> Self {
        State { reporter, readiness, core, dropped, node: node.into() }
    }
}

/// Takes the port, so that a start-up with a taken port fails early.
///
/// # Errors
/// When the address cannot be bound.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError { address, source })
}

/// Serves until `stop` is done, then ends the streams and finishes what it is
/// answering.
pub async fn run(listener: TcpListener, state: State, stop: impl Future<Output = ()>) {
    let mut oldest_first = VecDeque::with_capacity(CONNECTIONS);
    let peers = Peers::default();
    let mut connections = JoinSet::new();
    let (serving, ended) = watch::channel(());
    let streams = Streams::new(ended);
    let mut stop = pin!(stop);
    loop {
        let full_until = full_until(&mut oldest_first);
        let accepted = async {
            if let Some(until) = full_until {
                sleep_until(until).await;
            }
            listener.accept().await
        };
        tokio::select! {
            () = &mut stop => break,
            accepted = accepted => match accepted {
                Ok((stream, peer)) => match peers.enter(peer.ip()) {
                    Some(place) => {
                        make_room(&mut oldest_first);
                        let (state, streams) = (state.clone(), streams.clone());
                        let streaming = Streaming::default();
                        let shown = streaming.clone();
                        let task = connections.spawn(async move {
                            serve(stream, state, streams, streaming).await;
                            drop(place);
                        });
                        oldest_first.push_back((task, shown, Instant::now()));
                    }
                    None => peers::refuse(stream),
                },
                // Out of descriptors, say: it gets better when connections end.
                Err(error) => {
                    tracing::warn!(%error, "Cannot accept a connection.");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop((listener, serving));
    let finished = async { while connections.join_next().await.is_some() {} };
    if timeout(FINISH, finished).await.is_err() {
        tracing::debug!("Some connections were cut.");
    }
}

/// A connection, whether it is a stream, and since when.
type Open = (AbortHandle, Streaming, Instant);

/// When the next connection may be accepted, if all places are taken by some that have just
/// come.
fn full_until(oldest_first: &mut VecDeque<Open>) -> Option<Instant> {
    oldest_first.retain(|(task, ..)| !task.is_finished());
    let oldest = oldest_first.iter().find(|(_, streaming, _)| !streaming.get());
    oldest.filter(|_| oldest_first.len() >= CONNECTIONS).map(|(_, _, since)| *since + ASK)
}

/// Whoever has waited longest, for its request or for its answer to be taken, has had
/// more time than an honest client needs; so nobody is kept out by clients that do
/// nothing, however many addresses they have. There are fewer streams than places.
fn make_room(oldest_first: &mut VecDeque<Open>) {
    if oldest_first.len() >= CONNECTIONS
        && let Some(oldest) = oldest_first.iter().position(|(_, streaming, _)| !streaming.get())
        && let Some((task, ..)) = oldest_first.remove(oldest)
    {
        task.abort();
    }
}

async fn serve(stream: TcpStream, state: State, streams: Streams, streaming: Streaming) {
    let service = service_fn(|request| {
        let (state, streams, streaming) = (state.clone(), streams.clone(), streaming.clone());
        async move {
            Ok::<_, Infallible>(respond::respond(&request, &state, &streams, &streaming).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // What a client does wrong is its own affair.
    tokio::select! {
        _ = &mut connection => return,
        () = sleep(CONNECTION) => {}
    }
    if streaming.get() {
        let _ = timeout(stream::LONGEST, connection).await;
    }
}

#[cfg(test)]
mod tests;
