use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::thread;

/// Runs as one whom the modes of files bind, as CAP_DAC_OVERRIDE is granted to few agents.
pub(in crate::enforce) fn bound_by_modes(test: impl FnOnce() + Send + 'static) {
    let run = move || {
        let mut sets = capabilities(None).unwrap();
        let overrides = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        sets.effective.remove(overrides);
        set_capabilities(None, sets).unwrap();
        test();
    };
    // Only this thread loses them.
    thread::spawn(run).join().unwrap();
}
