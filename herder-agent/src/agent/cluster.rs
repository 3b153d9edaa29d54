//! What the agent asks of Kubernetes: access to the API server, and the writer of Events.

use crate::{
    cli::args::{EventSwitch, RunArgs, Switch},
    kubernetes::{
        client::{self, ApiServer, ConnectError, OnFailure, Times},
        events::send::{EventQueue, EventWriter, OnOutcome},
    },
    report::Reporter,
};
use std::sync::Arc;

/// Access to the API server, if it is wanted and there.
pub(super) async fn api_server(
    kubernetes: Switch,
    on_failure: OnFailure,
) -> Result<Option<ApiServer>, ConnectError> {
    let connect = |elsewhere| client::connect(elsewhere, Times::default(), on_failure);
    match kubernetes {
        Switch::Off => Ok(None),
        Switch::On => connect(true).await.map(Some),
        Switch::Auto => Ok(connect(false)
            .await
            .inspect_err(
                |error| tracing::info!(%error, "No access to the API server; pods have no names."),
            )
            .ok()),
    }
}

/// Where Events are handed in and what writes them, if there are to be any.
pub(super) fn events(
    args: &RunArgs,
    server: Option<&ApiServer>,
    reporter: &Arc<Reporter>,
) -> Option<(EventQueue, EventWriter)> {
    let server = server.filter(|_| args.events == EventSwitch::On)?.clone();
    let counted = reporter.clone();
    let on_outcome: OnOutcome = Arc::new(move |outcome| counted.event(outcome));
    let (queue, receiver) = EventQueue::new(on_outcome.clone());
    let pace = Times::default().pace;
    Some((queue, EventWriter::new(receiver, server, &args.node_name, pace, on_outcome)))
}
