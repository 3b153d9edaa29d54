//! What Herder knows and decides, without the world around it.
//!
//! No file, socket or clock is used here: events, texts and the time come in, decisions go out.
//! So all of it is tested in microseconds, and nothing here can wait. The crate's manifest has
//! nothing that could do IO, its `clippy.toml` bans what the standard library has for it, and
//! `herder-agent/tests/architecture.rs` looks at both.
//!
//! ```text
//!  oom::event ─► oom ─────► kill          what the kernel did, one kill for each decision
//!            │
//!  cgroup ─► owner ─► naming ─► rules     whose cgroup it is, and what a rule wants of it
//!                     pods
//!  scene ─► scene::finding               who used how much, and what follows from it
//!  reconcile                              whether all kills were reported
//!  escalation                             what follows when processes of a container keep dying
//!  enforcement, saved                     what enforcement says, and what one agent leaves
//! ```

#[macro_use]
mod labels;

pub mod arguments;
pub mod backoff;
pub mod bucket;
pub mod causes;
pub mod cgroup;
pub mod clock;
pub mod enforcement;
pub mod escalation;
pub mod kill;
pub mod naming;
pub mod oom;
pub mod owner;
pub mod pods;
pub mod reconcile;
pub mod rules;
pub mod saved;
pub mod scene;
pub mod shield;
pub mod text;

#[doc(hidden)]
pub use serde;
