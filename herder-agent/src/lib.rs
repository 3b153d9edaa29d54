//! Herder: reports every OOM kill on a node and enforces `memory.oom.group`.
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

#![expect(
    unreachable_pub,
    reason = "modules are private, and pub is what one offers to the others: rustc finds what is not used"
)]

mod agent;
pub mod cli;
mod core;
mod enforce;
mod kernel;
mod kubernetes;
mod report;
mod runtime;
mod serve;
mod state;

pub use agent::{authenticates, run};
pub use serve::{PORT, access::AccessFiles};

/// What tests, benches and fuzz targets build from outside, under the paths that it has inside.
#[doc(hidden)]
pub mod inside {
    pub mod core {
        pub use crate::core::{CgroupMount, Core, CoreConfig, Inbox, Message, Notices};
    }
    pub mod enforce {
        pub use crate::enforce::{
            ContainerState, Enforcer, EscalationState, Options, RestartRequest, RestartWriter,
            Restarted, States, restart_channel,
        };
        pub mod shield {
            pub use crate::enforce::shield::Parts;
        }
    }
    pub mod kernel {
        pub mod cgroupfs {
            pub mod dir {
                pub use crate::kernel::cgroupfs::dir::{CgroupRoot, KILL};
            }
        }
        pub use crate::kernel::clock;
        pub mod probe {
            pub use crate::kernel::probe::{KernelFacts, ProbeError, decode};
        }
        pub mod source {
            pub use crate::kernel::source::{
                ContainerOf, Descriptors, MOST_AT_ONCE, MemoryEvents, Polled, Queue, Source,
            };
        }
    }
    pub mod kubernetes {
        pub mod client {
            pub use crate::kubernetes::client::{
                ApiServer, Failure, OnFailure, Times, connect_with,
            };
        }
        pub mod events {
            pub use crate::kubernetes::events::{About, Occurrence, Reason, correlate, gate};
            pub mod send {
                pub use crate::kubernetes::events::send::{
                    EventQueue, EventWriter, OnOutcome, Outcome,
                };
            }
        }
        pub mod pods {
            pub use crate::kubernetes::pods::{Followers, watch};
        }
    }
    pub mod report {
        pub use crate::report::{KillRecord, Reporter, heartbeat, own, requests};
    }
    pub mod runtime {
        pub use crate::runtime::roles;
        pub mod nri {
            pub use crate::runtime::nri::{Awaited, desired_adjustment, learn, pod_from_sandbox};
            pub use crate::runtime::nri::{mux, wire};
        }
    }
    pub mod serve {
        pub use crate::serve::{Access, Listeners, Readiness, State, access, bind, run};
    }
    pub mod state {
        pub use crate::state::StateFile;
    }
}
