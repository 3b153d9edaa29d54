//! What an agent saves about each cgroup for the next agent.

use crate::{
    cgroup::{CgroupId, CgroupPath},
    clock::Monotonic,
};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, sync::Arc};

/// What is known of one matched cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedCgroup {
    pub path: Option<CgroupPath>,
    /// `oom_kill` of its `memory.events.local` up to which all is reported, if it was read.
    pub oom_kills: Option<u64>,
    /// The value to restore, if this agent has written another one. Its name in the file is that of
    /// the first versions.
    #[serde(rename = "give_back")]
    pub original_value: Option<bool>,
    /// The rule that it was under. The first versions did not say.
    #[serde(default)]
    pub rule: Option<Arc<str>>,
    /// It was escalated to 1, and the last kill that counts for that was at this time. Earlier
    /// versions knew no escalation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalated: Option<Monotonic>,
}

pub type SavedCgroups = HashMap<CgroupId, SavedCgroup>;
