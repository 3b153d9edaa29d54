//! Exempts the init of a container from OOM kills, where its rule says `protectInit: true`.
//!
//! On kernels that hide exiting processes from the OOM killer, an init may be the only process
//! that is left to kill (ARCHITECTURE.md, "An init that is small"). -1000 keeps the kernel from
//! it, and everything that it starts inherits that and is given the container's own value back.
//!
//! It has a thread of its own, which is started when a rule first asks for it: a child must have
//! its value back before it grows, and the core must not wait for a procfs. Both sides send each
//! other the whole of what they want and found, so nothing can be lost between them.

mod init;
mod link;
mod paths;
mod search;
mod unable;
mod worker;

pub use link::{Link, Parts};

use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    shield::{SavedInits, Unprotected},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A container whose init a rule wants to be protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protect {
    pub path: CgroupPath,
    pub rule: Arc<str>,
    /// Process id of its init on the node, if the runtime has reported it.
    pub init: Option<u32>,
}

/// All that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub containers: BTreeMap<CgroupId, Protect>,
    /// What an earlier agent left, as long as it is not certain whether a rule wants it.
    pub keep: BTreeSet<CgroupId>,
}

/// All that is so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Larger each time that there is something new to save.
    pub version: u64,
    /// What the next agent has to know.
    pub inits: SavedInits,
    /// Why each wanted container's init is not protected; none if it is.
    pub states: BTreeMap<CgroupId, Option<Unprotected>>,
    /// The inits that are to have their own value again and cannot be written, and why.
    pub unrestored: BTreeMap<CgroupId, String>,
}

herder_model::labels! {
    /// What was written to a process's score, or would have been.
    pub enum Written {
        /// -1000 to an init.
        Exempt = "exempt",
        /// The init's own value to what it has started.
        ChildRestored = "child",
        /// The init's own value to the init.
        Restored = "restore",
    }
}

/// How that went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScoreWrite {
    Ok,
    /// The process had ended.
    Gone,
    /// The process has set a score of its own, which is left alone.
    Own,
    /// The kernel refused.
    Error(String),
}

impl ScoreWrite {
    /// The values of the label `result`.
    pub const LABELS: [&str; 4] = ["ok", "gone", "own", "error"];

    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Gone => "gone",
            Self::Own => "own",
            Self::Error(_) => "error",
        }
    }
}

/// What is reported of it all; from the shield's own thread.
pub trait Listener: Send + Sync {
    /// A score was written, or not.
    fn wrote(&self, cgroup: &CgroupPath, pid: u32, what: Written, result: &ScoreWrite);

    /// A process was forked exempt in a container with a protected init.
    fn forked(&self);

    /// So many records of forks did not fit.
    fn forks_lost(&self, times: u64);

    /// The OOM killer found nothing to kill for a limit that concerns a protected init.
    fn no_victim(&self);

    /// A container's init is protected, or is not, for a reason.
    fn protection(&self, cgroup: &CgroupPath, rule: &str, unprotected: Option<Unprotected>);

    /// How many are protected, and how many are not, by reason.
    fn protections(&self, protected: usize, unprotected: &BTreeMap<Unprotected, usize>);

    /// Nothing can be protected, and why.
    fn unavailable(&self, why: &str);
}
