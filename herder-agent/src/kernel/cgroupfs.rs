//! The files of the cgroup hierarchy.

mod below;
pub mod dir;
pub mod figures;
mod files;
mod limits;
pub mod own;
pub mod walk;

pub use files::CgroupFs;
