//! What tests are made of: the agent, containers, an API server, faults, and libtest's way
//! to list and choose them. It knows no test.

pub mod agent;
pub mod api;
pub mod audit;
pub mod container;
pub mod creations;
pub mod http;
pub mod kill;
pub mod parameter;
pub mod pod;
pub mod role;
pub mod say;
pub mod storm;
pub mod sysctl;
pub mod system;
pub mod test;
pub mod wait;
