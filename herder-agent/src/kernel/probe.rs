//! Attaching the eBPF programs and reading what they hand over.
//!
//! Only this module and the programs' crate name aya. Everything attaches as a
//! raw tracepoint or as fentry/fexit, by `BPF_RAW_TRACEPOINT_OPEN`, so that
//! CAP_BPF and CAP_PERFMON are enough: neither `perf_event_open` (CAP_SYS_ADMIN
//! where `perf_event_paranoid` is 3) nor tracefs is needed.

mod arguments;
mod aya_btf;
pub mod btf;
pub mod decode;
pub mod forks;
pub mod layout;
mod object;

pub use arguments::ArgumentsProbe;
pub use decode::DecodeError;
use layout::Functions;
pub use layout::{KernelFacts, MarkArgument};
use object::{ARGUMENTS_OBJECT, FORK_OBJECT, OBJECT};

use crate::kernel::clock::monotonic_now;
use aya::{
    Ebpf, EbpfError,
    maps::{MapData, MapError, PerCpuArray, RingBuf},
    programs::{FEntry, FExit, ProgramError, RawTracePoint},
};
use aya_btf::{loader, stand_in};
use aya_log::EbpfLogger;
use btf::TypeId;
use herder_agent_ebpf::Loss;
use herder_model::{causes::Causes, cgroup::CgroupId, oom::event::Traced};
use log::Log;
use std::{
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

/// Where the kernel shows its BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why the programs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(
        "this herder-agent was built without its eBPF programs; run `cargo xtask build-ebpf` and build it again"
    )]
    Stub,
    #[error(
        "cannot load the eBPF object (needs CAP_BPF and CAP_PERFMON, below Linux 5.11 also CAP_SYS_RESOURCE): {}", Causes(.0)
    )]
    Load(#[from] EbpfError),
    #[error(
        "cannot attach eBPF program {program} (needs CAP_BPF and CAP_PERFMON, and no lockdown of confidentiality): {}", Causes(&**source)
    )]
    Attach { program: &'static str, source: Box<ProgramError> },
    #[error("the eBPF object has no usable {0}; agent and programs are of different builds")]
    Missing(&'static str),
    #[error("kills are counted by memory.events, without eBPF")]
    OnlyCounts,
    #[error("cannot open the eBPF map {map}: {}", Causes(&**source))]
    Map { map: &'static str, source: Box<MapError> },
}

/// The attached programs. Dropping it detaches them.
pub struct Probe {
    pub traced: Traced,
    pub facts: KernelFacts,
    kills: RingBuf<MapData>,
    cgroups: RingBuf<MapData>,
    losses: PerCpuArray<MapData, u64>,
    counted: [u64; Loss::ALL.len()],
    arguments: ArgumentsProbe,
    /// Only in a debug build of the programs (`cargo xtask build-ebpf --log`).
    logger: Option<EbpfLogger<&'static dyn Log>>,
    _ebpf: Ebpf,
}

/// How to set the programs up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeOptions {
    /// Use the kernel's BTF. Without it everything takes the offset-free route.
    pub btf: bool,
    /// Trace the kernel's functions. Without them tracepoints and counts stand in.
    pub functions: bool,
    /// Size of the ring buffer of kills, bytes: a power of two of whole pages.
    pub kill_ring_bytes: Option<u32>,
    /// The cgroup that the agent's mount begins at. The kernel names cgroups by paths from
    /// the hierarchy's root, and includes those that the mount does not show.
    pub mount: CgroupId,
}

impl Probe {
    pub fn attach(options: ProbeOptions) -> Result<Self, ProbeError> {
        if OBJECT.is_empty() {
            return Err(ProbeError::Stub);
        }
        let facts = if options.btf { kernel_facts() } else { KernelFacts::UNKNOWN };
        let words = facts.layout.words();
        // Where the tracepoint gives a thread id, the exit is the second chance
        // for a mark whose task was not caught.
        let may_wait = !facts.describes_at_mark() || facts.mark == MarkArgument::Pid;
        let describe_at_exit = u32::from(may_wait);
        let mut loader = loader();
        loader.override_global("LAYOUT", &words[..], true).override_global(
            "DESCRIBE_AT_EXIT",
            &describe_at_exit,
            true,
        );
        loader.override_global("MOUNT", &options.mount.0, true);
        if let Some(bytes) = options.kill_ring_bytes {
            loader.map_max_entries("KILLS", bytes);
        }
        let mut ebpf = loader.load(OBJECT)?;
        let logger = logger(&mut ebpf);
        // Decisions first, and marks last of all, so that each finds the programs it relies on.
        let functions = if options.functions { facts.functions } else { Functions::default() };
        let mut traced = Traced { at_exit: may_wait, ..decisions(&mut ebpf, functions) };
        let is_framed = traced.decisions_since.is_some();
        let task_is_missing = facts.mark == MarkArgument::Pid
            && !functions.mark_oom_victim.is_some_and(|id| {
                is_framed && optional(fentry(&mut ebpf, "marking", "mark_oom_victim", id))
            });
        if !is_framed || task_is_missing {
            let has_signals = optional(tracepoint(&mut ebpf, "kill_signal", "signal_generate"));
            traced.signals_since = (!is_framed && has_signals).then(monotonic_now);
        }
        if !is_framed && facts.reads_levels() {
            traced.levels = optional(tracepoint(&mut ebpf, "victim_levels", "mark_victim"));
        }
        if may_wait {
            optional(tracepoint(&mut ebpf, "exit_lineage", "sched_process_exit"));
        }
        let exit = tracepoint(&mut ebpf, "process_exit", "sched_process_exit");
        traced.exits = if may_wait { exit.map(|()| true)? } else { optional(exit) };
        traced.cgroups = optional(tracepoint(&mut ebpf, "cgroup_mkdir", "cgroup_mkdir"))
            && optional(tracepoint(&mut ebpf, "cgroup_rmdir", "cgroup_rmdir"));
        optional(tracepoint(&mut ebpf, "victim_lineage", "mark_victim"));
        tracepoint(&mut ebpf, "mark_victim", "mark_victim")?;

        Ok(Self {
            traced,
            facts,
            kills: ring(&mut ebpf, "KILLS")?,
            cgroups: ring(&mut ebpf, "CGROUPS")?,
            losses: map(&mut ebpf, "LOSSES", PerCpuArray::try_from)?,
            counted: [0; Loss::ALL.len()],
            arguments: ArgumentsProbe::new(facts),
            logger,
            _ebpf: ebpf,
        })
    }

    /// Readable when there is something in the ring buffers: kills, cgroups.
    pub fn rings(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.kills.as_fd(), self.cgroups.as_fd())
    }

    /// Takes what is in the ring buffer of kills, as far as it is there now.
    pub fn read_kills(&mut self, mut each: impl FnMut(&[u8])) {
        while let Some(record) = self.kills.next() {
            each(&record);
        }
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// What reads the arguments of victims, where a rule asks for them.
    pub fn arguments(&mut self) -> &mut ArgumentsProbe {
        &mut self.arguments
    }

    /// Takes so many of what is in the ring buffer of cgroups. Returns whether that was all.
    pub fn read_cgroups(&mut self, most: usize, mut each: impl FnMut(&[u8])) -> bool {
        for _ in 0..most {
            let Some(record) = self.cgroups.next() else { return true };
            each(&record);
        }
        false
    }

    /// What the programs lost since the last call, by reason.
    pub fn new_losses(&mut self) -> Vec<(Loss, u64)> {
        let mut new = Vec::new();
        for (loss, counted) in Loss::ALL.into_iter().zip(&mut self.counted) {
            let total = match self.losses.get(&(loss as u32), 0) {
                Ok(values) => values.iter().sum::<u64>(),
                Err(error) => {
                    tracing::warn!(error = %Causes(&error), ?loss, "Cannot read a loss counter.");
                    continue;
                }
            };
            if total > *counted {
                new.push((loss, total - *counted));
                *counted = total;
            }
        }
        new
    }
}

/// Frames the kernel's decisions, if its functions can be traced. The end comes first, which
/// shows whether they can, and the beginning last, so that a decision which is seen to begin is
/// seen whole.
fn decisions(ebpf: &mut Ebpf, functions: Functions) -> Traced {
    const FRAME: &str = "oom_kill_process";
    let Some(frame) = functions.oom_kill_process else { return Traced::default() };
    if !optional(fexit(ebpf, "decision_end", FRAME, frame)) {
        return Traced::default();
    }
    let mut inner = |program, name, function: Option<TypeId>| {
        function.is_some_and(|id| optional(fentry(ebpf, program, name, id)))
    };
    let kills = inner("decision_kill", "__oom_kill_process", functions.oom_kill_process_inner);
    let groups = inner("decision_group", "mem_cgroup_print_oom_group", functions.print_oom_group);
    let candidates = candidates(ebpf, functions);
    if !optional(fentry(ebpf, "decision_begin", FRAME, frame)) {
        return Traced::default();
    }
    let decisions_since = Some(monotonic_now());
    Traced { decisions_since, kills, groups, candidates, ..Traced::default() }
}

/// What the running kernel offers; nothing, if it has no BTF.
pub fn kernel_facts() -> KernelFacts {
    let read = |path: &Path| {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        KernelFacts::read(&bytes).map_err(|error| error.to_string())
    };
    read(Path::new(VMLINUX)).unwrap_or_else(|error| {
        tracing::warn!(path = VMLINUX, %error, "No BTF; victims are described when they exit.");
        KernelFacts::UNKNOWN
    })
}

/// Attaches the programs that see the candidates: the beginning of a walk last, so that one which
/// is seen to begin is seen whole.
fn candidates(ebpf: &mut Ebpf, functions: Functions) -> bool {
    let Functions { out_of_memory, evaluate_task, .. } = functions;
    out_of_memory.zip(evaluate_task).is_some_and(|(begin, each)| {
        optional(fentry(ebpf, "walk_candidate", "oom_evaluate_task", each))
            && optional(fentry(ebpf, "walk_begin", "out_of_memory", begin))
    })
}

fn optional(result: Result<(), ProbeError>) -> bool {
    result
        .inspect_err(|error| tracing::warn!(%error, "An optional eBPF program is not attached."))
        .is_ok()
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, ProbeError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program>,
{
    let program = ebpf.program_mut(name).ok_or(ProbeError::Missing(name))?;
    program.try_into().map_err(|_| ProbeError::Missing(name))
}

/// Of a program that is refused nothing stays loaded. One that was not even loaded cannot be
/// unloaded, which is no fault.
fn refused(
    program: &'static str,
    source: ProgramError,
    _unloaded: Result<(), ProgramError>,
) -> ProbeError {
    ProbeError::Attach { program, source: Box::new(source) }
}

fn tracepoint(ebpf: &mut Ebpf, name: &'static str, event: &str) -> Result<(), ProbeError> {
    let program: &mut RawTracePoint = program(ebpf, name)?;
    let attached = program.load().and_then(|()| program.attach(event));
    attached.map(drop).map_err(|error| refused(name, error, program.unload()))
}

fn fentry(
    ebpf: &mut Ebpf,
    name: &'static str,
    function: &str,
    id: TypeId,
) -> Result<(), ProbeError> {
    let program: &mut FEntry = program(ebpf, name)?;
    let loaded = stand_in(function, id).map_err(ProgramError::from);
    let loaded = loaded.and_then(|btf| program.load(function, &btf));
    let attached = loaded.and_then(|()| program.attach());
    attached.map(drop).map_err(|error| refused(name, error, program.unload()))
}

fn fexit(
    ebpf: &mut Ebpf,
    name: &'static str,
    function: &str,
    id: TypeId,
) -> Result<(), ProbeError> {
    let program: &mut FExit = program(ebpf, name)?;
    let loaded = stand_in(function, id).map_err(ProgramError::from);
    let loaded = loaded.and_then(|btf| program.load(function, &btf));
    let attached = loaded.and_then(|()| program.attach());
    attached.map(drop).map_err(|error| refused(name, error, program.unload()))
}

/// What the programs log, if they were built to. They log with each kill, so it
/// is read with the kills.
fn logger(ebpf: &mut Ebpf) -> Option<EbpfLogger<&'static dyn Log>> {
    ebpf.map("AYA_LOGS")?;
    EbpfLogger::init(ebpf)
        .inspect_err(|error| tracing::warn!(error = %Causes(error), "The log of the eBPF programs is not shown."))
        .ok()
}

fn ring(ebpf: &mut Ebpf, name: &'static str) -> Result<RingBuf<MapData>, ProbeError> {
    map(ebpf, name, RingBuf::try_from)
}

fn map<T>(
    ebpf: &mut Ebpf,
    name: &'static str,
    open: impl FnOnce(aya::maps::Map) -> Result<T, MapError>,
) -> Result<T, ProbeError> {
    let map = ebpf.take_map(name).ok_or(ProbeError::Missing(name))?;
    open(map).map_err(|source| ProbeError::Map { map: name, source: Box::new(source) })
}
