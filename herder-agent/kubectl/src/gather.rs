//! All agents at once, as far as that is bearable for this machine and the API server.

use crate::{agents::Agent, cluster::Cluster, fault::Fault};
use futures_util::{StreamExt, stream};
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Agents that are asked at once.
const AT_ONCE: usize = 64;

/// How long one may take, so that some that hang cost not the time of all others.
const ONE: Duration = Duration::from_secs(5);

/// Asks each agent for a list, and gives what is said as it comes. What is not there at the
/// deadline is a fault, as everything else is that is no list.
pub(crate) async fn all(
    cluster: &Cluster,
    agents: &[Agent],
    path: &str,
    deadline: Instant,
    mut said: impl FnMut(&Agent, Vec<Value>),
) -> Vec<(Agent, Fault)> {
    let ask = |agent: Agent| async move {
        if let Some(phase) = &agent.not_running {
            let fault = Fault::Phase(phase.clone());
            return (agent, Err(fault));
        }
        let now = Instant::now();
        if now >= deadline {
            return (agent, Err(Fault::NotAsked));
        }
        let until = deadline.min(now + ONE);
        let asked = timeout_at(until, cluster.list(&agent, path)).await;
        let asked = asked.unwrap_or(Err(Fault::Slow));
        (agent, asked)
    };
    let mut faults = Vec::new();
    let mut answers = stream::iter(agents.iter().cloned().map(ask)).buffer_unordered(AT_ONCE);
    while let Some((agent, answer)) = answers.next().await {
        match answer {
            Ok(list) => said(&agent, list),
            Err(fault) => faults.push((agent, fault)),
        }
    }
    faults.sort_by(|(one, _), (other, _)| (&one.node, &one.pod).cmp(&(&other.node, &other.pod)));
    faults
}
