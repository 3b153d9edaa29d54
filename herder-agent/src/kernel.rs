//! The kernel, and what it has for a process: the only room that makes system calls of its own
//! kind, reads and writes cgroup files, or loads programs.

pub mod cgroupfs;
pub mod clock;
pub mod host_proc;
pub mod probe;
pub mod process;
pub mod readable;
pub mod source;
