//! Which container gets which `memory.oom.group`: the configuration, pods' annotations, and what
//! both say about one cgroup.

pub mod annotation;
pub mod matching;
pub mod parse;
