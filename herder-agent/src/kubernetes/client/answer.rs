//! The server's answers, and what is taken for none.
//!
//! Between the agent and the API server there may be a proxy that answers itself, with a
//! page to sign in or half of what it was given. Whatever is not JSON to its end, or not
//! what was asked for, is a failure, and counted as one.

use super::{ApiServer, Failure, diagnosis};
use bytes::{Bytes, BytesMut};
use herder_model::causes::Causes;
use http_body_util::BodyExt;
use hyper::{Response, StatusCode, header::CONTENT_TYPE};
use kube::client::Body;
use serde::{Deserialize, de::DeserializeOwned};
use std::{error::Error, time::Duration};
use tokio::time::timeout;

type BoxError = Box<dyn Error + Send + Sync>;

/// The longest line of a watch, bytes. An object that etcd takes has 1.5 MiB at most, but of some
/// letters JSON makes six.
const LONGEST_LINE: usize = 8 << 20;

/// So much of a refusal is read, bytes: a Status has some hundred.
const LARGEST_REFUSAL: usize = 64 << 10;

/// The cause in the 403 of a namespace that is being deleted
/// (`NamespaceTerminatingCause`, k8s.io/api/core/v1/types.go): nothing that a
/// ClusterRole could allow.
const TERMINATING: &str = "NamespaceTerminating";

/// Why a request has no answer, or none that is one. Displays its causes and what to do.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("{}", diagnosis::explained(&**.0))]
    Unanswered(#[source] BoxError),
    #[error("no answer within {0:?}; the server or what is in front of it hangs")]
    Timeout(Duration),
    #[error("{status}: {message}")]
    Refused { status: StatusCode, failure: Failure, message: String, terminating: bool },
    #[error(
        "{status} with {found} instead of JSON; does a proxy or a login page answer instead of the API server?"
    )]
    NotJson { status: StatusCode, found: String },
    #[error("the answer broke off: {}", diagnosis::explained(&**.0))]
    Cut(#[source] BoxError),
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    #[error("the answer does not fit the request: {0}; is that an API server?")]
    Malformed(String),
    #[error("the watch ended with {code}: {message}")]
    Watch { code: u16, message: String },
}

impl RequestError {
    /// Of an error that is kube's only on the outside.
    pub(super) fn of(error: kube::Error) -> Self {
        RequestError::Unanswered(match error {
            kube::Error::Service(error) => error,
            error => error.into(),
        })
    }

    /// What the server reported within a watch.
    pub fn watch(code: u16, message: &str) -> Self {
        RequestError::Watch { code, message: one_line(message) }
    }

    /// Whether the server asked an admission webhook, and that failed (`failed calling webhook`,
    /// apiserver/pkg/admission/plugin/webhook/mutating/dispatcher.go and validating/dispatcher.go).
    pub fn is_of_webhook(&self) -> bool {
        matches!(
            self,
            RequestError::Refused { status: StatusCode::INTERNAL_SERVER_ERROR, message, .. }
                if message.contains("failed calling webhook")
        )
    }

    /// Whether no role allows to create or patch. A quota or an admission webhook refuses by a 403,
    /// too, but without these words (`forbiddenMessage()`,
    /// apiserver/pkg/endpoints/handlers/responsewriters/errors.go).
    pub fn lacks_right(&self) -> bool {
        let says = |words: &str| self.to_string().contains(words);
        self.failure() == Failure::Forbidden
            && (says("cannot create resource") || says("cannot patch resource"))
    }

    pub fn failure(&self) -> Failure {
        match self {
            RequestError::Unanswered(_) => Failure::Connection,
            RequestError::Timeout(_) => Failure::Timeout,
            RequestError::Refused { failure, .. } => *failure,
            RequestError::NotJson { .. }
            | RequestError::TooLong(_)
            | RequestError::Malformed(_) => Failure::Malformed,
            RequestError::Cut(_) => Failure::Cut,
            RequestError::Watch { code: 410, .. } => Failure::Expired,
            RequestError::Watch { .. } => Failure::Watch,
        }
    }
}

/// An answer whose head is that of a success, with JSON.
pub struct Answer {
    body: Body,
    server: ApiServer,
    read: BytesMut,
    /// So much of it has no end of a line.
    searched: usize,
    /// A line was too long.
    skipped: bool,
}

/// What there is to know of the Status that comes with a refusal.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    message: String,
    details: Option<Details>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    causes: Option<Vec<Cause>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cause {
    reason: Option<String>,
}

impl Answer {
    pub(super) async fn check(
        response: Response<Body>,
        server: ApiServer,
    ) -> Result<Self, RequestError> {
        let status = response.status();
        let found = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let found = found.unwrap_or_default().to_owned();
        let body = response.into_body();
        let mut answer = Answer {
            body,
            server: server.clone(),
            read: BytesMut::new(),
            searched: 0,
            skipped: false,
        };
        if let Some(failure) = Failure::of_status(status) {
            return Err(server.failed(answer.refusal(status, failure).await));
        }
        if found
            .split(';')
            .next()
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
        {
            return Ok(answer);
        }
        let found = if found.is_empty() { "no content type".to_owned() } else { found };
        Err(server.failed(RequestError::NotJson { status, found }))
    }

    async fn refusal(&mut self, status: StatusCode, failure: Failure) -> RequestError {
        let patience = self.server.shared.times.answer;
        let all = async {
            while self.read.len() < LARGEST_REFUSAL && matches!(self.more().await, Ok(true)) {}
        };
        // The status is what counts; what it says besides may be missing.
        let _ = timeout(patience, all).await;
        let refusal: Option<Refusal> = serde_json::from_slice(&self.read).ok();
        let refusal = refusal.unwrap_or_else(|| Refusal {
            message: String::from_utf8_lossy(&self.read).into_owned(),
            details: None,
        });
        let causes = refusal.details.and_then(|details| details.causes).unwrap_or_default();
        let terminating = causes.iter().any(|cause| cause.reason.as_deref() == Some(TERMINATING));
        let message = one_line(&refusal.message);
        let failure = if terminating { Failure::NotFound } else { failure };
        RequestError::Refused { status, failure, message, terminating }
    }

    /// All of it, as what was asked for.
    pub async fn json<T: DeserializeOwned>(mut self, largest: usize) -> Result<T, RequestError> {
        let (server, patience) = (self.server.clone(), self.server.shared.times.answer);
        let all = async {
            while self.more().await? {
                if self.read.len() > largest {
                    return Err(RequestError::TooLong(largest));
                }
            }
            serde_json::from_slice(&self.read).map_err(|error| malformed(&error))
        };
        let read = timeout(patience, all).await.unwrap_or(Err(RequestError::Timeout(patience)));
        read.map_err(|error| server.failed(error))
    }

    /// The next line, as what was asked for; none at the end.
    pub async fn line<T: DeserializeOwned>(&mut self) -> Result<Option<T>, RequestError> {
        loop {
            let line = match self.next_line().await {
                Ok(Some(line)) if line.iter().all(u8::is_ascii_whitespace) => continue,
                Ok(Some(line)) => line,
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.server.failed(error)),
            };
            let parsed = serde_json::from_slice(&line);
            return parsed.map(Some).map_err(|error| self.server.failed(malformed(&error)));
        }
    }

    /// Whether a line was left out since the last call.
    pub fn take_skipped(&mut self) -> bool {
        std::mem::take(&mut self.skipped)
    }

    /// Without those that are too long: any user who may create pods can make one, and it must not
    /// take the others with it.
    async fn next_line(&mut self) -> Result<Option<Bytes>, RequestError> {
        let mut is_too_long = false;
        loop {
            let unseen = self.read.get(self.searched..).unwrap_or_default();
            if let Some(end) = unseen.iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(self.searched + end + 1).freeze();
                self.searched = 0;
                if !std::mem::take(&mut is_too_long) {
                    return Ok(Some(line));
                }
                self.skipped = true;
                let error = self.server.failed(RequestError::TooLong(LONGEST_LINE));
                tracing::warn!(
                    error = error.to_string(),
                    "A change of a pod is ignored, because the pod is too large."
                );
                continue;
            }
            is_too_long |= self.read.len() > LONGEST_LINE;
            if is_too_long {
                self.read = BytesMut::new();
            }
            self.searched = self.read.len();
            if !self.more().await? {
                return match self.read.is_empty() && !is_too_long {
                    true => Ok(None),
                    false => Err(RequestError::Malformed("it ends within a line".to_owned())),
                };
            }
        }
    }

    /// Reads some more, and returns whether there was any.
    async fn more(&mut self) -> Result<bool, RequestError> {
        loop {
            let Some(frame) = self.body.frame().await else { return Ok(false) };
            let frame = frame.map_err(|error| RequestError::Cut(error.into()))?;
            if let Some(data) = frame.data_ref() {
                self.read.extend_from_slice(data);
                return Ok(true);
            }
        }
    }
}

/// What the server, or a proxy in its place, says, so that it can be logged.
fn one_line(text: &str) -> String {
    let words = text.split_whitespace().flat_map(|word| [" ", word]).skip(1);
    words.flat_map(str::chars).filter(|c| !c.is_control()).take(300).collect()
}

fn malformed(error: &serde_json::Error) -> RequestError {
    RequestError::Malformed(Causes(error).to_string())
}
