//! What an answer is, whatever it is about: its status, its headers, and a body that is there at
//! once or comes in pieces.

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http_body_util::{Either, Full, StreamBody};
use hyper::{
    Response, StatusCode,
    body::Frame,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS},
};
use std::time::Duration;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

const TEXT: &str = "text/plain; charset=utf-8";

/// How long the core may take to answer.
const CORE: Duration = Duration::from_secs(1);

/// The core did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("the core does not answer")]
pub(super) struct NoAnswer;

/// Asks the core, whose state it is. The question has the place for its answer.
pub(super) async fn ask<Q, A>(
    core: &mpsc::Sender<Q>,
    question: impl FnOnce(oneshot::Sender<A>) -> Q,
) -> Result<A, NoAnswer> {
    let (answer, answered) = oneshot::channel();
    let asked = async {
        core.send(question(answer)).await.ok()?;
        answered.await.ok()
    };
    timeout(CORE, asked).await.ok().flatten().ok_or(NoAnswer)
}

/// All at once, or in pieces.
pub(super) type Body =
    Either<Full<Bytes>, StreamBody<BoxStream<'static, Result<Frame<Bytes>, NoAnswer>>>>;

pub(super) type Answer = Response<Body>;

pub(super) fn text(status: StatusCode, body: String) -> Answer {
    answer(status, TEXT, body.into_bytes())
}

pub(super) fn answer(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Answer {
    let body = Either::Left(Full::new(Bytes::from(body)));
    with_headers(status, kind, body)
}

/// A body that comes in pieces, of unknown length.
pub(super) fn streamed(
    kind: &'static str,
    frames: BoxStream<'static, Result<Frame<Bytes>, NoAnswer>>,
) -> Answer {
    with_headers(StatusCode::OK, kind, Either::Right(StreamBody::new(frames)))
}

fn with_headers(status: StatusCode, kind: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Names in it are chosen by others; no browser may take them for a page.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
