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

pub mod args;
pub mod causes;
pub mod config;
pub mod telemetry;

pub mod probe;
pub mod source;

pub mod oom;

pub mod cgroup;

pub mod attribution;

pub mod apiserver;

pub mod pods;

pub mod nri;

pub mod policy;

pub mod enforce;

pub mod reconcile;
pub mod state;

pub mod report;

pub mod events;

pub mod core;

pub mod serve;

pub mod agent;
pub mod client;
pub mod doctor;
mod memory;
