//! Herder: sees every OOM kill on a node and steers `memory.oom.group`.
//!
//! The modules stand in the order in which a kill travels through them:
//!
//! ```text
//!  kernel ─► probe ─► oom ─► cgroup ─► attribution ─► report ─► serve
//!            attach   one    id→path   pod, container  log,      /metrics
//!            read     kill                             metrics,  /api/v1
//!            decode   each                             journal
//!
//!  API server ─► apiserver ─► pods: names, rules, restarts       report ─► events
//!  runtime ────► nri: names, init; memory.oom.group before a container is made
//!
//!  mkdir ──► probe ─► cgroup ─► attribution ─► policy ─► enforce ─► memory.oom.group
//! ```
//!
//! `core` owns all of the state that these steps change, in one task on one
//! thread; `agent` wires it to the rest.

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
