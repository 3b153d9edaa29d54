//! The loop itself, as the agent runs it.

use super::node::{GROUP, Node};
use herder_agent::inside::core::Inbox;
use std::cell::Cell;
use tokio::sync::{mpsc, oneshot, watch};

/// Nothing becomes readable here: what is reported is what the end has found.
#[tokio::test]
async fn it_ends_when_it_is_told_to_and_reports_what_there_is() {
    let mut node = Node::new("loop", GROUP);
    node.pods_are('a');
    node.subprocess_dies(5);
    let (_policy, policy) = watch::channel(std::sync::Arc::default());
    let (_pods, pods) = mpsc::channel(1);
    let (_learnt, learnt) = mpsc::channel(1);
    let (_roles, roles) = mpsc::channel(1);
    let (_restarts, restarts) = mpsc::channel(1);
    let (_states, states) = mpsc::channel(1);
    let (end, stop) = oneshot::channel();
    drop(end);
    let is_ready = Cell::new(false);
    let inbox = Inbox { policy, pods, learnt, roles, restarts, states, stop };
    let reporter = node.reporter.clone();
    node.core.run(inbox, || is_ready.set(true)).await.unwrap();
    assert!(is_ready.get());
    let kills = reporter.kills(9);
    assert_eq!((kills.len(), kills[0].victim.pid), (1, Some(100)));
}
