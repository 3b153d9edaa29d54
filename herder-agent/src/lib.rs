//! Herder: reports every OOM kill of a node and enforces `memory.oom.group`.
//!
//! What is known and decided is herder-model's; the rooms here touch the world. Imports point
//! downwards only (`tests/architecture.rs`):
//!
//! ```text
//!                    agent                      wires all of them
//!          core                serve            the one task with all state; HTTP
//!                   report            cli       log, metrics, journal; the command line
//!                   enforce                     memory.oom.group
//!  kernel     kubernetes    runtime     state   programs and files; API server; NRI; what is left
//!                herder-model
//! ```
//!
//! A kill travels from `kernel::probe` over `core` and herder-model's `oom` and `naming` to `report`
//! and `serve`; a new cgroup from `kernel::probe` over `core` and herder-model's `rules` to `enforce`.

pub mod agent;
pub mod cli;
pub mod core;
pub mod enforce;
pub mod kernel;
pub mod kubernetes;
pub mod report;
pub mod runtime;
pub mod serve;
pub mod state;
