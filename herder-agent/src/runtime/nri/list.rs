//! What the runtime lists when it is met, perhaps in parts. There is room for what a node has, and
//! not for what a runtime sends without end.

use super::{
    pod_from_sandbox,
    wire::{Container, PodSandbox},
};
use herder_model::pods::Pod;
use prost::Message as _;
use std::{collections::HashMap, sync::Arc};

/// So much is kept of a list, bytes, about; 500 containers take 0.5 MiB. What does not fit is left
/// to enforcement by cgroup.
const MOST: usize = 4 << 20;

#[derive(Default)]
pub(super) struct List {
    pods: HashMap<String, Arc<Pod>>,
    containers: Vec<Container>,
    size: usize,
    /// Pods and containers for which there was no room.
    left_out: usize,
}

impl List {
    /// Takes a part. Any client that may make pods chooses their labels and annotations, so that
    /// no more is kept of them than is used.
    pub(super) fn add(&mut self, pods: Vec<PodSandbox>, containers: Vec<Container>) {
        for sandbox in pods {
            if let Some(pod) = pod_from_sandbox(&sandbox)
                && self.fits(pod.size() + sandbox.id.len())
            {
                self.pods.insert(sandbox.id, Arc::new(pod));
            }
        }
        for container in containers {
            if self.fits(size_of::<Container>() + container.encoded_len()) {
                self.containers.push(container);
            }
        }
    }

    fn fits(&mut self, size: usize) -> bool {
        let fits = self.size + size <= MOST;
        if fits {
            self.size += size;
        } else {
            self.left_out += 1;
        }
        fits
    }

    /// How many containers there are, and how many pods and containers were left out.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.containers.len(), self.left_out)
    }

    /// The containers of known pods, those first that have not started yet: a change then comes
    /// before their first instruction.
    pub(super) fn into_containers(self) -> impl Iterator<Item = (Arc<Pod>, Container)> {
        let List { pods, mut containers, .. } = self;
        containers.sort_by_key(|container| !container.is_created());
        containers.into_iter().filter_map(move |container| {
            let pod = pods.get(&container.pod_sandbox_id)?.clone();
            Some((pod, container))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::nri::tests::runtime::{container, pod};

    #[test]
    fn a_list_without_end_is_left_out_in_the_end() {
        let mut list = List::default();
        let labels = [("l".to_owned(), "x".repeat(15 << 10))].into();
        let large = PodSandbox { labels, ..pod() };
        for number in 0..1000 {
            let pod = PodSandbox { id: format!("{number:064}"), ..large.clone() };
            list.add(vec![pod], vec![container(number, 0); 100]);
        }
        let (containers, left_out) = list.counts();
        assert!(containers + list.pods.len() + left_out == 101_000 && left_out > 80_000);
        let kept: usize = list.pods.values().map(|pod| pod.size()).sum();
        let named: usize = list.containers.iter().map(Container::encoded_len).sum();
        assert!(kept + named <= MOST, "{kept} and {named} bytes");
    }

    #[test]
    fn what_has_not_started_comes_first() {
        let mut list = List::default();
        let created = Container { state: 1, ..container(3, 0) };
        list.add(vec![pod()], vec![container(1, 5), container(2, 6), created]);
        let ids = list.into_containers().map(|(_, container)| container.id);
        assert!(ids.eq([3, 1, 2].map(|number| container(number, 0).id)));
    }
}
