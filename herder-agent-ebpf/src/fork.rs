//! What a container needs whose init is exempt from OOM kills (`protectInit: true`): what the
//! init starts is exempt too, and the agent has to know of it.
//!
//! An object of its own. Its programs run for every fork of the node, and its maps take memory,
//! so it is loaded only where a rule asks for it.
//!
//! Forks end at the score: only a process that is born with -1000 is looked at further. It
//! is found whichever process forks it, so no grandchild is missed.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "eBPF programs read kernel memory through helpers")]

#[macro_use]
#[expect(dead_code, reason = "the other objects have what is not used here")]
mod kernel;
#[expect(dead_code, reason = "the other objects have what is not used here")]
mod object;

use aya_ebpf::{
    helpers::bpf_get_current_cgroup_id,
    macros::{fexit, map, raw_tracepoint},
    maps::{HashMap, LruHashMap, PerCpuArray, RingBuf},
    programs::{FExitContext, RawTracePointContext},
};
use herder_agent_ebpf::{ForkRecord, Header, LEVELS, NoVictimRecord, RecordKind, flag, rings};
use kernel::{Address, LAYOUT, Task, oom_domain};
use object::{count_in, header};

/// Forks, and attempts of the OOM killer without a victim.
#[map]
static FORKS: RingBuf = RingBuf::with_byte_size(rings::FORKS, 0);

/// The containers whose init is exempt, by cgroup.
#[map]
static EXEMPT: HashMap<u64, u8> = HashMap::with_max_entries(1024, 0);

/// Records that did not fit into the ring buffer.
#[map]
static FORKS_LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// When an attempt without a victim was handed over last, by the cgroup whose limit was hit. The task
/// that asked for memory may ask again at once, without end.
#[map]
static LAST_NO_VICTIM: LruHashMap<u64, u64> = LruHashMap::with_max_entries(1024, 0);

/// The least time between two of one cgroup, nanoseconds.
const NO_VICTIM_EVERY: u64 = 20_000_000;

/// `OOM_SCORE_ADJ_MIN`, include/uapi/linux/oom.h.
const OOM_SCORE_ADJ_MIN: i32 = -1000;

/// match-proto: include/trace/events/sched.h:TP_PROTO(struct task_struct *parent, struct task_struct *child) [5.10, 6.1, 6.12, 7.2]
#[raw_tracepoint(tracepoint = "sched_process_fork")]
fn process_fork(ctx: RawTracePointContext) -> i32 {
    let child = Task(Address(ctx.arg(1)));
    if child.oom_score_adj() == Some(OOM_SCORE_ADJ_MIN) {
        exempt_fork(Task(Address(ctx.arg(0))), child);
    }
    0
}

/// Thread id and process id. They stand side by side in every kernel so far, and then one read
/// gets both.
#[inline(always)]
fn ids(task: Task) -> Option<(u32, u32)> {
    let (tid, tgid) = (offset!(task_pid), offset!(task_tgid));
    if tgid == tid.wrapping_add(size_of::<u32>() as u32) {
        return task.0.read(tid).map(|[tid, tgid]: [u32; 2]| (tid, tgid));
    }
    Some((task.tid()?, task.tgid()?))
}

/// Hands over a process that was born exempt, if it is in a container whose init is.
#[inline(always)]
fn exempt_fork(parent: Task, child: Task) {
    let Some((tid, tgid)) = ids(child) else { return };
    // A thread shares the score of its process.
    if tgid != tid {
        return;
    }
    let Some(container) = container_of(parent, child) else { return };
    let Some(start_boottime) = child.start_boottime() else { return };
    let shares = parent.memory_address() == child.memory_address();
    let flags = if shares { flag::SHARES_MEMORY } else { 0 };
    let record = ForkRecord {
        header: Header { kind: RecordKind::Fork as u32, flags, time: 0 },
        container,
        start_boottime,
        tgid,
        reserved: 0,
    };
    if FORKS.output::<ForkRecord>(&record, 0).is_err() {
        count_in(&FORKS_LOST, 0);
    }
}

/// The nearest container with an exempt init that a new process is in.
#[inline(always)]
fn container_of(parent: Task, child: Task) -> Option<u64> {
    // Nearly every process is born in the cgroup of its parent, which is the current task here
    // (`kernel_clone()`, kernel/fork.c). That one's id costs no reads.
    let own = if child.cgroups()? == parent.cgroups()? {
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_get_current_cgroup_id() }
    } else {
        child.cgroup()?.id()?
    };
    if is_exempt(own) {
        return Some(own);
    }
    let cgroup = child.cgroup()?;
    let level = cgroup.level()?;
    for up in 1..LEVELS as u32 {
        if up >= level {
            break;
        }
        let id = cgroup.above(level - up)?;
        if is_exempt(id) {
            return Some(id);
        }
    }
    None
}

#[inline(always)]
fn is_exempt(container: u64) -> bool {
    // SAFETY: only whether it is there is asked.
    unsafe { EXEMPT.get(&container) }.is_some()
}

/// match-proto: mm/oom_kill.c:bool out_of_memory(struct oom_control *oc) [5.10, 6.1, 6.12, 7.2]
#[fexit(function = "out_of_memory")]
fn no_victim(ctx: FExitContext) -> i32 {
    // What it returns comes after its one argument.
    let killed: u64 = ctx.arg(1);
    if killed & 0xff != 0 {
        return 0;
    }
    // Where the node is full, the kernel panics instead.
    let Some((domain_cgroup @ 1.., _)) = oom_domain(Address(ctx.arg(0))) else {
        return 0;
    };
    let header = header(RecordKind::NoVictim, 0);
    // SAFETY: it is copied at once. Of two that write at once, one more record is handed over.
    let before = unsafe { LAST_NO_VICTIM.get(&domain_cgroup) }.copied().unwrap_or_default();
    if header.time.wrapping_sub(before) < NO_VICTIM_EVERY {
        return 0;
    }
    // The map drops its oldest entry rather than refuse one.
    let _ = LAST_NO_VICTIM.insert(&domain_cgroup, &header.time, 0);
    // SAFETY: the helper has no preconditions.
    let trigger_cgroup = unsafe { bpf_get_current_cgroup_id() };
    let record = NoVictimRecord { header, domain_cgroup, trigger_cgroup };
    if FORKS.output::<NoVictimRecord>(&record, 0).is_err() {
        count_in(&FORKS_LOST, 0);
    }
    0
}
