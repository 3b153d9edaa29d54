//! The API server: what it tells of the pods of this node, and the Events that it takes.

pub mod client;
pub mod events;
pub mod pods;
