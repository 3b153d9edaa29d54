//! Reads the bundles of new containers beside the core, each once, on a thread of their own.
//!
//! A bundle's `config.json` may have megabytes, and a container's start waits for the core's
//! thread. So the core only asks, when a cgroup appears, and gets the answer later. The runtime
//! writes the bundle before it makes the cgroup. A bundle that is not to be seen yet is looked for
//! again a few times.

use super::bundle::{BundleError, Looked};
use herder_model::{
    naming::{ContainerOfPod, ContainerRole},
    owner::id::ContainerId,
};
use std::{
    collections::BTreeMap,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::{Instant, sleep_until},
};

/// Containers whose bundles wait to be read, and as many to be looked for again: many times what
/// a kubelet starts on a node. Those beyond are left out.
const MOST: usize = 4096;

/// Bundles that are read in one go, so that new ones do not wait long.
const MOST_AT_ONCE: usize = 64;

/// Pauses before a bundle that is not there is looked for again; after the last it is given up.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

/// A container whose role the core wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleRequest {
    pub of: ContainerOfPod,
    /// An event has announced its cgroup; else a walk has found it.
    pub just_made: bool,
}

/// What the bundle of a container says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRole {
    pub request: RoleRequest,
    pub role: ContainerRole,
}

/// Where the core asks. The default goes nowhere, so no answers come.
#[derive(Clone, Debug, Default)]
pub struct RoleRequests {
    to: Option<mpsc::Sender<RoleRequest>>,
    overflow_reported: Arc<AtomicBool>,
}

impl RoleRequests {
    /// Asks, without waiting.
    pub fn ask(&self, request: RoleRequest) {
        let Some(to) = &self.to else { return };
        let is_full = matches!(to.try_send(request), Err(TrySendError::Full(_)));
        if is_full && !self.overflow_reported.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "More than {MOST} containers wait for their bundles to be read: of those beyond, only the kubelet and NRI report the names."
            );
        }
    }
}

/// What reads the bundles.
#[derive(Debug)]
pub struct RoleLookups {
    requests: mpsc::Receiver<RoleRequest>,
    found: mpsc::Sender<Vec<FoundRole>>,
    /// What was not there, by when it is looked for again. The number keeps two of one time apart.
    again: BTreeMap<(Instant, u64), Lookup>,
    number: u64,
    /// It was said that a bundle cannot be read.
    unreadable_reported: bool,
}

#[derive(Clone, Copy, Debug)]
struct Lookup {
    request: RoleRequest,
    /// How often it was not there.
    failed: usize,
}

/// Where to ask, what looks, and where the answers come.
pub fn channel() -> (RoleRequests, RoleLookups, mpsc::Receiver<Vec<FoundRole>>) {
    let (to, requests) = mpsc::channel(MOST);
    let (found, roles) = mpsc::channel(1);
    let lookups = RoleLookups {
        requests,
        found,
        again: BTreeMap::new(),
        number: 0,
        unreadable_reported: false,
    };
    (RoleRequests { to: Some(to), ..RoleRequests::default() }, lookups, roles)
}

impl RoleLookups {
    /// Reads the requested bundles, until the core asks or listens no more. `look` takes the thread
    /// for as long as a bundle takes to read, so the thread is for this alone.
    pub async fn run(mut self, look: impl Fn(ContainerId) -> Looked) {
        loop {
            let next = self.again.first_key_value().map(|((due, _), _)| *due);
            let mut batch = Vec::new();
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(request) => batch.push(Lookup { request, failed: 0 }),
                    None => return,
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
                () = self.found.closed() => return,
            }
            self.fill(&mut batch);
            if batch.is_empty() {
                continue;
            }
            let looked =
                batch.into_iter().map(|lookup| (lookup, look(lookup.request.of.container)));
            let looked = looked.collect();
            let found = self.take_looked(looked);
            if !found.is_empty() && self.found.send(found).await.is_err() {
                return;
            }
        }
    }

    /// Adds what else can be read now. New ones come first, however many are looked for again.
    fn fill(&mut self, batch: &mut Vec<Lookup>) {
        while batch.len() < MOST_AT_ONCE
            && let Ok(request) = self.requests.try_recv()
        {
            batch.push(Lookup { request, failed: 0 });
        }
        let now = Instant::now();
        while batch.len() < MOST_AT_ONCE
            && let Some(first) = self.again.first_entry()
            && first.key().0 <= now
        {
            batch.push(first.remove());
        }
    }

    /// What is asked next, if anything is, for a caller that reads no bundles and answers by hand.
    #[doc(hidden)]
    pub fn take_request(&mut self) -> Option<RoleRequest> {
        self.requests.try_recv().ok()
    }

    fn look_again(&mut self, lookup: Lookup, pause: Duration) {
        self.number += 1;
        self.again.insert((Instant::now() + pause, self.number), lookup);
        if self.again.len() > MOST {
            // It would be the last one.
            self.again.pop_last();
        }
    }

    /// Puts off what was not there, and gives what was found.
    fn take_looked(&mut self, looked: Vec<(Lookup, Looked)>) -> Vec<FoundRole> {
        let mut found = Vec::new();
        for (lookup, looked) in looked {
            match (looked, PAUSES.get(lookup.failed)) {
                (Looked::Role(role), _) => found.push(FoundRole { request: lookup.request, role }),
                (Looked::NotYet, Some(pause)) => {
                    self.look_again(Lookup { failed: lookup.failed + 1, ..lookup }, *pause);
                }
                (Looked::NotYet, None) => {
                    let container = lookup.request.of.container;
                    tracing::debug!(%container, "The container's bundle did not appear.");
                }
                (Looked::Nothing, _) => {}
                (Looked::Unreadable(error), _) => self.report_unreadable(&error),
            }
        }
        found
    }

    /// Warns once: what stands in the way of one bundle stands in the way of many.
    fn report_unreadable(&mut self, error: &BundleError) {
        if mem::replace(&mut self.unreadable_reported, true) {
            tracing::debug!(%error, "A bundle cannot be read.");
        } else {
            tracing::warn!(%error, "A bundle cannot be read, so only the kubelet and NRI report the container's name. Further ones are logged at the level debug.");
        }
    }
}

#[cfg(test)]
mod tests;
