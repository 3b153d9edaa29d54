//! What the runtime has reported and the core does not have yet. It outlives a connection: the
//! runtime does not report it again.
//!
//! Of a pod that was there before the agent, the runtime knows the labels of its creation. An API
//! server may know other ones, and its first list is seldom complete when the runtime lists its
//! containers. Until then only the names of a pod are passed on, which never change. Of
//! a pod that is not in the list, or if the list does not come, the runtime's labels are better
//! than none.

use herder_model::{
    naming::runtime::RuntimeContainer,
    pods::{Pod, current::CurrentPods},
};
use std::{convert::Infallible, future::pending, mem, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

/// How long the first list of the API server is waited for.
pub const LISTED_WITHIN: Duration = Duration::from_secs(60);

/// How often to look whether it is complete, while something waits for it.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(1);

/// Containers that may wait for the core, which takes all at once.
const MOST: usize = 4096;

/// So much of what waits for the list is kept, bytes, about. Of more only the names are passed on.
const MOST_WITHHELD: usize = 4 << 20;

pub(super) struct Learnt {
    /// The pods that the API server has sent.
    pods: CurrentPods,
    waiting: Vec<RuntimeContainer>,
    /// With all that the runtime said, for when the list does not have their pods.
    withheld: Vec<RuntimeContainer>,
    /// What those take, bytes, as if none shared its pod.
    size: usize,
    until: Instant,
}

impl Learnt {
    /// Waits so long for the API server's first list.
    pub(super) fn new(pods: CurrentPods, listed_within: Duration) -> Self {
        let until = Instant::now() + listed_within;
        Learnt { pods, waiting: Vec::new(), withheld: Vec::new(), size: 0, until }
    }

    /// Whether the first list is still waited for, and may bring other labels of a pod.
    pub(super) fn awaits_labels(&self, pod: &Pod) -> bool {
        Instant::now() < self.until && self.pods.awaits(pod.uid)
    }

    /// Adds a container: of a pod whose labels wait the names at once, and the rest after the list.
    /// Those of a new container wait as well, since the core decides all containers of a pod by
    /// them. The labels of a pod that the API server has sent come to the core from there, perhaps
    /// later than this.
    pub(super) fn add(&mut self, container: RuntimeContainer) {
        let mut added = container.clone();
        let awaits_labels = self.awaits_labels(&container.pod);
        if awaits_labels || self.is_sent(&container.pod) {
            added.pod = Arc::new(container.pod.names_only());
        }
        if awaits_labels {
            self.withhold(container);
        }
        if self.waiting.len() < MOST {
            self.waiting.push(added);
        }
    }

    /// The runtime lists all of its containers anew.
    pub(super) fn list_begins(&mut self) {
        (self.withheld, self.size) = (Vec::new(), 0);
    }

    fn withhold(&mut self, container: RuntimeContainer) {
        let size = self.size + container.pod.size();
        if self.withheld.len() < MOST && size <= MOST_WITHHELD {
            self.size = size;
            self.withheld.push(container);
        }
    }

    /// Waits until the first list is complete, or need not be waited for any longer.
    async fn list_ends(&self) {
        while self.pods.awaits_list() && Instant::now() < self.until {
            sleep(LOOKED_AT_EVERY).await;
        }
    }

    /// Passes on what the API server has not sent.
    fn pass_on_withheld(&mut self) {
        let mut withheld = mem::take(&mut self.withheld);
        withheld.retain(|container| !self.is_sent(&container.pod));
        (self.waiting, self.size) = (withheld, 0);
    }

    fn is_sent(&self, pod: &Pod) -> bool {
        self.pods.get(pod.uid).is_some()
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
                self.list_ends().await;
                self.pass_on_withheld();
                continue;
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
    use herder_model::pods::Event;

    fn before_the_list() -> Learnt {
        Learnt::new(CurrentPods::new(true), LISTED_WITHIN)
    }

    #[tokio::test(start_paused = true)]
    async fn labels_are_passed_on_when_the_list_does_not_come() {
        let (core, mut received) = mpsc::channel(8);
        let mut learnt = before_the_list();
        let pod = Arc::new(pod_from_sandbox(&pod()).unwrap());
        let listed = learn(&pod, &container(1, 5)).unwrap();
        learnt.add(listed.clone());
        tokio::spawn(async move { learnt.deliver(&core).await });
        let began = Instant::now();
        let names = received.recv().await.unwrap().remove(0);
        assert_eq!((&names.name, &names.pod.name, names.init), (&listed.name, &pod.name, Some(5)));
        assert_eq!(names.pod.labels, None);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(received.recv().await.unwrap(), [listed]);
        assert_eq!(began.elapsed(), LISTED_WITHIN);
    }

    /// A pod that was deleted by force and runs on is in no list.
    #[tokio::test(start_paused = true)]
    async fn labels_of_what_is_not_in_the_list_are_passed_on_when_it_is_complete() {
        let (core, mut received) = mpsc::channel(8);
        let mut learnt = before_the_list();
        let pods = learnt.pods.clone();
        let containers = [1, 2].map(|number| {
            let uid = format!("2c39abf0-f543-4c05-8cfe-3839410aef{number:02}");
            let pod = pod_from_sandbox(&PodSandbox { uid, ..pod() }).unwrap();
            learn(&Arc::new(pod), &container(number, 5)).unwrap()
        });
        containers.iter().for_each(|container| learnt.add(container.clone()));
        tokio::spawn(async move { learnt.deliver(&core).await });
        assert_eq!(received.recv().await.unwrap().len(), 2);
        let began = Instant::now();
        let sent = containers[0].pod.as_ref().clone();
        for event in [Event::ListStarted, Event::Applied(Box::new(sent)), Event::Listed] {
            pods.apply(&event);
        }
        assert_eq!(received.recv().await.unwrap(), containers[1..]);
        assert!(began.elapsed() <= LOOKED_AT_EVERY);
    }

    /// The core may take this before what the API server has sent.
    #[test]
    fn labels_of_what_the_api_server_has_sent_are_not_passed_on() {
        let mut learnt = before_the_list();
        let pod = pod_from_sandbox(&pod()).unwrap();
        learnt.pods.apply(&Event::Applied(Box::new(pod.clone())));
        learnt.add(learn(&Arc::new(pod), &container(1, 5)).unwrap());
        assert_eq!((learnt.waiting[0].pod.labels.as_ref(), learnt.withheld.len()), (None, 0));
    }

    /// Any client that may make pods chooses their labels, and each request brings them anew.
    #[test]
    fn what_is_withheld_takes_a_bounded_amount_of_memory() {
        let mut learnt = before_the_list();
        let labels = [("l".to_owned(), "x".repeat(15 << 10))].into();
        let large = PodSandbox { labels, ..pod() };
        for number in 0..1000 {
            let pod = Arc::new(pod_from_sandbox(&large).unwrap());
            learnt.add(learn(&pod, &container(number, 5)).unwrap());
        }
        let kept: usize = learnt.withheld.iter().map(|container| container.pod.size()).sum();
        assert!(kept == learnt.size && kept <= MOST_WITHHELD, "{kept} bytes");
        assert_eq!(learnt.waiting.len(), 1000, "all have names");
    }
}
