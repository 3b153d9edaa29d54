//! What the agent requests from the kernel for its own process: memory, descriptors, CPU time.

pub mod limits;
pub mod memory;
pub mod scheduling;
