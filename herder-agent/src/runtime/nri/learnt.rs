//! What the runtime has reported and the core does not have yet. It outlives a connection: the
//! runtime does not report it again.
//!
//! Of a pod that was there before the agent, the runtime knows the labels of its creation. An API
//! server may know other ones, and its first list is seldom complete when the runtime lists its
//! containers. Until then only the names of such a pod are passed on, which never change. If the
//! list does not come, the runtime's labels are better than none.

use herder_model::naming::runtime::RuntimeContainer;
use std::{convert::Infallible, future::pending, mem, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// How long the first list of the API server is waited for.
pub const LISTED_WITHIN: Duration = Duration::from_secs(60);

/// Containers that may wait for the core, which takes all at once.
const MOST: usize = 4096;

pub(super) struct Learnt {
    waiting: Vec<RuntimeContainer>,
    /// With all that the runtime said, for when the list has not come in time.
    withheld: Vec<RuntimeContainer>,
    until: Instant,
}

impl Learnt {
    /// Waits so long for the API server's first list.
    pub(super) fn new(listed_within: Duration) -> Self {
        let until = Instant::now() + listed_within;
        Learnt { waiting: Vec::new(), withheld: Vec::new(), until }
    }

    /// Whether the first list is still waited for.
    pub(super) fn waits_for_list(&self) -> bool {
        Instant::now() < self.until
    }

    pub(super) fn add(&mut self, container: RuntimeContainer) {
        if self.waiting.len() < MOST {
            self.waiting.push(container);
        }
    }

    /// The runtime lists all of its containers anew.
    pub(super) fn list_begins(&mut self) {
        self.withheld.clear();
    }

    /// Adds the names at once, and the labels when the list has not come in time.
    pub(super) fn add_names(&mut self, container: RuntimeContainer) {
        let pod = Arc::new(container.pod.names_only());
        self.add(RuntimeContainer { pod, ..container.clone() });
        if self.withheld.len() < MOST {
            self.withheld.push(container);
        }
    }

    /// Hands over to the core, whenever that has room. Nothing is lost if this ends early.
    pub(super) async fn deliver(
        &mut self,
        core: &mpsc::Sender<Vec<RuntimeContainer>>,
    ) -> Infallible {
        loop {
            if self.waiting.is_empty() {
                if self.withheld.is_empty() {
                    return pending().await;
                }
                sleep_until(self.until).await;
                self.waiting = mem::take(&mut self.withheld);
            }
            match core.reserve().await {
                Ok(permit) => permit.send(mem::take(&mut self.waiting)),
                // It has ended, and so will this.
                Err(_) => return pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::nri::{
        learn, pod_from_sandbox,
        tests::runtime::{container, pod},
    };

    #[tokio::test(start_paused = true)]
    async fn labels_are_passed_on_when_the_list_does_not_come() {
        let (core, mut received) = mpsc::channel(8);
        let mut learnt = Learnt::new(LISTED_WITHIN);
        let pod = Arc::new(pod_from_sandbox(&pod()).unwrap());
        let listed = learn(&pod, &container(1, 5)).unwrap();
        learnt.add_names(listed.clone());
        tokio::spawn(async move { learnt.deliver(&core).await });
        let began = Instant::now();
        let names = received.recv().await.unwrap().remove(0);
        assert_eq!((&names.name, &names.pod.name, names.init), (&listed.name, &pod.name, Some(5)));
        assert_eq!(names.pod.labels, None);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(received.recv().await.unwrap(), [listed]);
        assert_eq!(began.elapsed(), LISTED_WITHIN);
    }
}
