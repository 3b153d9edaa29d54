//! The programs that read the command line of a victim when it dies. Loaded only where a rule has
//! `victimArguments`, and attached only as long as one has.

use super::{ARGUMENTS_OBJECT, KernelFacts, ProbeError, loader, map, program, refused, ring};
use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, PerCpuArray, RingBuf},
    programs::{RawTracePoint, raw_trace_point::RawTracePointLinkId},
    util::nr_cpus,
};
use bytemuck::pod_read_unaligned;
use herder_agent_ebpf::{ARGUMENTS_LEN, ArgumentsRecord, RecordKind, flag, layout::ABSENT, rings};
use herder_model::{
    arguments::{Arguments, ProcessKey, VictimArguments},
    clock::Monotonic,
};

/// The programs, and their tracepoints, in the order in which they are attached: what is sent is
/// of use only if its delivery is seen.
const PROGRAMS: [(&str, &str); 2] =
    [("kill_delivered", "signal_deliver"), ("kill_sent", "signal_generate")];

/// The maps of processes that the programs remember, with the least room that they have. The maps
/// forget what was used longest ago, and many kernels give each CPU that uses such a map 128 places at
/// once (`LOCAL_FREE_TARGET`, kernel/bpf/bpf_lru_list.c). With too few of them, CPUs take from each
/// other what is still needed.
const REMEMBERED: [(&str, u32); 2] = [("SENT", 1024), ("DELIVERED", 256)];

/// So many places there are for each CPU, and at most. One takes 64 bytes and its bucket 16
/// (kernel/bpf/hashtab.c), so both maps together take 40 KiB for each CPU, and 5 MiB at most.
const PLACES: (u32, u32) = (256, 32 * 1024);

/// So many of the shortest records fill the ring buffer, where each has a header of 8 bytes.
const RING_FULL: usize = rings::ARGUMENTS as usize / (size_of::<ArgumentsRecord>() + 8);

/// Decodes one record; none if it is not one.
pub fn decode(bytes: &[u8]) -> Option<VictimArguments> {
    let (head, rest) = bytes.split_at_checked(size_of::<ArgumentsRecord>())?;
    let record: ArgumentsRecord = pod_read_unaligned(head);
    if record.header.kind != RecordKind::Arguments as u32 {
        return None;
    }
    let length = usize::try_from(record.length).ok()?;
    let text = rest.get(..length).filter(|text| text.len() <= ARGUMENTS_LEN)?;
    let flags = record.header.flags;
    let read = (flags & flag::READ != 0).then(|| Arguments::new(text, flags & flag::CUT != 0));
    let process = ProcessKey { tgid: record.tgid, start_boottime: record.start_boottime };
    Some(VictimArguments { time: Monotonic(record.header.time), process, read })
}

/// The programs of this kernel, whether or not they are loaded.
pub struct ArgumentsProbe {
    facts: KernelFacts,
    /// It is made at the start: see [`loader`].
    loader: EbpfLoader<'static>,
    loaded: Option<Loaded>,
}

struct Loaded {
    records: RingBuf<MapData>,
    losses: PerCpuArray<MapData, u64>,
    counted: u64,
    /// Of those that are attached.
    links: Vec<(&'static str, RawTracePointLinkId)>,
    ebpf: Ebpf,
}

impl ArgumentsProbe {
    pub fn new(facts: KernelFacts) -> Self {
        let mut loader = loader();
        // The loader keeps what it is given for as long as it lives, which is as long as the agent.
        let words: &'static [u32] = Vec::leak(facts.layout.words().to_vec());
        loader.override_global("LAYOUT", words, true);
        // Where the CPUs cannot be counted, there is the least room.
        let cpus = nr_cpus().unwrap_or(1);
        for (map, least) in REMEMBERED {
            loader.map_max_entries(map, places(cpus, least));
        }
        ArgumentsProbe { facts, loader, loaded: None }
    }

    /// From now on arguments are read, or no longer.
    pub fn set(&mut self, wanted: bool) -> Result<(), ProbeError> {
        match (&mut self.loaded, wanted) {
            (None, false) => Ok(()),
            (Some(loaded), false) => loaded.detach(),
            (Some(loaded), true) => loaded.attach(),
            (None, true) => {
                let loaded = self.load()?;
                self.loaded.insert(loaded).attach()
            }
        }
    }

    fn load(&mut self) -> Result<Loaded, ProbeError> {
        if ARGUMENTS_OBJECT.is_empty() {
            return Err(ProbeError::Stub);
        }
        let layout = self.facts.layout;
        let needed = [
            layout.task_tgid,
            layout.task_group_leader,
            layout.task_start_boottime,
            layout.task_mm,
            layout.mm_arg_start,
            layout.mm_arg_end,
        ];
        if needed.contains(&ABSENT) {
            return Err(ProbeError::Missing("BTF of this kernel for its programs"));
        }
        let mut ebpf = self.loader.load(ARGUMENTS_OBJECT)?;
        for (name, _) in PROGRAMS {
            let program: &mut RawTracePoint = program(&mut ebpf, name)?;
            program.load().map_err(|error| refused(name, error, Ok(())))?;
        }
        Ok(Loaded {
            records: ring(&mut ebpf, "ARGUMENTS")?,
            losses: map(&mut ebpf, "ARGUMENTS_LOST", PerCpuArray::try_from)?,
            counted: 0,
            links: Vec::new(),
            ebpf,
        })
    }

    /// Takes what was read since the last call, or a full ring buffer of it if there is more: who
    /// makes the kernel kill processes in a loop must not keep the core here. Gives how many records
    /// were lost.
    pub fn read(&mut self, mut each: impl FnMut(VictimArguments)) -> u64 {
        let Some(loaded) = &mut self.loaded else { return 0 };
        for _ in 0..RING_FULL {
            let Some(record) = loaded.records.next() else { break };
            decode(&record).into_iter().for_each(&mut each);
        }
        // This is asked in each turn of the core, and costs a system call.
        if loaded.links.is_empty() {
            return 0;
        }
        let Ok(values) = loaded.losses.get(&0, 0) else { return 0 };
        let total = values.iter().sum::<u64>();
        let new = total.saturating_sub(loaded.counted);
        loaded.counted = total;
        new
    }
}

impl Loaded {
    fn attach(&mut self) -> Result<(), ProbeError> {
        if !self.links.is_empty() {
            return Ok(());
        }
        for (name, event) in PROGRAMS {
            let program: &mut RawTracePoint = program(&mut self.ebpf, name)?;
            match program.attach(event) {
                Ok(link) => self.links.push((name, link)),
                Err(error) => {
                    let error = refused(name, error, Ok(()));
                    return self.detach().and(Err(error));
                }
            }
        }
        Ok(())
    }

    /// Detaches both, also where one of them cannot be, and gives the first error.
    fn detach(&mut self) -> Result<(), ProbeError> {
        let mut result = Ok(());
        for (name, link) in self.links.drain(..) {
            let program = program::<RawTracePoint>(&mut self.ebpf, name);
            let detached = program.and_then(|program| {
                program.detach(link).map_err(|error| refused(name, error, Ok(())))
            });
            result = result.and(detached);
        }
        result
    }
}

/// How many processes a map remembers on a machine with so many possible CPUs.
fn places(cpus: usize, least: u32) -> u32 {
    let (each, most) = PLACES;
    u32::try_from(cpus).unwrap_or(u32::MAX).saturating_mul(each).clamp(least, most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::bytes_of;
    use herder_agent_ebpf::Header;

    fn record(flags: u32, text: &[u8]) -> Vec<u8> {
        let record = ArgumentsRecord {
            header: Header { kind: RecordKind::Arguments as u32, flags, time: 9 },
            start_boottime: 7,
            tgid: 11,
            length: u32::try_from(text.len()).unwrap(),
        };
        [bytes_of(&record), text].concat()
    }

    #[test]
    fn each_cpu_has_its_places() {
        assert_eq!([1, 4, 64, 128].map(|cpus| places(cpus, 1024)), [1024, 1024, 16_384, 32_768]);
        assert_eq!([1, 2, 8192, usize::MAX].map(|it| places(it, 256)), [256, 512, 32_768, 32_768]);
    }

    #[test]
    fn records_become_arguments_and_their_cuts_nothing() {
        let bytes = record(flag::READ | flag::CUT, b"a\0b");
        let read = decode(&bytes).unwrap();
        assert_eq!(read.process, ProcessKey { tgid: 11, start_boottime: 7 });
        let arguments = read.read.unwrap();
        assert_eq!((arguments.text().as_str(), arguments.is_cut()), ("a b", true));
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "{length}");
        }
        let whole = decode(&record(flag::READ, &[b'x'; ARGUMENTS_LEN])).unwrap().read.unwrap();
        assert_eq!((whole.text().len(), whole.is_cut()), (ARGUMENTS_LEN, false));
        assert_eq!(decode(&record(flag::READ, &[b'x'; ARGUMENTS_LEN + 1])), None);
        assert_eq!(decode(&record(0, b"")).unwrap().read, None, "it was not in memory");
        let mut other = bytes;
        other[0] = 1;
        assert_eq!(decode(&other), None);
    }
}
