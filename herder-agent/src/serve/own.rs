//! The port for pods: a pod asks for its own kills, and gets no others.
//!
//! * `GET /api/v1/self/kills`: the pod's last kills, newest first; `?limit=N`
//! * `GET /api/v1/self/kills/stream`: the pod's kills as they happen (server-sent events)
//!
//! It is a port of its own, so that a NetworkPolicy can let pods reach it and nothing else, and so
//! that pods share no connections with operators.
//!
//! The address that a connection comes from is all that shows which pod asks, so there is no password
//! here; TLS, and certificates where the port asks for them, hold as on the other port. The core says whose
//! the address is, for each request, and on a stream before each event.

mod follow;

use super::{
    access::{Access, refusal},
    answer::{Answer, ask, text},
    peer::Peer,
    pieces::{OwnKills, Pieces},
    places,
    rate::Rate,
    respond::{JSON, in_pieces, number, other_method},
    stream::{self, Streams},
};
use crate::report::{Refused, Reporter, own::KillNames, requests::PodRequest};
use herder_model::{owner::id::PodUid, pods::addresses::SelfRefused};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    header::{CONNECTION, HeaderValue, RETRY_AFTER},
};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};

/// Connections of this port. A pod asks when something of it was killed, and most have no more
/// than one connection open.
pub(super) const PLACES: places::Bounds =
    places::Bounds { served: 24, new: 32, handshakes: 12, share: 2 };

/// Streams of this port: fewer than places, so that each pod can ask.
pub(super) const STREAMS: stream::Bounds = stream::Bounds { all: 16, of_one_address: 2 };

const KILLS: &str = "/api/v1/self/kills";
const STREAM: &str = "/api/v1/self/kills/stream";

/// How many kills are listed, if the client says nothing else.
const LISTED: usize = 100;

/// Questions of one pod at once, and how long it then waits for each: enough for a pod that loses many
/// processes, and little beside what else the core does.
const ASKS: (u32, Duration) = (20, Duration::from_millis(100));

/// Headers that proxies add. What is behind a proxy has another address than the proxy has.
const OF_PROXIES: [&str; 4] = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];

/// Knows which pod a client is. Clones are the same.
#[derive(Clone)]
pub(super) struct Pods {
    core: mpsc::Sender<PodRequest>,
    names: KillNames,
    asks: Arc<Rate>,
}

/// What a request is answered with.
pub(super) struct Asked<'a> {
    pub(super) pods: &'a Pods,
    pub(super) reporter: &'a Arc<Reporter>,
    pub(super) streams: &'a Streams,
    pub(super) peer: &'a Peer,
    /// Changes when the port asks something else of its clients.
    pub(super) in_force: watch::Receiver<Access>,
}

impl Pods {
    pub(super) fn new(core: mpsc::Sender<PodRequest>) -> Self {
        let (burst, every) = ASKS;
        let asks = Arc::new(Rate::of_pods(burst, every));
        Pods { core, names: KillNames::default(), asks }
    }

    /// The pod that has this address now.
    async fn at(&self, address: IpAddr) -> Result<PodUid, SelfRefused> {
        let asked = ask(&self.core, |answer| PodRequest { address, answer }).await;
        asked.unwrap_or(Err(SelfRefused::Busy))
    }
}

impl Asked<'_> {
    /// Answers by path. The body of a request is never read.
    pub(super) async fn respond<B>(
        self,
        request: &Request<B>,
        admitted: Result<(), Refused>,
    ) -> Answer {
        let answering = self.peer.answering();
        if let Err(refused) = admitted {
            self.reporter.refused(refused);
            return match refused {
                Refused::PlainHttp => {
                    let why = "This port speaks TLS: ask https://.\n";
                    text(StatusCode::BAD_REQUEST, why.into())
                }
                other => refusal(other),
            };
        }
        if let Some(answer) = other_method(request.method()) {
            return answer;
        }
        let path = request.uri().path();
        if !matches!(path, KILLS | STREAM) {
            return text(StatusCode::NOT_FOUND, format!("{KILLS}?limit=N\n{STREAM}\n"));
        }
        let Some(most) = number(request.uri().query(), "limit") else {
            return text(StatusCode::BAD_REQUEST, "limit must be a number\n".into());
        };
        let pod = match self.client(request.headers()).await {
            Ok(pod) => pod,
            Err(refused) => return self.refuse(refused),
        };
        if path == KILLS {
            let kills = OwnKills {
                reporter: self.reporter.clone(),
                pod,
                names: self.pods.names.clone(),
                before: self.reporter.last_kill().saturating_add(1),
                most: most.map_or(LISTED, |most| usize::try_from(most).unwrap_or(usize::MAX)),
            };
            return in_pieces(Pieces::OwnKills(kills), JSON, None, answering).await;
        }
        if *request.method() == Method::HEAD {
            return text(StatusCode::OK, String::new());
        }
        match self.streams.enter(self.peer.address()) {
            Ok(slot) => self.follow(pod, request.headers(), slot),
            Err(_) => self.refuse(SelfRefused::Busy),
        }
    }

    /// The pod that has sent a request.
    async fn client(&self, headers: &HeaderMap) -> Result<PodUid, SelfRefused> {
        if OF_PROXIES.iter().any(|name| headers.contains_key(*name)) {
            return Err(SelfRefused::Forwarded);
        }
        if !self.pods.asks.take(self.peer.address()) {
            return Err(SelfRefused::Busy);
        }
        self.pods.at(self.peer.address()).await
    }

    fn refuse(&self, refused: SelfRefused) -> Answer {
        let address = self.peer.address();
        self.reporter.self_refused(refused);
        tracing::debug!(%address, reason = refused.as_str(), "Refused a pod's request for its own kills.");
        let mut answer = text(status(refused), why(refused, address));
        let headers = answer.headers_mut();
        if let Some(seconds) = again_after(refused) {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        answer
    }
}

fn status(refused: SelfRefused) -> StatusCode {
    match refused {
        SelfRefused::Forwarded => StatusCode::BAD_REQUEST,
        SelfRefused::UnknownAddress | SelfRefused::HostNetwork => StatusCode::FORBIDDEN,
        SelfRefused::PodsUnknown
        | SelfRefused::Ambiguous
        | SelfRefused::NotRunning
        | SelfRefused::Busy => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// When it may be otherwise, seconds: the kubelet publishes what it does some seconds later.
fn again_after(refused: SelfRefused) -> Option<u16> {
    match refused {
        SelfRefused::Forwarded | SelfRefused::HostNetwork => None,
        SelfRefused::Busy => Some(1),
        SelfRefused::NotRunning => Some(2),
        SelfRefused::UnknownAddress | SelfRefused::PodsUnknown | SelfRefused::Ambiguous => Some(5),
    }
}

/// With the address that the agent sees, which shows what is on the way.
fn why(refused: SelfRefused, address: IpAddr) -> String {
    let why = match refused {
        SelfRefused::PodsUnknown => "This agent does not know the pods of its node.".into(),
        SelfRefused::UnknownAddress => format!(
            "No pod of this node has the address {address}. A pod that has just started asks again; behind a proxy or SNAT, or on the host's network, a pod cannot be known."
        ),
        SelfRefused::HostNetwork => {
            format!("{address} is the node's address, which belongs to no single pod.")
        }
        SelfRefused::Ambiguous => format!("More than one pod claims the address {address}."),
        SelfRefused::NotRunning => format!(
            "No container in the published status of the pod at {address} runs, so it may be another pod's address by now. Ask again."
        ),
        SelfRefused::Forwarded => {
            format!(
                "The request was forwarded (it has one of: {}). A pod connects itself.",
                OF_PROXIES.join(", ")
            )
        }
        SelfRefused::Busy => "Too many ask, or this pod asks too often. Ask again.".into(),
    };
    format!("{}: {why}\n", refused.as_str())
}
