//! What a workload's owner sizes it by, and what a workload is told: families of their own, beside
//! those of kills.

use super::{
    family::{Exposed, Family},
    making::{counter, gauge},
};
use herder_model::{
    kill::KillReport,
    owner::{ContainerNames, Owner},
    pods::addresses::SelfRefused,
};

#[derive(Debug)]
pub(super) struct Workload {
    memory: Family<3>,
    refused: Family<1>,
}

impl Workload {
    pub(super) fn new(exposed: &mut Vec<Box<dyn Exposed>>) -> Self {
        let refused = counter(
            exposed,
            "herder_self_refused_total",
            "Requests of pods for their own kills that were refused.",
            ["reason"],
        );
        for reason in SelfRefused::ALL {
            refused.begin([reason.as_str()]);
        }
        Workload {
            refused,
            memory: gauge(
                exposed,
                "herder_container_oom_memory_bytes",
                "Bytes of memory that a container in a pod used at its last OOM kill: the kernel's figure, or the limit, if its own limit was hit; else the most that it can have been by what was read right after the kill.",
                ["namespace", "pod", "container"],
            ),
        }
    }

    /// A kill of a container. One of which nothing could be read leaves the last value.
    pub(super) fn killed(&self, report: &KillReport) {
        let Owner::Container(names) = &report.owner else { return };
        let Some(used) = report.container_used() else { return };
        // What is in none of the pod's containers has no limit that could be raised.
        if !names.container.is_empty() {
            self.memory.set(labels(names), used);
        }
    }

    pub(super) fn refused(&self, refused: SelfRefused) {
        self.refused.add([refused.as_str()], 1);
    }

    /// The series of an owner go.
    pub(super) fn expired(&self, owner: &Owner) {
        if let Owner::Container(names) = owner {
            self.memory.remove(labels(names));
        }
    }
}

fn labels(names: &ContainerNames) -> [&str; 3] {
    [&names.namespace, &names.pod, &names.container].map(String::as_str)
}
