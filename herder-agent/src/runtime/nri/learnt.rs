//! What the runtime has reported and the core does not have yet. It outlives a connection: the
//! runtime does not report it again.
//!
//! Of a pod that was there before the agent, the runtime knows the labels of its creation. An API
//! server may know other ones, and its first list is seldom complete when the runtime lists its
//! containers. Until then only the names of a pod are passed on, which never change. If the
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

/// So much of what waits for the list is kept, bytes, about. Of more only the names are passed on.
const MOST_WITHHELD: usize = 4 << 20;

pub(super) struct Learnt {
    waiting: Vec<RuntimeContainer>,
    /// With all that the runtime said, for when the list has not come in time.
    withheld: Vec<RuntimeContainer>,
    /// What those take, bytes, as if none shared its pod.
    size: usize,
    until: Instant,
}

impl Learnt {
    /// Waits so long for the API server's first list.
    pub(super) fn new(listed_within: Duration) -> Self {
        let until = Instant::now() + listed_within;
        Learnt { waiting: Vec::new(), withheld: Vec::new(), size: 0, until }
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
        self.take_withheld();
    }

    /// Adds the names at once, and the labels when the list has not come in time.
    pub(super) fn add_names(&mut self, container: RuntimeContainer) {
        let pod = Arc::new(container.pod.names_only());
        self.add(RuntimeContainer { pod, ..container.clone() });
        let size = self.size + container.pod.size();
        if self.withheld.len() < MOST && size <= MOST_WITHHELD {
            self.size = size;
            self.withheld.push(container);
        }
    }

    fn take_withheld(&mut self) -> Vec<RuntimeContainer> {
        self.size = 0;
        mem::take(&mut self.withheld)
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
                self.waiting = self.take_withheld();
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
        wire::PodSandbox,
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

    /// Any client that may make pods chooses their labels, and each request brings them anew.
    #[test]
    fn what_is_withheld_takes_a_bounded_amount_of_memory() {
        let mut learnt = Learnt::new(LISTED_WITHIN);
        let labels = [("l".to_owned(), "x".repeat(15 << 10))].into();
        let large = PodSandbox { labels, ..pod() };
        for number in 0..1000 {
            let pod = Arc::new(pod_from_sandbox(&large).unwrap());
            learnt.add_names(learn(&pod, &container(number, 5)).unwrap());
        }
        let kept: usize = learnt.withheld.iter().map(|container| container.pod.size()).sum();
        assert!(kept == learnt.size && kept <= MOST_WITHHELD, "{kept} bytes");
        assert_eq!(learnt.waiting.len(), 1000, "all have names");
    }
}
