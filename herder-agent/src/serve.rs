//! The HTTP server:
//!
//! * `GET /metrics`: for Prometheus
//! * `GET /livez`: the core's loop turns
//! * `GET /readyz`: the programs are attached and the first walk is done
//! * `GET /api/v1/kills`: the last kills, newest first; `?limit=N&before=ID`
//! * `GET /api/v1/kills/ID`: one of them, with who used how much of what
//! * `GET /api/v1/kills/stream`: kills as they happen (server-sent events)
//! * `GET /api/v1/containers`: the matched containers
//! * `GET /api/v1/node`: which node this is
//! * `GET /`: a page that shows all that to people
//!
//! On another port, if it is asked for, [`own`]: pods' questions for their own kills.
//!
//! It only reads. What may be secret, the arguments of victims, it shows only where not everyone
//! can ask. No client can delay another one, and all clients together cost a bounded amount of
//! memory, less than 12 MiB (16 MiB with TLS and gzip) with paths as Kubernetes makes them:
//!
//! * [`places::SERVED`] connections with a request, with at most a head (16 KiB, and
//!   what is parsed of it), two pieces of an answer (32 KiB and one record each), and in the
//!   kernel some 130 KiB that the client has not taken and 16 KiB that it sent;
//! * [`places::NEW`] connections without a request, with a descriptor and 16 KiB in the kernel;
//! * with TLS, [`places::HANDSHAKES`] connections in a handshake, and what rustls keeps of each
//!   connection (docs/http.md has the figures).

pub mod access;
mod answer;
mod encrypted;
mod gzip;
mod head;
mod host;
mod listen;
mod own;
mod page;
mod peer;
mod pieces;
mod places;
mod rate;
mod readiness;
mod respond;
mod socket;
mod stream;

pub use access::Access;
pub use listen::{Listeners, PORT, ServeError, bind, bind_for_pods};
pub use readiness::Readiness;

use crate::report::{
    Refused, Reporter,
    heartbeat::Heartbeat,
    requests::{PodRequest, StatesRequest},
};
use answer::Answer;
use gzip::Encoders;
use hyper::{Request, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use peer::{Doing, Peer};
use places::Places;
use rate::Rate;
use socket::Socket;
use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{self, pin},
    sync::Arc,
    time::Duration,
};
use stream::Streams;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{mpsc, watch},
    task::{JoinSet, yield_now},
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing_appender::non_blocking::ErrorCounter;

/// How long a client may take to send the head of its request, and for a TLS handshake.
const HEAD: Duration = Duration::from_secs(5);

/// How long a connection may last in whole, unless it is a stream.
const CONNECTION: Duration = Duration::from_secs(60);

/// Largest head of a request, bytes. So much of an answer is kept until the socket takes it,
/// too, before the next piece is made.
const LARGEST_HEAD: usize = 16 * 1024;

/// TLS handshakes of one address at once, and how long it then waits for each. A browser makes six,
/// and Prometheus one a minute.
const HANDSHAKES: (u32, Duration) = (64, Duration::from_millis(100));

/// An IPv6 network has so many times that: one client, or the pods of a node with Prometheus among
/// them.
const NETWORK: u32 = 8;

/// The same of all addresses together: what fifty of them may make, many times what scrapers,
/// people and supervisors of a node do. Each costs the server's thread a signature.
const HANDSHAKES_OF_ALL: (u32, Duration) = (512, Duration::from_millis(2));

/// How long requests that are being answered may take at the end.
const FINISH: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub struct State {
    reporter: Arc<Reporter>,
    readiness: Readiness,
    core: mpsc::Sender<StatesRequest>,
    heartbeat: Heartbeat,
    dropped: Option<ErrorCounter>,
    node: Arc<str>,
    access: watch::Receiver<Access>,
    is_local: bool,
    handshakes: Arc<Rate>,
    encoders: Encoders,
    /// Of the port for pods.
    pods: Option<own::Pods>,
}

impl State {
    pub fn new(
        reporter: Arc<Reporter>,
        readiness: Readiness,
        core: mpsc::Sender<StatesRequest>,
        heartbeat: Heartbeat,
        dropped: Option<ErrorCounter>,
        node: &str,
    ) -> Self {
        let (_, access) = watch::channel(Access::default());
        let (node, encoders) = (node.into(), Encoders::default());
        let ((burst, every), (all, every_of_all)) = (HANDSHAKES, HANDSHAKES_OF_ALL);
        let handshakes = Rate::new(burst, every, NETWORK).and_of_all(all, every_of_all).into();
        State {
            reporter,
            readiness,
            core,
            heartbeat,
            dropped,
            node,
            access,
            is_local: false,
            handshakes,
            encoders,
            pods: None,
        }
    }

    /// The same for the port for pods; the core is asked which pod a client is.
    pub fn for_pods(self, core: mpsc::Sender<PodRequest>) -> Self {
        let ((burst, every), (all, every_of_all)) = (HANDSHAKES, HANDSHAKES_OF_ALL);
        let handshakes = Rate::of_pods(burst, every).and_of_all(all, every_of_all).into();
        State { pods: Some(own::Pods::new(core)), handshakes, ..self }
    }

    /// Asks of clients what was sent last.
    pub fn asking(self, access: watch::Receiver<Access>) -> Self {
        State { access, ..self }
    }

    /// Only processes of this machine can connect.
    pub fn local(self, is_local: bool) -> Self {
        State { is_local, ..self }
    }

    /// Whether what is confidential may be in the answer to a request: not everyone can ask for it.
    fn is_guarded<B>(&self, request: &Request<B>) -> bool {
        let asks_who_it_is = self.access.borrow().asks_who_it_is();
        asks_who_it_is || self.is_local && host::is_for_this_machine(request)
    }
}

/// Serves until `stop` is done, then ends the streams and finishes what it is
/// answering.
pub async fn run(mut listeners: Listeners, state: State, stop: impl Future<Output = ()>) {
    let (of_places, of_streams) = match state.pods {
        None => (places::Bounds::OPERATORS, stream::Bounds::OPERATORS),
        Some(_) => (own::PLACES, own::STREAMS),
    };
    let places = Places::new(of_places);
    let mut connections = JoinSet::new();
    let (serving, ended) = watch::channel(());
    let streams = Streams::new(ended, of_streams);
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            // What is over is freed before another one is accepted: else a flood, which always has
            // one to accept, would leave more and more behind.
            biased;
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
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
            }
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
    let until = Instant::now() + HEAD;
    let arrives = timeout_at(until, head::arrives(&stream)).await;
    if !arrives.is_ok_and(|asks| asks.is_ok_and(|asks| asks)) {
        return;
    }
    let mut access = state.access.clone();
    let in_force = access.borrow_and_update().clone();
    let tls = in_force.tls().filter(|_| head::is_handshake(&stream));
    let encrypted_by = tls.is_some().then_some(in_force);
    let conversation = Conversation { state, streams, places, peer, access, encrypted_by };
    let Some(tls) = tls else {
        conversation.places.serve(&conversation.peer);
        let socket = Socket::new(stream, conversation.peer.clone());
        if let Some(socket) = conversation.hold(socket).await {
            socket.finish().await;
        }
        return;
    };
    if !conversation.state.handshakes.take(conversation.peer.address()) {
        return conversation.state.reporter.refused(Refused::TooOften);
    }
    // What TLS needs is on the heap, so that connections which have not begun do without.
    Box::pin(async move {
        conversation.places.shake_hands(&conversation.peer);
        let socket = Socket::new(stream, conversation.peer.clone());
        let reporter = conversation.state.reporter.clone();
        match encrypted::accept(tls, socket, until).await {
            Some(encrypted) => {
                if let Some(encrypted) = conversation.hold(encrypted).await {
                    encrypted::finish(encrypted).await;
                }
            }
            None => reporter.refused(Refused::Handshake),
        }
    })
    .await;
}

/// What is asked and answered on one connection.
struct Conversation {
    state: State,
    streams: Streams,
    places: Places,
    peer: Peer,
    /// What changes when something else is in force than when the connection was made.
    access: watch::Receiver<Access>,
    /// What its TLS handshake was made by.
    encrypted_by: Option<Access>,
}

impl Conversation {
    /// Answers until the end, and gives the connection back unless it was cut.
    async fn hold<Io: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, io: Io) -> Option<Io> {
        let (peer, mut access) = (self.peer.clone(), self.access.clone());
        let conversation = Arc::new(self);
        let service = service_fn(move |request| {
            let conversation = conversation.clone();
            Box::pin(async move { Ok::<_, Infallible>(conversation.answer(&request).await) })
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(LARGEST_HEAD)
            .serve_connection(TokioIo::new(io), service);
        {
            let ended = async {
                let mut is_outdated = false;
                loop {
                    tokio::select! {
                        ended = poll_fn(|context| connection.poll_without_shutdown(context)) => {
                            return ended;
                        }
                        // What is being answered is finished. Else a client would stay that is not
                        // to be let in any more.
                        Ok(()) = access.changed(), if !is_outdated => {
                            is_outdated = true;
                            pin::Pin::new(&mut connection).graceful_shutdown();
                        }
                    }
                }
            };
            let mut ended = pin!(ended);
            // What a client does wrong is its own affair.
            tokio::select! {
                _ = &mut ended => {}
                () = sleep(CONNECTION) => {
                    let streams = peer.doing() == Doing::Streaming;
                    if !streams || timeout(stream::LONGEST, ended).await.is_err() {
                        return None;
                    }
                }
            }
        }
        Some(connection.into_parts().io.into_inner())
    }

    async fn answer<B>(&self, request: &Request<B>) -> Answer {
        if matches!(self.peer.doing(), Doing::Handshake(_)) {
            self.places.serve(&self.peer);
        }
        let access = self.state.access.borrow().clone();
        if let Some(pods) = &self.state.pods {
            let (reporter, peer) = (&self.state.reporter, &self.peer);
            let in_force = self.access.clone();
            let asked = own::Asked { pods, reporter, streams: &self.streams, peer, in_force };
            let admitted = access.admit_connection(self.encrypted_by.as_ref());
            let mut answer = asked.respond(request, admitted).await;
            access.dress(&mut answer);
            return answer;
        }
        let admitted = {
            let _checking = self.peer.answering();
            access.admit(request, self.encrypted_by.as_ref(), self.peer.address()).await
        };
        let mut answer = match admitted {
            Ok(()) => {
                let admitted = self.access.clone();
                respond::respond(request, &self.state, &self.streams, &self.peer, admitted).await
            }
            Err(refused) => {
                self.state.reporter.refused(refused);
                tracing::debug!(address = %self.peer.address(), reason = refused.as_str(), "Refused a request.");
                access::refusal(refused)
            }
        };
        access.dress(&mut answer);
        answer
    }
}

#[cfg(test)]
mod tests;
