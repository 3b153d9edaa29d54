//! What an agent saves about each cgroup for the next agent.

use crate::cgroup::{CgroupId, CgroupPath};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, sync::Arc};

/// What is known of one matched cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedCgroup {
    pub path: Option<CgroupPath>,
    /// `oom_kill` of its `memory.events.local` up to which all is reported, if it was read.
    pub oom_kills: Option<u64>,
    /// The value to restore, if this agent has written another one.
    pub give_back: Option<bool>,
    /// The rule that it was under. The first versions did not say.
    #[serde(default)]
    pub rule: Option<Arc<str>>,
}

pub type SavedCgroups = HashMap<CgroupId, SavedCgroup>;
