//! The eBPF programs as a source: who died, and all that belongs together.

use super::{ContainerOf, Descriptors, MOST_AT_ONCE, Polled, Queue, Source};
use crate::kernel::probe::{KernelFacts, Probe, ProbeError};
use herder_agent_ebpf::Loss;
use herder_model::{clock::Monotonic, oom::event::Traced};

impl Source for Probe {
    fn name(&self) -> &'static str {
        "ebpf"
    }

    fn traced(&self) -> Traced {
        self.traced
    }

    fn facts(&self) -> Option<&KernelFacts> {
        Some(&self.facts)
    }

    fn descriptors(&self) -> Descriptors<'_> {
        let (kills, cgroups) = self.rings();
        Descriptors { kills: Some(kills), cgroups: Some(cgroups) }
    }

    fn poll(&mut self, queue: Queue, _now: Monotonic, _container_of: ContainerOf<'_>) -> Polled {
        let page_size = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        let mut polled = Polled::default();
        match queue {
            Queue::Kills { .. } => {
                self.read_kills(|record| polled.record(record, page_size));
                // After the kills: where the exit of a victim was read, all of it is here.
                let arguments = &mut polled.arguments;
                polled.arguments_lost = self.arguments().read(|read| arguments.push(read));
            }
            Queue::Cgroups => {
                let all =
                    self.read_cgroups(MOST_AT_ONCE, |record| polled.record(record, page_size));
                polled.more = !all;
            }
        }
        polled
    }

    fn read_arguments(&mut self, wanted: bool) -> Result<(), ProbeError> {
        self.arguments().set(wanted)
    }

    fn losses(&mut self) -> Vec<(Loss, u64)> {
        self.new_losses()
    }
}
