//! The files of the cgroup hierarchy.

mod below;
pub mod dir;
pub mod walk;
