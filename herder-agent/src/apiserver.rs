//! The one connection to the API server, and the manners it is used with.
//!
//! kube's own client retries out of sight, and its watcher starts a watch that
//! ends at once again and again without a pause. So every request passes
//! through [`Manners`], which waits as long as the server asked for
//! (`Retry-After`), puts a pause between watches, gives up on a server that
//! does not answer, and counts all that fails.

use crate::pods::backoff::{Backoff, Pace, random};
use bytes::Bytes;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::{Request, Response, StatusCode, header::RETRY_AFTER};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, sleep_until, timeout_at};
use tower::{BoxError, Layer, Service};

/// Why a request to the API server failed. A metric label, so the set is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failure {
    /// 429: the server is busy.
    Throttled,
    /// 401: the token is not valid (any more).
    Unauthorized,
    /// 403: the ClusterRole does not allow it.
    Forbidden,
    /// 404: the namespace or the object is gone.
    NotFound,
    /// 409: it is there already.
    Conflict,
    /// 410, or the same in a watch: the list has to be read again.
    Expired,
    /// Another 4xx: the server does not like the request.
    Refused,
    /// 5xx.
    Server,
    /// The watch told of another error.
    Watch,
    /// No connection, or it broke before the answer.
    Connection,
    /// The connection broke within the answer.
    Cut,
    /// No answer in time.
    Timeout,
    /// The answer is not what it should be.
    Malformed,
}

/// Told of every failure; counts it.
pub type OnFailure = Arc<dyn Fn(Failure) + Send + Sync>;

/// Times of the connection; the defaults are for production.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// For the head of an answer. The server itself gives up on a request after
    /// 60 s (`--request-timeout`).
    pub answer: Duration,
    /// Without a byte within an answer. A watch brings a bookmark every minute
    /// and ends after 290 s.
    pub silence: Duration,
    /// Between watches, and after failures.
    pub pace: Pace,
}

/// The longest `Retry-After` that is honoured.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// A watch that lived this long was a good one: the pause starts small again.
const GOOD_WATCH: Duration = Duration::from_secs(60);

impl Failure {
    /// The failure that a status code means, if it means one.
    pub fn of_status(status: StatusCode) -> Option<Self> {
        match status.as_u16() {
            429 => Some(Failure::Throttled),
            401 => Some(Failure::Unauthorized),
            403 => Some(Failure::Forbidden),
            404 => Some(Failure::NotFound),
            409 => Some(Failure::Conflict),
            410 => Some(Failure::Expired),
            400..=499 => Some(Failure::Refused),
            500..=599 => Some(Failure::Server),
            _ => None,
        }
    }

    /// The value of the `reason` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Failure::Throttled => "throttled",
            Failure::Unauthorized => "unauthorized",
            Failure::Forbidden => "forbidden",
            Failure::NotFound => "not-found",
            Failure::Conflict => "conflict",
            Failure::Expired => "expired",
            Failure::Refused => "refused",
            Failure::Server => "server",
            Failure::Watch => "watch",
            Failure::Connection => "connection",
            Failure::Cut => "cut",
            Failure::Timeout => "timeout",
            Failure::Malformed => "malformed",
        }
    }
}

impl Default for Times {
    fn default() -> Self {
        Times {
            answer: Duration::from_secs(70),
            silence: Duration::from_secs(310),
            pace: Pace::default(),
        }
    }
}

/// A client for this configuration, which waits and counts as this module says.
///
/// # Errors
/// When the configuration's certificates or credentials cannot be used.
pub fn connect(
    mut config: Config,
    times: Times,
    on_failure: OnFailure,
) -> Result<Client, kube::Error> {
    config.default_retry = false;
    config.read_timeout = Some(times.silence);
    config.reset_reader_on_write = true;
    let manners = Manners {
        shared: Arc::new(Shared {
            times,
            on_failure,
            not_before: Mutex::new(None),
            watches: Mutex::new(WatchPauses {
                pauses: Backoff::new(times.pace),
                last: None,
            }),
        }),
    };
    let client = ClientBuilder::try_from(config)?;
    Ok(client.with_layer(&manners).build())
}

/// A body that tells when it breaks off.
type Answer = UnsyncBoxBody<Bytes, BoxError>;

#[derive(Clone)]
struct Manners {
    shared: Arc<Shared>,
}

struct Mannered<S> {
    inner: S,
    shared: Arc<Shared>,
}

struct Shared {
    times: Times,
    on_failure: OnFailure,
    not_before: Mutex<Option<Instant>>,
    watches: Mutex<WatchPauses>,
}

/// When watches may start, so that a server that ends each at once is not asked
/// in a loop.
struct WatchPauses {
    pauses: Backoff,
    last: Option<Instant>,
}

impl WatchPauses {
    fn start(&mut self, now: Instant, random: u64) -> Instant {
        let start = match self.last {
            Some(last) if now < last + GOOD_WATCH => {
                now.max(last + self.pauses.after_failure(random))
            }
            _ => {
                self.pauses.reset();
                now
            }
        };
        self.last = Some(start);
        start
    }
}

impl Shared {
    fn start<B>(&self, request: &Request<B>) -> Instant {
        let now = Instant::now();
        let lock = self.not_before.lock();
        let allowed = lock.unwrap_or_else(PoisonError::into_inner).unwrap_or(now);
        let is_watch = request
            .uri()
            .query()
            .is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
        let start = if is_watch {
            let lock = self.watches.lock();
            lock.unwrap_or_else(PoisonError::into_inner)
                .start(now, random())
        } else {
            now
        };
        start.max(allowed)
    }

    fn heard<B>(&self, response: &Response<B>) {
        if let Some(failure) = Failure::of_status(response.status()) {
            (self.on_failure)(failure);
        }
        let retry_after = response.headers().get(RETRY_AFTER);
        let seconds = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(seconds) = seconds {
            let wait = Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER);
            let lock = self.not_before.lock();
            *lock.unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + wait);
        }
    }
}

impl<S> Layer<S> for Manners {
    type Service = Mannered<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Mannered {
            inner,
            shared: self.shared.clone(),
        }
    }
}

impl<S, B> Service<Request<Body>> for Mannered<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = self.shared.clone();
        let start = shared.start(&request);
        // Nothing is sent before this is polled.
        let answer = self.inner.call(request);
        Box::pin(async move {
            sleep_until(start).await;
            let response = timeout_at(Instant::now() + shared.times.answer, answer)
                .await
                .unwrap_or_else(|elapsed| Err(elapsed.into()))
                .inspect_err(|error| {
                    (shared.on_failure)(if error.is::<tokio::time::error::Elapsed>() {
                        Failure::Timeout
                    } else {
                        Failure::Connection
                    });
                })?;
            shared.heard(&response);
            Ok(response.map(|body| {
                body.map_err(move |error| {
                    (shared.on_failure)(Failure::Cut);
                    error.into()
                })
                .boxed_unsync()
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn watches_that_end_at_once_are_spaced() {
        let mut pauses = WatchPauses {
            pauses: Backoff::new(Pace::default()),
            last: None,
        };
        let begin = Instant::now();
        let mut now = begin;
        let mut starts = Vec::new();
        for _ in 0..8 {
            now = pauses.start(now, 0);
            starts.push((now - begin).as_millis());
        }
        assert_eq!(
            starts,
            [0, 800, 2400, 5600, 12000, 24800, 50400, 80400],
            "each pause is twice the one before, up to 30 s"
        );
        let later = now + Duration::from_secs(290);
        assert_eq!(pauses.start(later, 999), later);
        assert_eq!(pauses.start(later, 0), later + Duration::from_millis(800));
    }

    /// The head of a recorded answer.
    fn recorded(raw: &str) -> Response<()> {
        let mut lines = raw.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let mut response = Response::builder().status(status);
        for header in lines.take_while(|line| !line.is_empty()) {
            let (name, value) = header.split_once(": ").unwrap();
            response = response.header(name, value);
        }
        response.body(()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn requests_wait_as_long_as_the_server_asks() {
        let table = [
            (
                include_str!("../tests/fixtures/k8s-wire/throttled-429-list.response.raw"),
                1,
            ),
            (
                include_str!("../tests/fixtures/k8s-wire/list-rv-in-future.response.raw"),
                1,
            ),
            (
                include_str!("../tests/fixtures/k8s-wire/eviction-429.response.raw"),
                10,
            ),
            (
                include_str!("../tests/fixtures/k8s-wire/forbidden-403.response.raw"),
                0,
            ),
            ("HTTP/1.1 429 x\r\nRetry-After: 86400\r\n\r\n", 60),
            (
                "HTTP/1.1 503 x\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n\r\n",
                0,
            ),
        ];
        for (raw, seconds) in table {
            let shared = Shared {
                times: Times::default(),
                on_failure: Arc::new(|_| ()),
                not_before: Mutex::new(None),
                watches: Mutex::new(WatchPauses {
                    pauses: Backoff::new(Pace::default()),
                    last: None,
                }),
            };
            shared.heard(&recorded(raw));
            let wait = shared.start(&Request::new(())) - Instant::now();
            assert_eq!(wait, Duration::from_secs(seconds), "{raw}");
        }
    }

    #[test]
    fn every_status_that_is_no_success_is_a_failure() {
        for (status, failure) in [
            (200, None),
            (201, None),
            (400, Some(Failure::Refused)),
            (401, Some(Failure::Unauthorized)),
            (403, Some(Failure::Forbidden)),
            (404, Some(Failure::NotFound)),
            (409, Some(Failure::Conflict)),
            (410, Some(Failure::Expired)),
            (422, Some(Failure::Refused)),
            (429, Some(Failure::Throttled)),
            (500, Some(Failure::Server)),
            (504, Some(Failure::Server)),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Failure::of_status(status), failure, "{status}");
        }
    }
}
