//! The port on which pods ask for their own kills, if it is wanted.

use crate::{
    cli::args::RunArgs,
    report::requests::PodRequest,
    serve::{self, Listeners, ServeError, State},
};
use std::future::Future;
use tokio::sync::mpsc;

/// What is listened on, and where it is asked which pod a client is.
pub(super) struct PortForPods {
    listeners: Listeners,
    core: mpsc::Sender<PodRequest>,
}

/// Takes the port, so that a start with a taken one fails early.
pub(super) fn bind(args: &RunArgs) -> Result<Option<Listeners>, ServeError> {
    args.self_port.map(serve::bind_for_pods).transpose()
}

/// The port, with what there is to say about it.
pub(super) fn port(
    listeners: Listeners,
    core: mpsc::Sender<PodRequest>,
    knows_pods: bool,
) -> PortForPods {
    let listen = listeners.addresses();
    if knows_pods {
        tracing::info!(?listen, "Pods can ask for their own OOM kills.");
    } else {
        tracing::warn!(
            ?listen,
            "Every request at --self-port is refused: without Kubernetes the agent knows no pods."
        );
    }
    PortForPods { listeners, core }
}

impl PortForPods {
    /// Serves until `stop` is done.
    pub(super) async fn serve(self, state: State, stop: impl Future<Output = ()>) {
        serve::run(self.listeners, state.for_pods(self.core), stop).await;
    }
}
