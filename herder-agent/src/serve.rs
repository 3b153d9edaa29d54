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
    convert::Infallible, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration,
};
use stream::{Streaming, Streams};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing_appender::non_blocking::ErrorCounter;

/// Connections that are served at once; others wait to be accepted. Each may hold
/// one answer of at most some MiB (`/api/v1/kills` when all were group kills).
const CONNECTIONS: usize = 24;

/// How long a client may take to send the head of its request.
const HEAD: Duration = Duration::from_secs(5);

/// How long a connection may last in whole, unless it is a stream.
const CONNECTION: Duration = Duration::from_secs(60);

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
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let peers = Peers::default();
    let mut connections = JoinSet::new();
    let (serving, ended) = watch::channel(());
    let streams = Streams::new(ended);
    let mut stop = pin!(stop);
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let slot = slots.clone().acquire_owned().await.ok();
            (slot, listener.accept().await)
        };
        tokio::select! {
            () = &mut stop => break,
            (slot, accepted) = accepted => match accepted {
                Ok((stream, peer)) => match peers.enter(peer.ip()) {
                    Some(place) => {
                        let (state, streams) = (state.clone(), streams.clone());
                        connections.spawn(async move {
                            serve(stream, state, streams).await;
                            drop((slot, place));
                        });
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

async fn serve(stream: TcpStream, state: State, streams: Streams) {
    let streaming = Streaming::default();
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
