//! From recorded records to reports, metrics and values: the real core, without a kernel, and with
//! a clock that a test moves. Nothing here waits.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say what went wrong by panicking, their helpers too"
)]

#[path = "pipeline/arguments.rs"]
mod arguments;
#[path = "pipeline/connected.rs"]
mod connected;
#[path = "pipeline/counted.rs"]
mod counted;
#[path = "pipeline/escalating.rs"]
mod escalating;
#[path = "pipeline/escalations.rs"]
mod escalations;
#[path = "pipeline/files.rs"]
mod files;
#[path = "pipeline/inherited.rs"]
mod inherited;
#[path = "pipeline/kills.rs"]
mod kills;
#[path = "pipeline/looped.rs"]
mod looped;
#[path = "pipeline/names.rs"]
mod names;
#[path = "pipeline/node.rs"]
mod node;
#[path = "pipeline/protected.rs"]
mod protected;
#[path = "pipeline/records.rs"]
mod records;
#[path = "pipeline/scenes.rs"]
mod scenes;
#[path = "pipeline/untraced.rs"]
mod untraced;
#[path = "pipeline/walks.rs"]
mod walks;
