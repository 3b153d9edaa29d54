//! Recorded answers of a real API server, played back byte for byte to the
//! agent's own client code. `fixtures/k8s-wire` has the recordings.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests say what went wrong by panicking, their helpers too"
)]

#[path = "replay/events.rs"]
mod events;
#[path = "replay/pods.rs"]
mod pods;
#[path = "replay/reached.rs"]
mod reached;
#[path = "replay/server.rs"]
mod server;
#[path = "replay/storms.rs"]
mod storms;
