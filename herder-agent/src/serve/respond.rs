//! One request, one response.

use super::{
    Access, State,
    answer::{Answer, answer, text},
    gzip::Gzip,
    page,
    peer::{Answering, Peer},
    pieces::{Kills, Pieces},
    stream::Streams,
};
use crate::report::{ConfigInForce, KillRecord, Reporter, metrics};
use herder_model::{arguments::ShownArguments, kill::KEPT, scene::Scene};
use hyper::{
    Method, Request, StatusCode,
    header::{ALLOW, HeaderValue, LINK},
};
use serde::Serialize;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// How long the core's loop may stand still before a restart is what helps. It turns every
/// few seconds; on a node whose processors are all taken it may be kept waiting for many.
const STILL: Duration = Duration::from_secs(60);

pub(super) const JSON: &str = "application/json";

const ENDPOINTS: &str = "/\n/metrics\n/livez\n/readyz\n/api/v1/kills?limit=N&before=ID\n/api/v1/kills/ID\n/api/v1/kills/stream\n/api/v1/containers\n/api/v1/node\n";

/// Where each kill is, by its number.
const KILL: &str = "/api/v1/kills/";

#[derive(Serialize)]
struct Node<'a> {
    node: &'a str,
    version: &'a str,
    kernel: &'a str,
    source: Option<&'a str>,
    config_hash: Option<String>,
    log_level: Option<String>,
}

/// Answers by path. The body of a request is never read. A stream ends when `access` changes.
pub(super) async fn respond<B>(
    request: &Request<B>,
    state: &State,
    streams: &Streams,
    peer: &Peer,
    access: watch::Receiver<Access>,
) -> Answer {
    let answering = peer.answering();
    if let Some(answer) = other_method(request.method()) {
        return answer;
    }
    let gzip = || state.encoders.one_for(request.headers());
    match request.uri().path() {
        "/metrics" => {
            let reporter = state.reporter.clone();
            if let Some(dropped) = &state.dropped {
                let lines = u64::try_from(dropped.dropped_lines()).unwrap_or(u64::MAX);
                reporter.metrics().log_lines_dropped(lines);
            }
            let pieces = Pieces::Metrics { reporter, place: metrics::Place::default() };
            in_pieces(pieces, metrics::EXPOSITION, gzip(), answering).await
        }
        "/livez" => alive(state.heartbeat.silent_for()),
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
        "/api/v1/kills" => kills(request.uri().query(), &state.reporter, gzip(), answering).await,
        "/api/v1/kills/stream" if *request.method() == Method::HEAD => {
            text(StatusCode::OK, String::new())
        }
        "/api/v1/kills/stream" => streams.open(request.headers(), &state.reporter, peer, access),
        "/api/v1/containers" => {
            let pieces = Pieces::Containers { core: state.core.clone(), after: None };
            in_pieces(pieces, JSON, gzip(), answering).await
        }
        "/api/v1/node" => {
            let system = rustix::system::uname();
            let kernel = &system.release().to_string_lossy();
            let (version, source) = (env!("CARGO_PKG_VERSION"), state.reporter.source());
            let (config_hash, log_level) = match state.reporter.config() {
                Some(ConfigInForce { hash, log_level }) => {
                    (Some(hash), Some(log_level.to_string()))
                }
                None => (None, None),
            };
            json(&Node { node: &state.node, version, kernel, source, config_hash, log_level })
        }
        path if path.starts_with(KILL) => kill(path, &state.reporter, state.is_guarded(request)),
        path => page::part(path).unwrap_or_else(|| text(StatusCode::NOT_FOUND, ENDPOINTS.into())),
    }
}

/// The answer to a method that does more than read.
pub(super) fn other_method(method: &Method) -> Option<Answer> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD.\n".into());
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    Some(answer)
}

/// Only whether the core's loop turns: neither its work nor the server's load counts.
fn alive(silent: Duration) -> Answer {
    let seconds = silent.as_secs();
    if silent < STILL {
        text(StatusCode::OK, format!("ok\nthe core's loop turned {seconds} s ago\n"))
    } else {
        let why = format!("the core's loop has not turned for {seconds} s\n");
        text(StatusCode::SERVICE_UNAVAILABLE, why)
    }
}

/// A page of the kills, the newest first: those before `before`, `limit` at most. A header
/// has the address of the next page, if there is one.
async fn kills(
    query: Option<&str>,
    reporter: &Arc<Reporter>,
    gzip: Option<Gzip>,
    answering: Answering,
) -> Answer {
    let (Some(limit), Some(before)) = (number(query, "limit"), number(query, "before")) else {
        return text(StatusCode::BAD_REQUEST, "limit and before must be numbers\n".into());
    };
    let kept = u64::try_from(KEPT).unwrap_or(u64::MAX);
    let limit = limit.map_or(kept, |limit| limit.min(kept));
    let end = reporter.last_kill().saturating_add(1);
    let before = before.map_or(end, |before| before.min(end));
    let after = before.saturating_sub(1).saturating_sub(limit);
    let next = reporter.kill_before(after + 1).map(|_| after + 1).filter(|_| limit > 0);
    let page = Kills { reporter: reporter.clone(), before, after };
    let mut answer = in_pieces(Pieces::Kills(page), JSON, gzip, answering).await;
    // Relative to the page itself, wherever a proxy has it.
    let link = next.map(|next| format!("<?limit={limit}&before={next}>; rel=\"next\""));
    if let Some(link) = link.and_then(|link| HeaderValue::from_str(&link).ok()) {
        answer.headers_mut().insert(LINK, link);
    }
    answer
}

/// One kill with its scene and, unless everyone can ask, with the arguments of its victims.
fn kill(path: &str, reporter: &Reporter, is_guarded: bool) -> Answer {
    #[derive(Serialize)]
    struct Whole<'a> {
        #[serde(flatten)]
        kill: &'a KillRecord,
        scene: Option<&'a Scene>,
        arguments: Option<Vec<ShownArguments>>,
    }
    let id = path.strip_prefix(KILL).and_then(|id| id.parse().ok());
    match id.map(|id| reporter.kill_with_scene(id)) {
        Some(Some((kill, scene))) => {
            let arguments = is_guarded.then(|| reporter.arguments_of(kill.id)).flatten();
            json(&Whole { kill: &kill, scene: scene.as_deref(), arguments })
        }
        Some(None) => {
            text(StatusCode::NOT_FOUND, format!("no such kill; the last {KEPT} are kept\n"))
        }
        None => text(StatusCode::BAD_REQUEST, "the id of a kill must be a number\n".into()),
    }
}

/// The number in `KEY=N`, if there is one; nothing if it is none.
pub(super) fn number(query: Option<&str>, key: &str) -> Option<Option<u64>> {
    let mut pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    match pairs.find(|(name, _)| *name == key) {
        Some((_, number)) => number.parse().ok().map(Some),
        None => Some(None),
    }
}

pub(super) async fn in_pieces(
    pieces: Pieces,
    kind: &'static str,
    gzip: Option<Gzip>,
    answering: Answering,
) -> Answer {
    pieces
        .answer(kind, gzip, answering)
        .await
        .unwrap_or_else(|error| text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")))
}

fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => answer(StatusCode::OK, JSON, body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
