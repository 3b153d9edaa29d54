//! Where kills and cgroups are heard of: from the eBPF programs, or, where those may not
//! run, from the kernel's counts.

pub mod counts;

pub use counts::{MemoryEvents, MemoryEventsError};

use crate::kernel::{
    probe::{Probe, ProbeError, ProbeOptions},
    readable::Readable,
};
use herder_model::{
    cgroup::{CgroupId, counters::parse_oom_kill},
    clock::Monotonic,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where kills are heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SourceChoice {
    /// eBPF, or the counts where that is refused.
    Auto,
    /// eBPF; it is an error if that is refused.
    Ebpf,
    /// The kernel's counts.
    MemoryEvents,
}

/// The source that is in use.
pub enum Source {
    /// The eBPF programs: who died, and all that belongs together.
    Ebpf(Box<Probe>),
    /// `memory.events.local` of each cgroup: how many died where.
    MemoryEvents(Box<MemoryEvents>),
}

/// Why no source can be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The programs were asked for.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The counts were asked for.
    #[error("cannot count kills by memory.events: {0}")]
    MemoryEvents(#[from] MemoryEventsError),
    /// Neither can be had.
    #[error("{probe}; and kills cannot be counted by memory.events instead: {tally}")]
    Neither {
        /// What is wrong with the programs.
        probe: Box<ProbeError>,
        /// What is wrong with the counts.
        tally: MemoryEventsError,
    },
}

impl Source {
    /// Takes the source that was chosen; with `auto` the counts where the kernel refuses
    /// the programs.
    ///
    /// # Errors
    /// When it cannot be had. An agent that was built without its programs is never taken
    /// for one that may not use them.
    pub fn attach(
        choice: SourceChoice,
        options: ProbeOptions,
        root: &Path,
    ) -> Result<Self, SourceError> {
        if choice == SourceChoice::MemoryEvents {
            return Ok(Source::MemoryEvents(Box::new(MemoryEvents::new(root)?)));
        }
        match Probe::attach(options) {
            Ok(probe) => Ok(Source::Ebpf(Box::new(probe))),
            Err(probe) if choice == SourceChoice::Ebpf || matches!(probe, ProbeError::Stub) => {
                Err(probe.into())
            }
            Err(probe) => match MemoryEvents::new(root) {
                Ok(tally) => {
                    tracing::warn!(error = %probe, "Kills are counted by memory.events; who died, and which process asked for memory, is not known.");
                    Ok(Source::MemoryEvents(Box::new(tally)))
                }
                Err(tally) => Err(SourceError::Neither { probe: Box::new(probe), tally }),
            },
        }
    }

    /// Its name, as metrics and `--source` have it.
    pub fn name(&self) -> &'static str {
        match self {
            Source::Ebpf(_) => "ebpf",
            Source::MemoryEvents(_) => "memory-events",
        }
    }

    /// When [`MemoryEvents::settle`] has something to do next.
    pub fn deadline(&self) -> Option<Monotonic> {
        match self {
            Source::Ebpf(_) => None,
            Source::MemoryEvents(tally) if tally.has_more() => Some(Monotonic::ZERO),
            Source::MemoryEvents(tally) => tally.deducer.deadline(),
        }
    }

    /// Registers with tokio what tells of kills, if that is apart, and of cgroups.
    ///
    /// # Errors
    /// When they cannot be registered.
    pub fn readable(&self) -> io::Result<(Option<Readable>, Readable)> {
        match self {
            Source::Ebpf(probe) => {
                let (kills, cgroups) = probe.readable().map_err(io::Error::other)?;
                Ok((Some(kills), cgroups))
            }
            Source::MemoryEvents(tally) => Ok((None, Readable::register(tally.inotify())?)),
        }
    }
}

/// Processes that the kernel has killed on this node; none if it does not tell. Where the
/// mount begins at the hierarchy's root that is `oom_kill` of `/proc/vmstat`. A node that is
/// a container shares that file with others, but what its own cgroup counts in
/// `memory.events` includes all below it, those that are gone too.
pub fn node_kills(root: &Path, begins_at: CgroupId) -> Option<u64> {
    let file = match begins_at {
        CgroupId::HIERARCHY_ROOT => PathBuf::from("/proc/vmstat"),
        _ => root.join("memory.events"),
    };
    parse_oom_kill(&fs::read_to_string(file).ok()?)
}
