//! Whether the agent is ready: a latch for each thing that has to happen first.

use std::sync::{Arc, Mutex, PoisonError};

/// All latches. Ready when each has been released.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<Vec<&'static str>>>);

/// One thing that has to happen. Dropping it is not releasing it: a task that
/// ends in an error leaves the agent not ready.
#[derive(Debug)]
pub struct Latch {
    readiness: Readiness,
    name: &'static str,
}

impl Readiness {
    /// Adds something to wait for.
    pub fn latch(&self, name: &'static str) -> Latch {
        self.waiting(|names| names.push(name));
        Latch { readiness: self.clone(), name }
    }

    /// What has not happened yet.
    pub fn missing(&self) -> Vec<&'static str> {
        self.waiting(|names| names.clone())
    }

    fn waiting<T>(&self, work: impl FnOnce(&mut Vec<&'static str>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Latch {
    pub fn release(self) {
        self.readiness.waiting(|names| names.retain(|name| *name != self.name));
    }
}
