//! The wire records: the bytes that the eBPF programs put into the ring
//! buffers and that the agent decodes.
//!
//! They live here, and only here, so that both sides are compiled from the
//! same definition. Every record is `repr(C)`, begins with a [`Header`], has no
//! padding (the build fails otherwise: [`Pod`], and the asserts below) and is
//! written whole: a byte that a program could not fill is zero.
//!
//! Times are `CLOCK_MONOTONIC` nanoseconds (`bpf_ktime_get_ns`) unless a field
//! says otherwise. Cgroup ids are kernfs node ids, which are also the inode
//! numbers of the cgroup's directory on the v2 hierarchy.
#![no_std]

pub mod candidates;
pub mod layout;
pub mod rings;

use bytemuck::{Pod, Zeroable};

/// Bytes of a task's command name, with its terminating NUL
/// (`TASK_COMM_LEN`, include/linux/sched.h).
pub const COMM_LEN: usize = 16;

/// Longest cgroup path that a record can carry, with its terminating NUL
/// (`TRACE_CGROUP_PATH_LEN`, kernel/cgroup/cgroup-internal.h).
pub const PATH_LEN: usize = 1024;

/// Most bytes of a victim's command line that are handed over.
pub const ARGUMENTS_LEN: usize = 256;

/// Levels of cgroups below the root that matter: deeper ones are reported as those above them.
pub const LEVELS: usize = 32;

/// What a record is; the first field of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RecordKind {
    /// A [`VictimRecord`].
    Victim = 1,
    /// A [`DecisionRecord`].
    Decision = 2,
    /// An [`ExitRecord`].
    Exit = 3,
    /// A [`CgroupRecord`] for a cgroup that was made.
    CgroupMkdir = 4,
    /// A [`CgroupRecord`] for a cgroup that was removed.
    CgroupRmdir = 5,
    /// A [`LineageRecord`].
    Lineage = 6,
    /// A [`LevelsRecord`].
    Levels = 7,
    /// A [`ForkRecord`].
    Fork = 8,
    /// A [`NoVictimRecord`].
    NoVictim = 9,
    /// A [`candidates::CandidatesRecord`].
    Candidates = 10,
    /// An [`ArgumentsRecord`].
    Arguments = 11,
}

/// How every record begins.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Header {
    /// A [`RecordKind`], as its number.
    pub kind: u32,
    /// Which of the record's optional fields are filled: [`flag`] bits.
    pub flags: u32,
    /// When it happened.
    pub time: u64,
}

/// Bits of [`Header::flags`].
pub mod flag {
    /// The record belongs to the decision in its `decision` field. Without it
    /// the victim was marked outside of `oom_kill_process()`, or that function
    /// is not traced.
    pub const DECISION: u32 = 1 << 0;
    /// `__oom_kill_process()` was entered in this decision before the mark, so
    /// a signal was sent; without it, `task_will_free_mem()` held (mm/oom_kill.c).
    /// Without [`DECISION`]: the signal itself was seen right before the mark.
    pub const KILLED: u32 = 1 << 1;
    /// `DecisionRecord::domain_cgroup` is known; 0 then means the whole node.
    pub const DOMAIN: u32 = 1 << 2;
    /// The pid-namespace fields are filled.
    pub const PID_NS: u32 = 1 << 3;
    /// The memory sizes are filled.
    pub const SIZES: u32 = 1 << 4;
    /// `oom_score_adj` is filled.
    pub const SCORE: u32 = 1 << 5;
    /// `parent_cgroup` is filled.
    pub const PARENT: u32 = 1 << 6;
    /// The record was taken when the victim exited, not when it was marked:
    /// the route for kernels without usable BTF. `time` is still the mark's.
    pub const AT_EXIT: u32 = 1 << 7;
    /// The record's cgroup is the one that the agent's mount begins at, or is below it.
    /// Neither this nor [`OUTSIDE`] is set where that is unknown, or where the mount
    /// begins at the hierarchy's root, so that all cgroups are inside.
    pub const INSIDE: u32 = 1 << 8;
    /// The record's cgroup is above or beside what the agent's mount shows. Of a decision
    /// that is the one whose limit was hit.
    pub const OUTSIDE: u32 = 1 << 9;
    /// The levels of a [`LevelsRecord`](super::LevelsRecord) reach up to the root.
    pub const WHOLE: u32 = 1 << 10;
    /// The new process has the memory of the one that forked it, until it starts a program.
    pub const SHARES_MEMORY: u32 = 1 << 11;
    /// Memory and limit of the cgroup whose limit was hit are filled.
    pub const USAGE: u32 = 1 << 12;
    /// Its swap and the limit of that are filled.
    pub const SWAP: u32 = 1 << 13;
    /// The walk over the candidates was seen from its beginning.
    pub const WALK: u32 = 1 << 14;
    /// The command line was in memory, and is in the record.
    pub const READ: u32 = 1 << 15;
    /// It is longer than what is in the record.
    pub const CUT: u32 = 1 << 16;
}

/// A process that the kernel chose to die: one call of `trace_mark_victim()`.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct VictimRecord {
    /// Time of the mark.
    pub header: Header,
    /// The decision: when this call of `oom_kill_process()` began. `oom_lock`
    /// lets one run at a time, so no two have the same.
    pub decision: u64,
    /// Cgroup of the victim, from its own `task_struct`.
    pub cgroup: u64,
    /// Cgroup of the victim's parent process.
    pub parent_cgroup: u64,
    /// Cgroup that the victim's memory is charged to: its own, or the nearest above that
    /// has the memory controller; 0 if not known.
    pub memory_cgroup: u64,
    /// When the victim's thread group began, `CLOCK_BOOTTIME` nanoseconds.
    pub start_boottime: u64,
    /// Cgroup of the trigger, the task whose allocation failed.
    pub trigger_cgroup: u64,
    /// Thread id that was marked, in the initial pid namespace.
    pub tid: u32,
    /// Process id, in the initial pid namespace.
    pub tgid: u32,
    /// Process id in the victim's own pid namespace.
    pub ns_pid: u32,
    /// Depth of that pid namespace; 0 is the initial one.
    pub ns_level: u32,
    /// Real user id in the initial user namespace.
    pub uid: u32,
    /// `oom_score_adj`, −1000 to 1000.
    pub oom_score_adj: i32,
    /// Thread id of the trigger.
    pub trigger_tid: u32,
    /// Process id of the trigger.
    pub trigger_tgid: u32,
    /// Total virtual memory, pages.
    pub total_vm: u64,
    /// Resident anonymous memory, pages.
    pub anon_rss: u64,
    /// Resident file memory, pages.
    pub file_rss: u64,
    /// Resident shared memory, pages.
    pub shmem_rss: u64,
    /// Command name of the victim's thread-group leader.
    pub comm: [u8; COMM_LEN],
    /// Command name of the trigger.
    pub trigger_comm: [u8; COMM_LEN],
}

/// Which cgroups lie above that of a victim; comes before the victim, unless the last one
/// was in the same cgroup. Only as many of `above` are written as there are.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct LineageRecord {
    /// Time of the record.
    pub header: Header,
    /// The victim's cgroup.
    pub cgroup: u64,
    /// Ids of those above it from the root's child on.
    pub above: [u64; LEVELS],
}

/// What the memory cgroups of a victim say while it is marked, where functions cannot be
/// traced; comes before the victim. Only as many of `levels` are written as there are.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct LevelsRecord {
    /// Time of the record.
    pub header: Header,
    /// Thread id of the trigger.
    pub trigger_tid: u32,
    /// Unused; zero.
    pub reserved: u32,
    /// From the cgroup that the victim's memory is charged to upwards.
    pub levels: [Level; LEVELS],
}

/// One memory cgroup of a [`LevelsRecord`].
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Level {
    /// Its id.
    pub cgroup: u64,
    /// How often its own limit was hit and nothing could be reclaimed: `oom` of its
    /// `memory.events.local`.
    pub oom: u32,
    /// Its `memory.oom.group`.
    pub group: u32,
}

/// The end of one call of `oom_kill_process()`; comes after its victims.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct DecisionRecord {
    /// Time of the end.
    pub header: Header,
    /// The decision, as in [`VictimRecord::decision`].
    pub decision: u64,
    /// The memory cgroup whose limit was hit; 0 for the node.
    pub domain_cgroup: u64,
    /// The cgroup that was killed as a group; 0 if none was.
    pub group_cgroup: u64,
    /// Calls of `__oom_kill_process()` in this decision. The chosen victim of a
    /// group kill is counted twice, as the kernel visits it twice.
    pub kills: u32,
    /// Victims that were marked in this decision, whether or not their records
    /// could be submitted.
    pub marks: u32,
}

/// A marked process has no thread left alive.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct ExitRecord {
    /// Time of the exit.
    pub header: Header,
    /// Time of the process's first mark.
    pub marked: u64,
    /// Process id, in the initial pid namespace.
    pub tgid: u32,
    /// Unused; zero.
    pub reserved: u32,
}

/// A cgroup of the v2 hierarchy was made or removed. Followed by the path
/// with its NUL, as many bytes as the record is longer than this.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct CgroupRecord {
    /// Time of the event.
    pub header: Header,
    /// Id of the cgroup; 0 where the kernel has no BTF.
    pub cgroup: u64,
    /// With [`flag::INSIDE`], how many of the path's first components are above what the
    /// agent's mount shows.
    pub above: u32,
    /// Unused; zero.
    pub reserved: u32,
}

/// A process was forked with the `oom_score_adj` -1000 in a container whose init has been
/// given that.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct ForkRecord {
    /// Its time is 0: nothing asks for it, and the clock costs those who fork.
    pub header: Header,
    /// The container's cgroup. The process is in it or below it.
    pub container: u64,
    /// When the process began, `CLOCK_BOOTTIME` nanoseconds.
    pub start_boottime: u64,
    /// Process id, in the initial pid namespace.
    pub tgid: u32,
    /// Unused; zero.
    pub reserved: u32,
}

/// The OOM killer of a cgroup found no process that it may kill.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct NoVictimRecord {
    /// Time of the attempt.
    pub header: Header,
    /// The cgroup whose limit was hit.
    pub domain_cgroup: u64,
    /// Cgroup of the task that asked for memory.
    pub trigger_cgroup: u64,
}

/// The command line of a process that the kernel kills, at the delivery of the signal. Followed by
/// `length` bytes of it: arguments that end with a NUL each, or a title that the program has
/// written there.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct ArgumentsRecord {
    /// Time of the delivery. Its flags are [`flag::READ`] and [`flag::CUT`].
    pub header: Header,
    /// When the thread group began, `CLOCK_BOOTTIME` nanoseconds.
    pub start_boottime: u64,
    /// Process id, in the initial pid namespace.
    pub tgid: u32,
    /// At most [`ARGUMENTS_LEN`].
    pub length: u32,
}

/// Why the programs could not hand something over: indexes of the `LOSSES` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Loss {
    /// A victim did not fit into the ring buffer.
    VictimRingFull = 0,
    /// A decision did not fit into the ring buffer.
    DecisionRingFull = 1,
    /// An exit did not fit into the ring buffer.
    ExitRingFull = 2,
    /// A made or removed cgroup did not fit into the ring buffer.
    CgroupRingFull = 3,
    /// The map of marked processes was full: no exit will be seen.
    VictimMapFull = 4,
    /// The map of running decisions was full: the kill's limit is unknown.
    DecisionMapFull = 5,
    /// The map of victims that wait for their exit was full: the kill is lost.
    PendingMapFull = 6,
    /// A victim that waited for its exit was never seen to exit: the kill is lost.
    PendingStale = 7,
    /// What lies above a victim's cgroup did not fit into the ring buffer: the kill may have
    /// no known owner, or no known limit where functions cannot be traced.
    LineageRingFull = 8,
    /// The candidates of a decision would have taken the room of kills in the ring buffer.
    CandidatesRingFull = 9,
}

impl Loss {
    /// All of them, in the order of their indexes.
    pub const ALL: [Loss; 10] = [
        Loss::VictimRingFull,
        Loss::DecisionRingFull,
        Loss::ExitRingFull,
        Loss::CgroupRingFull,
        Loss::VictimMapFull,
        Loss::DecisionMapFull,
        Loss::PendingMapFull,
        Loss::PendingStale,
        Loss::LineageRingFull,
        Loss::CandidatesRingFull,
    ];

    /// Whether a kill, or a victim of one, is lost with it. Other losses take
    /// something from the report of a kill, not the kill itself.
    pub const fn loses_kill(self) -> bool {
        matches!(self, Loss::VictimRingFull | Loss::PendingMapFull | Loss::PendingStale)
    }
}

const _: () = {
    assert!(size_of::<Header>() == 16);
    assert!(size_of::<VictimRecord>() == 16 + 6 * 8 + 8 * 4 + 4 * 8 + 2 * COMM_LEN);
    assert!(size_of::<DecisionRecord>() == 16 + 3 * 8 + 2 * 4);
    assert!(size_of::<LineageRecord>() == 16 + 8 + 8 * LEVELS);
    assert!(size_of::<LevelsRecord>() == 16 + 2 * 4 + LEVELS * size_of::<Level>());
    assert!(size_of::<Level>() == 8 + 2 * 4);
    assert!(size_of::<ExitRecord>() == 16 + 8 + 2 * 4);
    assert!(size_of::<CgroupRecord>() == 16 + 8 + 2 * 4);
    assert!(size_of::<ForkRecord>() == 16 + 2 * 8 + 2 * 4);
    assert!(size_of::<NoVictimRecord>() == 16 + 2 * 8);
    assert!(size_of::<ArgumentsRecord>() == 16 + 8 + 2 * 4);
    // The ring buffer hands out records at multiples of 8 bytes.
    assert!(align_of::<VictimRecord>() == 8 && align_of::<DecisionRecord>() == 8);
    assert!(align_of::<ExitRecord>() == 8 && align_of::<CgroupRecord>() == 8);
};
