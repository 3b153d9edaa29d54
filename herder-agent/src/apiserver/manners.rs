//! How requests are sent: not before the server wants them, watches not one on
//! the heels of the other, no longer waited for than sensible, and counted when
//! they fail.

use super::{
    Failure, OnFailure, Times,
    backoff::{Backoff, random},
};
use bytes::Bytes;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::{Request, Response, header::RETRY_AFTER};
use kube::client::Body;
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, sleep_until, timeout_at};
use tower::{BoxError, Layer, Service};

/// The longest `Retry-After` that is honoured.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// A watch that lived this long was a good one: the pause starts small again.
const GOOD_WATCH: Duration = Duration::from_secs(60);

/// A body that tells when it breaks off.
type Answer = UnsyncBoxBody<Bytes, BoxError>;

/// The layer that gives a client its manners. All its services share them.
#[derive(Clone)]
pub(super) struct Manners {
    shared: Arc<Shared>,
}

pub(super) struct Mannered<S> {
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

impl Manners {
    pub(super) fn new(times: Times, on_failure: OnFailure) -> Self {
        Manners { shared: Arc::new(Shared::new(times, on_failure)) }
    }
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
    fn new(times: Times, on_failure: OnFailure) -> Self {
        Shared {
            times,
            on_failure,
            not_before: Mutex::new(None),
            watches: Mutex::new(WatchPauses { pauses: Backoff::new(times.pace), last: None }),
        }
    }

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
            lock.unwrap_or_else(PoisonError::into_inner).start(now, random())
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
        Mannered { inner, shared: self.shared.clone() }
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
    use crate::apiserver::backoff::Pace;

    #[tokio::test(start_paused = true)]
    async fn watches_that_end_at_once_are_spaced() {
        let mut pauses = WatchPauses { pauses: Backoff::new(Pace::default()), last: None };
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
            (include_str!("../../tests/fixtures/k8s-wire/throttled-429-list.response.raw"), 1),
            (include_str!("../../tests/fixtures/k8s-wire/list-rv-in-future.response.raw"), 1),
            (include_str!("../../tests/fixtures/k8s-wire/eviction-429.response.raw"), 10),
            (include_str!("../../tests/fixtures/k8s-wire/forbidden-403.response.raw"), 0),
            ("HTTP/1.1 429 x\r\nRetry-After: 86400\r\n\r\n", 60),
            ("HTTP/1.1 503 x\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n\r\n", 0),
        ];
        for (raw, seconds) in table {
            let shared = Shared::new(Times::default(), Arc::new(|_| ()));
            shared.heard(&recorded(raw));
            let wait = shared.start(&Request::new(())) - Instant::now();
            assert_eq!(wait, Duration::from_secs(seconds), "{raw}");
        }
    }
}
