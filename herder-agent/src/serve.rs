//! The HTTP server:
//!
//! * `GET /metrics`: for Prometheus
//! * `GET /livez`: the core's loop turns
//! * `GET /readyz`: the programs are attached and the first walk is done
//! * `GET /api/v1/kills`: the last kills, newest first; `?limit=N&before=ID`
//! * `GET /api/v1/kills/stream`: kills as they happen (server-sent events)
//! * `GET /api/v1/containers`: the matched containers
//! * `GET /api/v1/node`: which node this is
//! * `GET /`: a page that shows all that to people
//!
//! It only reads, and has no secrets to tell. Whatever clients do delays nobody else, and
//! costs a bounded amount of memory, less than 12 MiB:
//!
//! * [`places::SERVED`] connections that have asked something, with at most a head (16 KiB, and
//!   what is parsed of it), two pieces of an answer (32 KiB and one record each), and in the
//!   kernel some 130 KiB that the client has not taken and 16 KiB that it sent;
//! * [`places::NEW`] that have not, with a descriptor and 16 KiB in the kernel.

mod answer;
mod head;
mod listen;
mod page;
mod peer;
mod pieces;
mod places;
mod readiness;
mod respond;
mod socket;
mod stream;

pub use listen::{Listeners, PORT, ServeError, bind};
pub use readiness::{Latch, Readiness};

use crate::{
    enforce::StatesRequest,
    report::{Reporter, heartbeat::Heartbeat},
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use peer::{Doing, Peer};
use places::Places;
use socket::Socket;
use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use stream::Streams;
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    task::{JoinSet, yield_now},
    time::{sleep, timeout},
};
use tracing_appender::non_blocking::ErrorCounter;

/// How long a client may take to send the head of its request.
const HEAD: Duration = Duration::from_secs(5);

/// How long a connection may last in whole, unless it is a stream.
const CONNECTION: Duration = Duration::from_secs(60);

/// Largest head of a request, bytes. So much of an answer is kept until the socket takes it,
/// too, before the next piece is made.
const LARGEST_HEAD: usize = 16 * 1024;

/// How long requests that are being answered may take at the end.
const FINISH: Duration = Duration::from_secs(2);

/// What the server tells about.
#[derive(Clone)]
pub struct State {
    reporter: Arc<Reporter>,
    readiness: Readiness,
    core: mpsc::Sender<StatesRequest>,
    heartbeat: Heartbeat,
    dropped: Option<ErrorCounter>,
    node: Arc<str>,
}

impl State {
    /// Takes handles to the rest of the agent.
    pub fn new(
        reporter: Arc<Reporter>,
        readiness: Readiness,
        core: mpsc::Sender<StatesRequest>,
        heartbeat: Heartbeat,
        dropped: Option<ErrorCounter>,
        node: &str,
    ) -> Self {
        State { reporter, readiness, core, heartbeat, dropped, node: node.into() }
    }
}

/// Serves until `stop` is done, then ends the streams and finishes what it is
/// answering.
pub async fn run(mut listeners: Listeners, state: State, stop: impl Future<Output = ()>) {
    let places = Places::default();
    let mut connections = JoinSet::new();
    let (serving, ended) = watch::channel(());
    let streams = Streams::new(ended);
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listeners.accept() => match accepted {
                Ok((stream, address)) => {
                    let peer = Peer::new(address);
                    let (state, streams) = (state.clone(), streams.clone());
                    let connection = serve(stream, state, streams, places.clone(), peer.clone());
                    places.enter(peer, connections.spawn(connection));
                    // So that it is looked at before others make it go.
                    yield_now().await;
                }
                // Out of descriptors, say: it gets better when connections end.
                Err(error) => {
                    tracing::warn!(%error, "Cannot accept a connection.");
                    sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop((listeners, serving));
    places.close();
    let finished = async { while connections.join_next().await.is_some() {} };
    if timeout(FINISH, finished).await.is_err() {
        tracing::debug!("Some connections were cut.");
    }
}

async fn serve(stream: TcpStream, state: State, streams: Streams, places: Places, peer: Peer) {
    if !timeout(HEAD, head::arrives(&stream)).await.is_ok_and(|asks| asks.is_ok_and(|asks| asks)) {
        return;
    }
    places.serve(&peer);
    let socket = Socket::new(stream, peer.clone());
    let asks = peer.clone();
    let service = service_fn(move |request| {
        let (state, streams, peer) = (state.clone(), streams.clone(), asks.clone());
        Box::pin(async move {
            Ok::<_, Infallible>(respond::respond(&request, &state, &streams, &peer).await)
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(socket), service);
    {
        let mut ended = pin!(poll_fn(|context| connection.poll_without_shutdown(context)));
        // What a client does wrong is its own affair.
        tokio::select! {
            _ = &mut ended => {}
            () = sleep(CONNECTION) => {
                if peer.doing() != Doing::Streaming || timeout(stream::LONGEST, ended).await.is_err() {
                    return;
                }
            }
        }
    }
    connection.into_parts().io.into_inner().finish().await;
}

#[cfg(test)]
mod tests;
