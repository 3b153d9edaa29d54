//! The beginning and the end of an outage, each logged once.

use crate::kubernetes::client::{ApiServer, RequestError};
use std::time::Duration;
use tokio::time::Instant;

/// The outage that there is, if there is one.
#[derive(Default)]
pub(super) struct Outages(Option<Outage>);

struct Outage {
    since: Instant,
    /// Why, as far as that was logged.
    cause: String,
}

impl Outages {
    /// The server is there.
    pub(super) fn answered(&mut self, server: &ApiServer) {
        let Some(outage) = self.0.take() else { return };
        let seconds = outage.since.elapsed().as_secs();
        tracing::info!(server = server.url(), "The API server answers again after {seconds} s.");
    }

    /// It is not, and is asked again after this wait.
    pub(super) fn unanswered(&mut self, server: &ApiServer, error: &RequestError, wait: Duration) {
        // Numbers differ each time, those of seconds since a certificate expired.
        let mut cause = error.to_string();
        cause.retain(|letter| !letter.is_ascii_digit());
        if self.0.as_ref().is_some_and(|outage| outage.cause == cause) {
            tracing::debug!(
                error = error.to_string(),
                ?wait,
                "The API server still does not answer."
            );
            return;
        }
        let server = server.url();
        let refuses = matches!(error, RequestError::Refused { .. });
        // Each is literal, so that it is found by the words of a log.
        let message = if refuses {
            "The API server refuses to list the pods; known pods stay in use."
        } else {
            "The API server does not answer; known pods stay in use."
        };
        tracing::warn!(server, error = error.to_string(), "{message}");
        let since = self.0.as_ref().map_or_else(Instant::now, |outage| outage.since);
        self.0 = Some(Outage { since, cause });
    }
}
