//! The command line: its flags, the file with the rules, the log, and the subcommands that run no
//! agent.

pub mod args;
pub mod check;
pub mod client;
pub(crate) mod config;
pub mod telemetry;
