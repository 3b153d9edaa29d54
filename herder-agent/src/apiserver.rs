//! The one connection to the API server, and the manners it is used with.
//!
//! kube's own client retries out of sight, and its watcher starts a watch that
//! ends at once again and again without a pause. So every request passes
//! through `manners`, which waits as long as the server asked for, puts a
//! pause between watches, gives up on a server that does not answer, and counts
//! all that fails.

pub mod backoff;
mod manners;

use backoff::Pace;
use hyper::StatusCode;
use kube::{Client, Config, client::ClientBuilder};
use std::{sync::Arc, time::Duration};

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

impl Failure {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Throttled,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::Expired,
        Self::Refused,
        Self::Server,
        Self::Watch,
        Self::Connection,
        Self::Cut,
        Self::Timeout,
        Self::Malformed,
    ];

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

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither a service account nor a kubeconfig.
    #[error(
        "no access to a Kubernetes API server: {0}; run in a pod with a service account, give a kubeconfig, or use --kubernetes off"
    )]
    NoConfig(String),
    /// A certificate or credential is broken.
    #[error("the configured access to the API server cannot be used: {0}")]
    Unusable(#[source] kube::Error),
}

/// A client for the cluster that the agent runs in, or with `elsewhere` also for
/// the one that a kubeconfig names. Nothing is sent yet.
///
/// # Errors
/// When there is no configuration, or none that can be used.
pub async fn connect(
    elsewhere: bool,
    times: Times,
    on_failure: OnFailure,
) -> Result<Client, ConnectError> {
    let config = match Config::incluster() {
        Ok(config) => config,
        Err(error) if !elsewhere => return Err(ConnectError::NoConfig(error.to_string())),
        Err(_) => {
            Config::infer().await.map_err(|error| ConnectError::NoConfig(error.to_string()))?
        }
    };
    connect_with(config, times, on_failure)
}

/// A client for this configuration.
///
/// # Errors
/// When the configuration's certificates or credentials cannot be used.
pub fn connect_with(
    mut config: Config,
    times: Times,
    on_failure: OnFailure,
) -> Result<Client, ConnectError> {
    config.default_retry = false;
    config.read_timeout = Some(times.silence);
    config.reset_reader_on_write = true;
    let layer = manners::Manners::new(times, on_failure);
    let client = ClientBuilder::try_from(config).map_err(ConnectError::Unusable)?;
    Ok(client.with_layer(&layer).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_for_tls_can_be_built_and_counts_a_refused_connection() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut config = Config::new(format!("https://{address}").parse().unwrap());
        config.root_cert = Some(Vec::new());
        let (sender, receiver) = std::sync::mpsc::channel();
        let on_failure: OnFailure = Arc::new(move |failure| sender.send(failure).unwrap());
        let client = connect_with(config, Times::default(), on_failure).unwrap();
        client.apiserver_version().await.unwrap_err();
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [Failure::Connection]);
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
