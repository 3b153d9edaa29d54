//! What the agent requests from the kernel for its own process: memory, descriptors, CPU time.

pub mod limits;
pub mod memory;
pub mod scheduling;

use rustix::thread::{CapabilitySet, capabilities};

/// Whether the thread has this capability in effect.
pub fn has(capability: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}
