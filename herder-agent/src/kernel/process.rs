//! What the agent asks the kernel for itself: memory, descriptors, a turn on the CPU.

pub mod limits;
pub mod memory;
pub mod scheduling;
