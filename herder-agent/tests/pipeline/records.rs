//! Records as the eBPF programs write them, and a source that hands them in.

use bytemuck::bytes_of;
use herder_agent::inside::kernel::{
    probe::ProbeError,
    source::{ContainerOf, Descriptors, MOST_AT_ONCE, Polled, Queue, Source},
};
use herder_agent_ebpf::{
    CgroupRecord, DecisionRecord, ExitRecord, Header, Level, LevelsRecord, Loss, RecordKind,
    VictimRecord,
    candidates::{Candidate, CandidatesRecord, LARGEST},
    flag,
};
use herder_model::{arguments::VictimArguments, clock::Monotonic, oom::event::Traced};
use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex},
};

/// Pages of this size are what the sizes of victims are counted in.
pub(crate) const PAGE: u64 = 4096;

/// What the programs have written and the agent has not read yet.
#[derive(Default)]
struct Rings {
    kills: Vec<Vec<u8>>,
    cgroups: VecDeque<Vec<u8>>,
    losses: Vec<(Loss, u64)>,
    arguments: Vec<VictimArguments>,
    arguments_lost: u64,
    /// What was asked for last.
    arguments_asked: Option<bool>,
    arguments_refused: bool,
}

/// The test's end of a [`Recorded`].
#[derive(Clone, Default)]
pub(crate) struct Kernel(Arc<Mutex<Rings>>);

/// A source of recorded records, with these programs attached.
pub(crate) struct Recorded(Kernel, Traced);

impl Kernel {
    pub(crate) fn source(&self) -> Box<dyn Source> {
        let traced = Traced {
            decisions_since: Some(Monotonic::ZERO),
            kills: true,
            groups: true,
            exits: true,
            candidates: true,
            cgroups: true,
            ..Traced::default()
        };
        Box::new(Recorded(self.clone(), traced))
    }

    /// One whose functions cannot be traced.
    pub(crate) fn untraced(&self) -> Box<dyn Source> {
        let traced = Traced {
            signals_since: Some(Monotonic::ZERO),
            levels: true,
            exits: true,
            cgroups: true,
            ..Traced::default()
        };
        Box::new(Recorded(self.clone(), traced))
    }

    pub(crate) fn kill(&self, record: &[u8]) {
        self.0.lock().unwrap().kills.push(record.to_vec());
    }

    pub(crate) fn cgroup(&self, record: Vec<u8>) {
        self.0.lock().unwrap().cgroups.push_back(record);
    }

    pub(crate) fn lose(&self, loss: Loss) {
        self.0.lock().unwrap().losses.push((loss, 1));
    }

    pub(crate) fn read_arguments(&self, read: VictimArguments) {
        self.0.lock().unwrap().arguments.push(read);
    }

    pub(crate) fn lose_arguments(&self, times: u64) {
        self.0.lock().unwrap().arguments_lost = times;
    }

    /// Whether the kernel refuses the programs that read them.
    pub(crate) fn refuse_arguments(&self, refuses: bool) {
        self.0.lock().unwrap().arguments_refused = refuses;
    }

    /// Whether the programs for that were to be attached or detached last; none if neither.
    pub(crate) fn asked_for_arguments(&self) -> Option<bool> {
        self.0.lock().unwrap().arguments_asked
    }

    /// Whether some of it is unread.
    pub(crate) fn has_unread(&self) -> bool {
        let rings = self.0.lock().unwrap();
        !rings.kills.is_empty() || !rings.cgroups.is_empty()
    }
}

impl Source for Recorded {
    fn name(&self) -> &'static str {
        "ebpf"
    }

    fn traced(&self) -> Traced {
        self.1
    }

    fn descriptors(&self) -> Descriptors<'_> {
        Descriptors::default()
    }

    fn poll(&mut self, queue: Queue, _now: Monotonic, _container_of: ContainerOf<'_>) -> Polled {
        let mut rings = self.0.0.lock().unwrap();
        let mut polled = Polled::default();
        match queue {
            Queue::Kills { .. } => {
                mem::take(&mut rings.kills).iter().for_each(|record| polled.record(record, PAGE));
                polled.arguments = mem::take(&mut rings.arguments);
                polled.arguments_lost = mem::take(&mut rings.arguments_lost);
            }
            Queue::Cgroups => {
                let some = MOST_AT_ONCE.min(rings.cgroups.len());
                rings.cgroups.drain(..some).for_each(|record| polled.record(&record, PAGE));
                polled.more = !rings.cgroups.is_empty();
            }
        }
        polled
    }

    fn read_arguments(&mut self, wanted: bool) -> Result<(), ProbeError> {
        let mut rings = self.0.0.lock().unwrap();
        rings.arguments_asked = Some(wanted);
        if rings.arguments_refused { Err(ProbeError::OnlyCounts) } else { Ok(()) }
    }

    fn losses(&mut self) -> Vec<(Loss, u64)> {
        mem::take(&mut self.0.0.lock().unwrap().losses)
    }
}

fn header(kind: RecordKind, flags: u32, time: Monotonic) -> Header {
    Header { kind: kind as u32, flags, time: time.0 }
}

/// A process that a decision has killed: number `ns_pid` of its container's pid namespace, below
/// a parent in another cgroup.
pub(crate) fn victim(
    decision: u64,
    pid: u32,
    ns_pid: u32,
    cgroup: u64,
    time: Monotonic,
) -> VictimRecord {
    let flags = flag::DECISION | flag::KILLED | flag::PID_NS | flag::SIZES | flag::SCORE;
    VictimRecord {
        header: header(RecordKind::Victim, flags | flag::PARENT, time),
        decision,
        cgroup,
        parent_cgroup: u64::MAX,
        memory_cgroup: cgroup,
        start_boottime: u64::from(pid),
        trigger_cgroup: cgroup,
        tid: pid,
        tgid: pid,
        ns_pid,
        ns_level: 1,
        uid: 1000,
        oom_score_adj: 900,
        trigger_tid: 77,
        trigger_tgid: 77,
        anon_rss: 3,
        comm: *b"worker\0garbage!!",
        trigger_comm: *b"allocator\0\0\0\0\0\0\0",
        ..VictimRecord::default()
    }
}

/// The end of a decision about a limit: so many signals were sent and marks made.
pub(crate) fn decision(
    decision: u64,
    domain: u64,
    group: u64,
    (kills, marks): (u32, u32),
    time: Monotonic,
) -> DecisionRecord {
    DecisionRecord {
        header: header(RecordKind::Decision, flag::DOMAIN, time),
        decision,
        domain_cgroup: domain,
        group_cgroup: group,
        kills,
        marks,
    }
}

/// What the memory cgroups of the next victim say, from its own up to the root.
pub(crate) fn levels(upwards: &[Level], time: Monotonic) -> Vec<u8> {
    let mut record = LevelsRecord {
        header: header(RecordKind::Levels, flag::WHOLE, time),
        trigger_tid: 77,
        ..LevelsRecord::default()
    };
    record.levels[..upwards.len()].copy_from_slice(upwards);
    let length = size_of::<LevelsRecord>() - size_of_val(&record.levels[upwards.len()..]);
    bytes_of(&record)[..length].to_vec()
}

/// What a decision chose between in a cgroup that has a limit of 256 pages: processes of these
/// ids, each of so many pages.
pub(crate) fn candidates(decision: u64, cgroup: u64, processes: &[(u32, u64)]) -> Vec<u8> {
    let mut record = CandidatesRecord {
        header: header(RecordKind::Candidates, flag::USAGE | flag::WALK, Monotonic::ZERO),
        decision,
        usage: 250,
        limit: 256,
        seen: u32::try_from(processes.len()).unwrap(),
        kept: u32::try_from(processes.len()).unwrap(),
        ..CandidatesRecord::default()
    };
    for ((pid, pages), candidate) in processes.iter().zip(&mut record.candidates) {
        *candidate = Candidate {
            cgroup,
            anon_rss: *pages,
            tgid: *pid,
            flags: flag::SIZES | flag::SCORE,
            comm: *b"worker\0garbage!!",
            ..Candidate::default()
        };
    }
    let missing = LARGEST - processes.len();
    let length = size_of::<CandidatesRecord>() - missing * size_of::<Candidate>();
    bytes_of(&record)[..length].to_vec()
}

/// A killed process has no thread left.
pub(crate) fn exit(pid: u32, marked: Monotonic, time: Monotonic) -> ExitRecord {
    let header = header(RecordKind::Exit, 0, time);
    ExitRecord { header, marked: marked.0, tgid: pid, reserved: 0 }
}

/// A cgroup was made or removed.
pub(crate) fn cgroup(kind: RecordKind, id: u64, path: &str, time: Monotonic) -> Vec<u8> {
    let header = header(kind, flag::INSIDE, time);
    let record = CgroupRecord { header, cgroup: id, above: 0, reserved: 0 };
    [bytes_of(&record), path.as_bytes(), b"\0"].concat()
}
