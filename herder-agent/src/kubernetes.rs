//! The API server: the pods of this node, and Events.

pub mod client;
pub mod events;
pub mod pods;
