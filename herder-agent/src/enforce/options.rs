//! The inputs of the enforcer: how to enforce, where a container is, and how it became known.

use herder_model::cgroup::CgroupPath;
use std::{path::PathBuf, time::Duration};

/// How to enforce.
#[derive(Clone, Debug)]
pub struct Options {
    /// Write nothing; report what would be written.
    pub dry_run: bool,
    /// Restore the original values at the end.
    pub restore_on_exit: bool,
    /// The first number that no container's descriptor may have: those from there on
    /// are for all else.
    pub descriptors: i32,
    /// Where systemd keeps the unit files of transient scopes.
    pub systemd_transient: PathBuf,
    /// How long a cgroup may be without the memory controller before that is reported:
    /// [`BUILT_WITHIN`].
    pub built_within: Duration,
}

/// Runtimes make a cgroup first and enable its controllers a while later: crun took 0.06 to
/// 0.5 s, on a node with little to do.
pub const BUILT_WITHIN: Duration = Duration::from_secs(5);

/// Where a container is.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    pub path: &'a CgroupPath,
    /// The scope around it, if crun has made this cgroup in it and a rule matches both.
    pub scope: Option<CgroupPath>,
}

/// How a cgroup came to be known, and so what its first value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was made before the agent's eyes: its 0 is the kernel's, or that of a service manager that
    /// writes 0 to each new scope, and a 1 its runtime's. The runtime may have yet to write, or,
    /// where the role of the container came late, have written already.
    Made,
    /// It was there before, with the value that it has.
    Existing,
    /// It gets our value from its runtime, which was asked for it in place of this one.
    Adjusted(bool),
}
