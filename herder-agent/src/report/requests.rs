//! What the server asks of the core, each question with the place for its answer.

use crate::enforce::{StateKey, States};
use herder_model::{owner::id::PodUid, pods::addresses::SelfRefused};
use std::net::IpAddr;
use tokio::sync::oneshot;

/// The matched containers, some at a time.
#[derive(Debug)]
pub struct StatesRequest {
    /// Those after this one; none for the first.
    pub after: Option<StateKey>,
    pub most: usize,
    pub answer: oneshot::Sender<States>,
}

/// Which pod has connected from this address.
#[derive(Debug)]
pub struct PodRequest {
    pub address: IpAddr,
    /// The uid that the pod's cgroups carry.
    pub answer: oneshot::Sender<Result<PodUid, SelfRefused>>,
}
