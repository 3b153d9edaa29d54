//! The source of kills and cgroups: the eBPF programs or, where the kernel refuses
//! them, its counts. The core knows only [`Source`], so that a test can hand it
//! recorded records in their place.

mod counts;
mod ebpf;

pub use counts::{MemoryEvents, MemoryEventsError};

use crate::kernel::probe::{
    DecodeError, KernelFacts, Probe, ProbeError, ProbeOptions, decode::decode,
};
use herder_agent_ebpf::Loss;
use herder_model::{
    arguments::VictimArguments,
    cgroup::{CgroupId, CgroupPath},
    clock::Monotonic,
    oom::{
        OomKill,
        event::{Event, Means, Traced},
    },
};
use std::{os::fd::BorrowedFd, path::Path};

/// Which source of kills is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceChoice {
    /// eBPF, or the kernel's counts if it refuses the programs.
    Auto,
    /// eBPF; fail if the kernel refuses the programs.
    Ebpf,
    /// The kernel's counts of each cgroup.
    MemoryEvents,
}

/// Maps a cgroup to the container that it belongs to. Only the names of pods and the rules say
/// which that is.
pub type ContainerOf<'a> = &'a dyn Fn(&CgroupPath) -> CgroupPath;

/// Where the kernel's events come from.
pub trait Source: Send {
    /// Its name, as metrics and `--source` have it.
    fn name(&self) -> &'static str;

    /// What of a kill it traces, and so what its silence means.
    fn traced(&self) -> Traced {
        Traced::default()
    }

    /// By what means decisions of the kernel are known.
    fn means(&self) -> Means {
        self.traced().means()
    }

    /// Whether it was taken because the kernel refused the eBPF programs.
    fn replaces_ebpf(&self) -> bool {
        false
    }

    /// What the kernel offers its programs, if it has some.
    fn facts(&self) -> Option<&KernelFacts> {
        None
    }

    /// Whether it has nothing but the kernel's counts, so that each cgroup has to be looked at.
    fn only_counts(&self) -> bool {
        false
    }

    /// What becomes readable when there is something to [`Self::poll`].
    fn descriptors(&self) -> Descriptors<'_>;

    /// Takes what is there of one queue: all kills, and some cgroups.
    fn poll(&mut self, queue: Queue, now: Monotonic, container_of: ContainerOf<'_>) -> Polled;

    /// From now on the arguments of victims are read, or no longer.
    ///
    /// # Errors
    /// When they cannot be read.
    fn read_arguments(&mut self, wanted: bool) -> Result<(), ProbeError> {
        if wanted { Err(ProbeError::OnlyCounts) } else { Ok(()) }
    }

    /// When kills have to be polled although nothing becomes readable.
    fn deadline(&self) -> Option<Monotonic> {
        None
    }

    /// What was lost on the way since the last call, by reason.
    fn losses(&mut self) -> Vec<(Loss, u64)> {
        Vec::new()
    }

    /// From now on a cgroup is watched, and its counts are read, of one that is watched already too. Of
    /// another one that `has_past`, what it counted until now is no kill that is to be reported.
    fn made(
        &mut self,
        _id: CgroupId,
        _path: &CgroupPath,
        _has_past: bool,
        _now: Monotonic,
        _container_of: ContainerOf<'_>,
    ) {
    }

    /// The agent is about to end a container itself: as long as that has processes, no kill until now
    /// has ended it.
    fn will_end(
        &mut self,
        _id: CgroupId,
        _path: &CgroupPath,
        _now: Monotonic,
        _container_of: ContainerOf<'_>,
    ) {
    }

    fn removed(&mut self, _id: CgroupId) {}
}

/// The descriptors that become readable when there is something to read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Descriptors<'a> {
    /// Of kills, if they come apart from cgroups.
    pub kills: Option<BorrowedFd<'a>>,
    /// Of cgroups.
    pub cgroups: Option<BorrowedFd<'a>>,
}

/// Which of two queues is read. A storm of cgroups must not crowd out kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Kills: all records of them, and what is settled by then.
    Kills {
        /// Kills that are put together from counts wait for their container's fate until this.
        until: Monotonic,
    },
    /// Made and removed cgroups: some at a time.
    Cgroups,
}

/// Records of cgroups that one poll of the programs takes.
pub const MOST_AT_ONCE: usize = 256;

/// What a poll gave.
#[derive(Debug, Default)]
pub struct Polled {
    /// In the order in which the kernel recorded them.
    pub events: Vec<Event>,
    /// Kills that the source has put together itself.
    pub kills: Vec<OomKill>,
    /// Records that are no events, and why.
    pub undecodable: Vec<DecodeError>,
    /// Arguments of processes that the kernel kills.
    pub arguments: Vec<VictimArguments>,
    /// How often such a record did not fit into the ring buffer.
    pub arguments_lost: u64,
    /// Cgroups may have been made that are not among the events.
    pub cgroups_unseen: bool,
    /// How often inotify's queue overflowed.
    pub overflows: u64,
    /// There is more to read.
    pub more: bool,
}

impl Polled {
    /// Takes a record of the eBPF programs.
    pub fn record(&mut self, record: &[u8], page_size: u64) {
        match decode(record, page_size) {
            Ok(event) => self.events.push(event),
            Err(error) => self.undecodable.push(error),
        }
    }
}

/// Why no source can be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error("cannot count kills by memory.events: {0}")]
    MemoryEvents(#[from] MemoryEventsError),
    #[error("{probe}; and kills cannot be counted by memory.events instead: {counts}")]
    Neither { probe: Box<ProbeError>, counts: MemoryEventsError },
}

/// Takes the source that was chosen; with `auto` the counts where the kernel refuses
/// the programs.
pub fn attach(
    choice: SourceChoice,
    options: ProbeOptions,
    root: &Path,
) -> Result<Box<dyn Source>, SourceError> {
    if choice == SourceChoice::MemoryEvents {
        return Ok(Box::new(MemoryEvents::new(root)?));
    }
    match Probe::attach(options) {
        Ok(probe) => Ok(Box::new(probe)),
        Err(probe) if choice == SourceChoice::Ebpf || matches!(probe, ProbeError::Stub) => {
            Err(probe.into())
        }
        Err(probe) => match MemoryEvents::new(root) {
            Ok(counts) => {
                tracing::warn!(error = %probe, "Kills are counted by memory.events: reports have neither the victim's process nor the trigger.");
                Ok(Box::new(counts.in_place_of_ebpf()))
            }
            Err(counts) => Err(SourceError::Neither { probe: Box::new(probe), counts }),
        },
    }
}
