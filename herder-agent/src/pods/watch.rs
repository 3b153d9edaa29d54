//! Asks the API server for the pods of this node: one LIST, then one WATCH.
//!
//! kube's watcher lists again after 410 Gone, resumes cut connections and keeps
//! to bookmarks; its back-off (0.8 s to 30 s, with jitter) holds between tries,
//! and its client retries 429 and 5xx as the server asks. Whatever goes wrong is
//! counted, and the agent goes on with what it knows.

use super::{Pod, PodContainer, PodEvent};
use crate::{core::Command, policy::ANNOTATION, report::Reporter};
use futures_util::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod as ApiPod};
use kube::{
    Api, Client, Config,
    runtime::{WatchStreamExt, watcher},
};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Annotation of static pods and their mirrors; their cgroup is named by it
/// (`pkg/kubelet/types/pod_update.go`, `ConfigHashAnnotationKey`).
const CONFIG_HASH: &str = "kubernetes.io/config.hash";

/// Pods in one answer. Parsed, each takes some 40 KiB until it is trimmed.
const PAGE: u32 = 50;

/// No way to reach an API server.
#[derive(Debug, thiserror::Error)]
#[error(
    "no access to a Kubernetes API server: {0}; run in a pod with a service account, give a kubeconfig, or use --kubernetes off"
)]
pub struct AccessError(String);

/// A client as a pod has it, or with `elsewhere` as kubectl does.
///
/// # Errors
/// When there is neither a service account nor a kubeconfig.
pub async fn client(elsewhere: bool) -> Result<Client, AccessError> {
    let config = match Config::incluster() {
        Ok(config) => config,
        Err(error) if !elsewhere => return Err(AccessError(error.to_string())),
        Err(_) => Config::infer().await.map_err(|error| AccessError(error.to_string()))?,
    };
    Client::try_from(config).map_err(|error| AccessError(error.to_string()))
}

/// Watches until the core is gone.
pub async fn watch(
    client: Client,
    node: &str,
    core: mpsc::WeakSender<Command>,
    reporter: Arc<Reporter>,
) {
    let config =
        watcher::Config::default().fields(&format!("spec.nodeName={node}")).page_size(PAGE);
    let stream = watcher(Api::<ApiPod>::all(client), config).default_backoff();
    pin_mut!(stream);
    while let Some(result) = stream.next().await {
        let event = match result {
            Ok(watcher::Event::Init) => PodEvent::ListBegin,
            Ok(watcher::Event::InitDone) => PodEvent::ListEnd,
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => match trimmed(pod) {
                Some(pod) => PodEvent::Applied(pod),
                None => continue,
            },
            Ok(watcher::Event::Delete(pod)) => match pod.metadata.uid {
                Some(uid) => PodEvent::Deleted(uid),
                None => continue,
            },
            Err(error) => {
                reporter.api_error(reason(&error), &error);
                continue;
            }
        };
        // Held only for the moment, since the core ends when nobody can send.
        let Some(core) = core.upgrade() else { return };
        if core.send(Command::Pod(event)).await.is_err() {
            return;
        }
    }
}

fn reason(error: &watcher::Error) -> &'static str {
    match error {
        watcher::Error::InitialListFailed(_) => "list",
        watcher::Error::WatchStartFailed(_) => "watch-start",
        watcher::Error::WatchError(_) => "watch-error",
        watcher::Error::WatchFailed(_) => "watch-cut",
        watcher::Error::NoResourceVersion => "no-resource-version",
    }
}

/// Keeps what is used. `None` for a pod without UID or name, which no server gives.
fn trimmed(pod: ApiPod) -> Option<Pod> {
    let metadata = pod.metadata;
    let mut annotations = metadata.annotations.unwrap_or_default();
    let status = pod.status.unwrap_or_default();
    let kinds = [
        status.init_container_statuses,
        status.container_statuses,
        status.ephemeral_container_statuses,
    ];
    Some(Pod {
        uid: metadata.uid?,
        config_hash: annotations.remove(CONFIG_HASH),
        namespace: metadata.namespace?,
        name: metadata.name?,
        labels: metadata.labels.unwrap_or_default().into_iter().collect(),
        annotation: annotations.remove(ANNOTATION),
        containers: kinds.into_iter().flatten().flatten().map(container).collect(),
    })
}

fn container(status: ContainerStatus) -> PodContainer {
    let ended = status.last_state.and_then(|state| state.terminated);
    PodContainer {
        name: status.name,
        // `containerd://ID`; empty until the container has been made.
        id: status.container_id.and_then(|id| Some(id.rsplit_once("://")?.1.to_owned())),
        restarts: u32::try_from(status.restart_count).unwrap_or(0),
        ended: ended.and_then(|ended| ended.reason),
    }
}

#[cfg(test)]
mod tests;
