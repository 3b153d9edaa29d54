//! The agents of a cluster, by their pods.

use k8s_openapi::api::core::v1::Pod;
use std::fmt;

/// The port of an agent whose pod names none.
const PORT: i32 = herder_agent::PORT as i32;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Agent {
    pub(crate) pod: String,
    pub(crate) node: String,
    pub(crate) port: i32,
    /// What its pod does, if it does not run.
    pub(crate) not_running: Option<String>,
}

impl Agent {
    /// Nothing for a pod that is none, as that of `helm test`: those of a DaemonSet are.
    pub(crate) fn of(pod: Pod) -> Option<Self> {
        let owners = pod.metadata.owner_references.unwrap_or_default();
        if !owners.iter().any(|owner| owner.kind == "DaemonSet" && owner.controller == Some(true)) {
            return None;
        }
        let spec = pod.spec?;
        let ports =
            spec.containers.into_iter().flat_map(|container| container.ports.unwrap_or_default());
        let port = ports.into_iter().find(|port| port.name.as_deref() == Some("metrics"));
        let phase = pod.status.and_then(|status| status.phase).unwrap_or_default();
        Some(Agent {
            pod: pod.metadata.name?,
            node: spec.node_name.unwrap_or_default(),
            port: port.map_or(PORT, |port| port.container_port),
            not_running: (phase != "Running").then_some(phase),
        })
    }
}

impl fmt::Display for Agent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node.as_str() {
            "" => formatter.write_str(&self.pod),
            node => write!(formatter, "{node} ({})", self.pod),
        }
    }
}
