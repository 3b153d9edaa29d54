//! The programs that a protected init takes: what was forked exempt from OOM kills, and OOM kills
//! that found nothing to kill. Loaded only where a rule asks for it.

use super::{FORK_OBJECT, KernelFacts, ProbeError, fexit, loader, map, ring, tracepoint};
use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, MapData, PerCpuArray, RingBuf},
};
use bytemuck::{AnyBitPattern, pod_read_unaligned};
use herder_agent_ebpf::{ForkRecord, Header, NoVictimRecord, RecordKind, flag, layout::ABSENT};
use herder_model::{causes::Causes, cgroup::CgroupId, clock::Monotonic};
use std::os::fd::{AsFd, BorrowedFd};

/// What the programs report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForkEvent {
    /// A process was born exempt.
    Forked {
        /// The container, whose init is exempt.
        container: CgroupId,
        pid: u32,
        /// When it began, `CLOCK_BOOTTIME` nanoseconds.
        start_boottime: u64,
        /// It has the memory of the process that forked it, until it starts a program.
        shares_memory: bool,
    },
    /// The OOM killer found nothing to kill.
    NoVictim {
        time: Monotonic,
        /// The cgroup whose limit was hit.
        domain: CgroupId,
    },
}

/// Where forks are reported: the programs, or what a test has in their place.
pub trait ForkSource {
    /// From now on forks in a container are reported. Returns whether there is room.
    fn watch(&mut self, container: CgroupId) -> bool;

    fn forget(&mut self, container: CgroupId);

    /// The next record, if there is one.
    fn take(&mut self) -> Option<ForkEvent>;

    /// Records that did not fit since the last call.
    fn new_losses(&mut self) -> u64;
}

/// Decodes one record; none if it is not one.
pub fn decode(bytes: &[u8]) -> Option<ForkEvent> {
    let header: Header = read(bytes)?;
    if header.kind == RecordKind::Fork as u32 {
        let record: ForkRecord = read(bytes)?;
        Some(ForkEvent::Forked {
            container: CgroupId(record.container),
            pid: record.tgid,
            start_boottime: record.start_boottime,
            shares_memory: header.flags & flag::SHARES_MEMORY != 0,
        })
    } else if header.kind == RecordKind::NoVictim as u32 {
        let record: NoVictimRecord = read(bytes)?;
        let domain = CgroupId(record.domain_cgroup);
        Some(ForkEvent::NoVictim { time: Monotonic(header.time), domain })
    } else {
        None
    }
}

fn read<T: AnyBitPattern>(bytes: &[u8]) -> Option<T> {
    bytes.get(..size_of::<T>()).map(pod_read_unaligned)
}

/// Loads the programs when they are needed. It is made at the start: see [`loader`].
pub struct ForkLoader {
    loader: EbpfLoader<'static>,
    facts: KernelFacts,
}

impl ForkLoader {
    pub fn new(facts: KernelFacts) -> Self {
        ForkLoader { loader: loader(), facts }
    }

    pub fn attach(self) -> Result<Forks, ProbeError> {
        if FORK_OBJECT.is_empty() {
            return Err(ProbeError::Stub);
        }
        let layout = self.facts.layout;
        let needed = [
            layout.task_pid,
            layout.task_tgid,
            layout.task_signal,
            layout.signal_oom_score_adj,
            layout.task_cgroups,
            layout.css_set_dfl_cgrp,
            layout.cgroup_level,
            layout.task_start_boottime,
            layout.oom_control_memcg,
        ];
        let function = self.facts.functions.out_of_memory;
        let Some(function) = function.filter(|_| !needed.contains(&ABSENT)) else {
            return Err(ProbeError::Missing("BTF of this kernel for its programs"));
        };
        let words = layout.words();
        let mut loader: EbpfLoader<'_> = self.loader;
        let mut ebpf = loader.override_global("LAYOUT", &words[..], true).load(FORK_OBJECT)?;
        fexit(&mut ebpf, "no_victim", "out_of_memory", function)?;
        tracepoint(&mut ebpf, "process_fork", "sched_process_fork")?;
        Ok(Forks {
            records: ring(&mut ebpf, "FORKS")?,
            exempt: map(&mut ebpf, "EXEMPT", HashMap::try_from)?,
            losses: map(&mut ebpf, "FORKS_LOST", PerCpuArray::try_from)?,
            counted: 0,
            _ebpf: ebpf,
        })
    }
}

/// The attached programs. Dropping it detaches them.
pub struct Forks {
    records: RingBuf<MapData>,
    exempt: HashMap<MapData, u64, u8>,
    losses: PerCpuArray<MapData, u64>,
    counted: u64,
    _ebpf: Ebpf,
}

impl Forks {
    /// Readable when there are records.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.records.as_fd()
    }
}

impl ForkSource for Forks {
    fn watch(&mut self, container: CgroupId) -> bool {
        let inserted = self.exempt.insert(container.0, 1, 0);
        inserted
            .inspect_err(|error| tracing::warn!(error = %Causes(error), "Cannot watch the forks of a container."))
            .is_ok()
    }

    fn forget(&mut self, container: CgroupId) {
        // It may not be there.
        let _ = self.exempt.remove(&container.0);
    }

    fn take(&mut self) -> Option<ForkEvent> {
        loop {
            let record = self.records.next()?;
            if let Some(event) = decode(&record) {
                return Some(event);
            }
        }
    }

    fn new_losses(&mut self) -> u64 {
        let Ok(values) = self.losses.get(&0, 0) else { return 0 };
        let total = values.iter().sum::<u64>();
        let new = total.saturating_sub(self.counted);
        self.counted = total;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::bytes_of;

    #[test]
    fn records_become_events_and_their_cuts_nothing() {
        let header = |kind: RecordKind, flags| Header { kind: kind as u32, flags, time: 9 };
        let fork = ForkRecord {
            header: header(RecordKind::Fork, flag::SHARES_MEMORY),
            container: 5,
            start_boottime: 7,
            tgid: 11,
            reserved: 0,
        };
        let forked = ForkEvent::Forked {
            container: CgroupId(5),
            pid: 11,
            start_boottime: 7,
            shares_memory: true,
        };
        let none = NoVictimRecord {
            header: header(RecordKind::NoVictim, 0),
            domain_cgroup: 3,
            trigger_cgroup: 4,
        };
        let no_victim = ForkEvent::NoVictim { time: Monotonic(9), domain: CgroupId(3) };
        for (bytes, event) in [(bytes_of(&fork), forked), (bytes_of(&none), no_victim)] {
            assert_eq!(decode(bytes), Some(event));
            for length in 0..bytes.len() {
                assert_eq!(decode(&bytes[..length]), None, "{length}");
            }
        }
        let other = Header { kind: RecordKind::Victim as u32, ..Header::default() };
        assert_eq!(decode(bytes_of(&other)), None);
    }
}
