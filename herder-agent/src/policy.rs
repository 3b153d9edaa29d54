//! Which rule a cgroup falls under, and what the rule wants. Pure.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a rule wants of `memory.oom.group`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OomGroup {
    /// 0: the kernel kills one process.
    SingleProcess,
    /// 1: the kernel kills all processes of the cgroup.
    Group,
    /// Hands off.
    Leave,
}

/// A rule's name and the value it wants; `OomGroup::Leave` never gets here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name of the rule, a metric label.
    pub rule: Arc<str>,
    /// The value of `memory.oom.group`.
    pub value: bool,
}
