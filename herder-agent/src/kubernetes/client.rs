//! The one connection to the API server.
//!
//! kube gives it TLS and credentials, but retries out of sight. So whatever is asked goes
//! through [`ApiServer::send`], which waits as long as the server wants, gives up on one
//! that does not answer, takes nothing for an answer that is none, and counts all that
//! fails, once each.

mod access;
mod answer;
mod diagnosis;

pub use access::{ConnectError, connect, connect_with};
pub use answer::{Answer, RequestError};

use herder_model::backoff::Pace;
use hyper::{Request, Response, StatusCode, header::RETRY_AFTER};
use kube::{Client, client::Body};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep_until, timeout};

/// The longest `Retry-After` that is honoured.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

herder_model::labels! {
    /// Why a request to the API server failed. A metric label, so the set is closed.
    pub enum Failure {
        /// 429: the server is busy.
        Throttled = "throttled",
        /// 401: the token is not valid (any more).
        Unauthorized = "unauthorized",
        /// 403: the ClusterRole does not allow it.
        Forbidden = "forbidden",
        /// 404: the namespace or the object is gone.
        NotFound = "not-found",
        /// 409: it is there already.
        Conflict = "conflict",
        /// 410, or the same in a watch: the list has to be read again.
        Expired = "expired",
        /// Another 4xx: the server does not like the request.
        Refused = "refused",
        /// 5xx.
        Server = "server",
        /// The watch had another error.
        Watch = "watch",
        /// No connection, or it broke before the answer.
        Connection = "connection",
        /// The connection broke within the answer.
        Cut = "cut",
        /// No answer in time.
        Timeout = "timeout",
        /// The answer is not what it should be.
        Malformed = "malformed",
    }
}

/// Called with every failure; counts it.
pub type OnFailure = Arc<dyn Fn(Failure) + Send + Sync>;

/// Times of the connection; the defaults are for production.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// For the head of an answer, and for all of one that is no watch. The server itself
    /// gives up on such a request after 60 s (`--request-timeout`).
    pub answer: Duration,
    /// Without a byte within an answer. A watch brings a bookmark every minute, so then two
    /// are missing, and the connection is dead.
    pub silence: Duration,
    /// Between watches, and after failures.
    pub pace: Pace,
}

/// The API server, as the agent asks it. Its copies keep the same `Retry-After`.
#[derive(Clone)]
pub struct ApiServer {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    url: String,
    times: Times,
    on_failure: OnFailure,
    not_before: Mutex<Option<Instant>>,
}

impl ApiServer {
    fn new(client: Client, url: String, times: Times, on_failure: OnFailure) -> Self {
        let not_before = Mutex::default();
        ApiServer { shared: Arc::new(Shared { client, url, times, on_failure, not_before }) }
    }

    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// Asks, and gives the answer when its head is there and is that of JSON.
    pub async fn send(&self, request: Request<Vec<u8>>) -> Result<Answer, RequestError> {
        if let Some(allowed) = self.shared.not_before() {
            sleep_until(allowed).await;
        }
        let sent = self.shared.client.send(request.map(Body::from));
        let times = self.shared.times;
        let response = match timeout(times.answer, sent).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.failed(RequestError::of(error))),
            Err(_) => return Err(self.failed(RequestError::Timeout(times.answer))),
        };
        self.shared.heard(&response);
        Answer::check(response, self.clone()).await
    }

    /// Counts a failure that only shows within an answer.
    pub fn failed(&self, error: RequestError) -> RequestError {
        (self.shared.on_failure)(error.failure());
        error
    }
}

impl Shared {
    fn not_before(&self) -> Option<Instant> {
        *self.not_before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard<B>(&self, response: &Response<B>) {
        if let Some(wait) = retry_after(response) {
            let lock = self.not_before.lock();
            *lock.unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + wait);
        }
    }
}

/// How long the server wants to be left alone.
fn retry_after<B>(response: &Response<B>) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

impl Failure {
    /// The failure that a status code means; none if the request succeeded. The API server
    /// never redirects, but a proxy with a login page does.
    pub fn of_status(status: StatusCode) -> Option<Self> {
        match status.as_u16() {
            200..=299 => None,
            429 => Some(Failure::Throttled),
            401 => Some(Failure::Unauthorized),
            403 => Some(Failure::Forbidden),
            404 => Some(Failure::NotFound),
            409 => Some(Failure::Conflict),
            410 => Some(Failure::Expired),
            400..=499 => Some(Failure::Refused),
            500..=599 => Some(Failure::Server),
            _ => Some(Failure::Malformed),
        }
    }
}

impl Default for Times {
    fn default() -> Self {
        Times {
            answer: Duration::from_secs(70),
            silence: Duration::from_secs(150),
            pace: Pace::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_that_is_no_success_is_a_failure() {
        for (status, failure) in [
            (200, None),
            (201, None),
            (302, Some(Failure::Malformed)),
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
            (999, Some(Failure::Malformed)),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Failure::of_status(status), failure, "{status}");
        }
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

    #[test]
    fn the_server_says_how_long_it_wants_to_be_left_alone() {
        let table = [
            (
                include_str!("../../tests/fixtures/k8s-wire/throttled-429-list.response.raw"),
                Some(1),
            ),
            (include_str!("../../tests/fixtures/k8s-wire/list-rv-in-future.response.raw"), Some(1)),
            (include_str!("../../tests/fixtures/k8s-wire/eviction-429.response.raw"), Some(10)),
            (include_str!("../../tests/fixtures/k8s-wire/forbidden-403.response.raw"), None),
            ("HTTP/1.1 429 x\r\nRetry-After: 86400\r\n\r\n", Some(60)),
            ("HTTP/1.1 503 x\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n\r\n", None),
        ];
        for (raw, seconds) in table {
            assert_eq!(retry_after(&recorded(raw)), seconds.map(Duration::from_secs), "{raw}");
        }
    }
}
