//! One request, one response.

use super::{
    State, page,
    stream::{Streaming, Streams},
};
use crate::{core::Command, memory, report::journal};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use http_body_util::{Either, Full, StreamBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Frame,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS},
};
use serde::Serialize;
use std::{convert::Infallible, time::Duration};
use tokio::{sync::oneshot, time::timeout};

/// How long the core may take to answer.
const CORE: Duration = Duration::from_secs(1);

/// A text that has outgrown its first buffer, bytes: the smaller ones that it left behind, and
/// whatever else was answered since the last scrape, lie between what is kept, where the heap
/// does not shrink by itself.
const LARGE: usize = 16 * 1024;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

const ENDPOINTS: &str = "/\n/metrics\n/livez\n/readyz\n/api/v1/kills?limit=N\n/api/v1/kills/stream\n/api/v1/containers\n/api/v1/node\n";

/// All at once, or a stream.
pub(super) type Body =
    Either<Full<Bytes>, StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>>;

pub(super) type Answer = Response<Body>;

/// Which node this is.
#[derive(Serialize)]
struct Node<'a> {
    node: &'a str,
    version: &'a str,
    kernel: &'a str,
    /// Where kills are heard of.
    source: Option<&'a str>,
}

/// Answers by path. The body of a request is never read.
pub(super) async fn respond<B>(
    request: &Request<B>,
    state: &State,
    streams: &Streams,
    streaming: &Streaming,
) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD.\n".into());
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match request.uri().path() {
        "/metrics" => {
            let metrics = state.reporter.metrics();
            if let Some(dropped) = &state.dropped {
                metrics
                    .log_lines_dropped(u64::try_from(dropped.dropped_lines()).unwrap_or(u64::MAX));
            }
            let (text, kind) = metrics.exposition();
            if text.len() > LARGE {
                memory::give_back();
            }
            answer(StatusCode::OK, kind, text)
        }
        "/livez" => text(StatusCode::OK, "ok\n".into()),
        "/readyz" => match state.readiness.missing() {
            missing if missing.is_empty() => {
                let source = state.reporter.source().unwrap_or("none");
                text(StatusCode::OK, format!("ok\nsource: {source}\n"))
            }
            missing => {
                let why = format!("not ready: {}\n", missing.join(", "));
                text(StatusCode::SERVICE_UNAVAILABLE, why)
            }
        },
        "/api/v1/kills" => match limit(request.uri().query()) {
            Some(limit) => json(&state.reporter.kills(limit)),
            None => text(StatusCode::BAD_REQUEST, "limit must be a number\n".into()),
        },
        "/api/v1/kills/stream" if *request.method() == Method::HEAD => {
            text(StatusCode::OK, String::new())
        }
        "/api/v1/kills/stream" => streams.open(request.headers(), &state.reporter, streaming),
        "/api/v1/containers" => containers(state).await,
        "/api/v1/node" => {
            let system = rustix::system::uname();
            let kernel = &system.release().to_string_lossy();
            let (version, source) = (env!("CARGO_PKG_VERSION"), state.reporter.source());
            json(&Node { node: &state.node, version, kernel, source })
        }
        path => page::part(path).unwrap_or_else(|| text(StatusCode::NOT_FOUND, ENDPOINTS.into())),
    }
}

/// The number in `limit=N`; all without it.
fn limit(query: Option<&str>) -> Option<usize> {
    let mut pairs = query.unwrap_or_default().split('&');
    match pairs.find_map(|pair| pair.strip_prefix("limit=")) {
        Some(number) => number.parse().ok(),
        None => Some(journal::KEPT),
    }
}

/// Asks the core, whose state it is.
async fn containers(state: &State) -> Answer {
    let (ask, answered) = oneshot::channel();
    let asked = async {
        state.core.send(Command::Containers(ask)).await.ok()?;
        answered.await.ok()
    };
    match timeout(CORE, asked).await {
        Ok(Some(containers)) => json(&containers),
        _ => text(StatusCode::SERVICE_UNAVAILABLE, "the core does not answer\n".into()),
    }
}

fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => answer(StatusCode::OK, JSON, body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

pub(super) fn text(status: StatusCode, body: String) -> Answer {
    answer(status, TEXT, body.into_bytes())
}

pub(super) fn answer(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(Bytes::from(body))));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Names in it are chosen by others; no browser may take them for a page.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
