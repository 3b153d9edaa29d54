//! Reads of kernel memory by the offsets that the agent found in BTF.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use herder_agent_ebpf::{
    COMM_LEN, Level, flag,
    layout::{ABSENT, KernelLayout},
};

/// Overwritten by the agent before the programs are loaded.
#[unsafe(no_mangle)]
pub(crate) static LAYOUT: KernelLayout = KernelLayout::UNKNOWN;

/// Id of the cgroup that the agent's mount begins at. Overwritten like [`LAYOUT`].
#[unsafe(no_mangle)]
static MOUNT: u64 = HIERARCHY_ROOT;

/// Id of the hierarchy's own root (`cgroup_setup_root()`, kernel/cgroup/cgroup.c).
const HIERARCHY_ROOT: u64 = 1;

/// How far up it is looked. A path of [`herder_agent_ebpf::PATH_LEN`] has no more levels.
const MOST_LEVELS: u32 = 512;

/// The value of one field of [`LAYOUT`]. Volatile, because the compiler would
/// otherwise fold in the value from this file.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: the global lives for ever and is only written before loading.
        unsafe { core::ptr::read_volatile(&raw const LAYOUT.$field) }
    };
}

/// Address of something in the kernel; 0 is null.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address(pub(crate) u64);

impl Address {
    /// Reads a value at an offset. `None` where the field does not exist, the
    /// address is null, or the memory cannot be read.
    #[inline(always)]
    pub(crate) fn read<T: Copy>(self, offset: u32) -> Option<T> {
        if offset == ABSENT || self.0 == 0 {
            return None;
        }
        let source = self.0.wrapping_add(u64::from(offset)) as *const T;
        // SAFETY: the helper checks the address and copies, or fails.
        unsafe { bpf_probe_read_kernel(source) }.ok()
    }

    #[inline(always)]
    fn follow(self, offset: u32) -> Option<Self> {
        self.read::<u64>(offset).filter(|address| *address != 0).map(Self)
    }
}

/// Sizes of a process's memory, pages.
pub(crate) struct Pages {
    pub(crate) total_vm: u64,
    pub(crate) anon: u64,
    pub(crate) file: u64,
    pub(crate) shmem: u64,
}

/// Memory of a process as the OOM killer weighs it (`oom_badness()`, mm/oom_kill.c).
pub(crate) struct Footprint {
    pub(crate) anon: u64,
    pub(crate) file: u64,
    pub(crate) shmem: u64,
    pub(crate) swap: u64,
    /// Bytes; all else is pages.
    pub(crate) page_tables: u64,
    /// All of it.
    pub(crate) size: u64,
}

/// `PF_KTHREAD`, include/linux/sched.h (5.10 to 7.2).
const KERNEL_THREAD: u32 = 0x0020_0000;

/// Bytes of a page table that count as one page beside the others.
const PAGE_SHIFT: u32 = 12;

/// A `struct task_struct`.
#[derive(Clone, Copy)]
pub(crate) struct Task(pub(crate) Address);

impl Task {
    #[inline(always)]
    pub(crate) fn tid(self) -> Option<u32> {
        self.0.read(offset!(task_pid))
    }

    #[inline(always)]
    pub(crate) fn tgid(self) -> Option<u32> {
        self.0.read(offset!(task_tgid))
    }

    #[inline(always)]
    pub(crate) fn leader(self) -> Option<Self> {
        self.0.follow(offset!(task_group_leader)).map(Self)
    }

    #[inline(always)]
    pub(crate) fn parent(self) -> Option<Self> {
        self.0.follow(offset!(task_real_parent)).map(Self)
    }

    #[inline(always)]
    pub(crate) fn start_boottime(self) -> Option<u64> {
        self.0.read(offset!(task_start_boottime))
    }

    #[inline(always)]
    pub(crate) fn comm(self) -> Option<[u8; COMM_LEN]> {
        self.0.read(offset!(task_comm))
    }

    #[inline(always)]
    pub(crate) fn uid(self) -> Option<u32> {
        self.0.follow(offset!(task_real_cred))?.read(offset!(cred_uid))
    }

    #[inline(always)]
    pub(crate) fn oom_score_adj(self) -> Option<i32> {
        let adj: i16 = self.0.follow(offset!(task_signal))?.read(offset!(signal_oom_score_adj))?;
        Some(i32::from(adj))
    }

    /// Threads of the process that have not begun to exit.
    #[inline(always)]
    pub(crate) fn live_threads(self) -> Option<i32> {
        self.0.follow(offset!(task_signal))?.read(offset!(signal_live))
    }

    /// Address of the set of its cgroups, one of each hierarchy. Tasks with the same set are in the
    /// same cgroups.
    #[inline(always)]
    pub(crate) fn cgroups(self) -> Option<Address> {
        self.0.follow(offset!(task_cgroups))
    }

    /// The cgroup on the v2 hierarchy: `task_dfl_cgroup()`, the same that
    /// `bpf_get_current_cgroup_id()` gives (include/linux/cgroup.h, 5.10 to 7.2).
    #[inline(always)]
    pub(crate) fn cgroup(self) -> Option<Cgroup> {
        self.cgroups()?.follow(offset!(css_set_dfl_cgrp)).map(Cgroup)
    }

    /// Id of the cgroup that its memory is charged to: `css_set.subsys` has the state that
    /// is in effect, which is an ancestor's where its own cgroup is threaded or lacks the
    /// controller (`find_existing_css_set()`, kernel/cgroup/cgroup.c).
    #[inline(always)]
    pub(crate) fn memory_cgroup(self) -> Option<u64> {
        self.memory_state()?.cgroup()
    }

    /// The memory controller's state that is in effect for it, see [`Self::memory_cgroup`].
    #[inline(always)]
    pub(crate) fn memory_state(self) -> Option<MemoryState> {
        self.cgroups()?.follow(offset!(css_set_memory)).map(MemoryState)
    }

    /// Process id in the task's own pid namespace, and the depth of that. Only
    /// right for a thread-group leader: other threads have ids of their own.
    #[inline(always)]
    pub(crate) fn ns_pid(self) -> Option<(u32, u32)> {
        let pid = self.0.follow(offset!(task_thread_pid))?;
        let level: u32 = pid.read(offset!(pid_level))?;
        let (numbers, size, nr) = (offset!(pid_numbers), offset!(upid_size), offset!(upid_nr));
        if numbers == ABSENT || size == ABSENT || nr == ABSENT {
            return None;
        }
        // `MAX_PID_NS_LEVEL` is 32 (include/linux/pid_namespace.h).
        let element = numbers + (level & 63) * size + nr;
        Some((pid.read(element)?, level))
    }

    /// Address of its memory's description, by which processes that share memory are known.
    #[inline(always)]
    pub(crate) fn memory_address(self) -> Option<Address> {
        self.0.follow(offset!(task_mm))
    }

    #[inline(always)]
    pub(crate) fn memory(self) -> Option<Pages> {
        let mm = self.memory_address()?;
        Some(Pages {
            total_vm: mm.read(offset!(mm_total_vm))?,
            anon: counter(mm, offset!(rss_anon))?,
            file: counter(mm, offset!(rss_file))?,
            shmem: counter(mm, offset!(rss_shmem))?,
        })
    }

    /// None without an address space, which a kernel thread does not have, nor a process of which
    /// the first thread has exited. What a kernel does not count is 0.
    #[inline(always)]
    pub(crate) fn footprint(self) -> Option<Footprint> {
        let mm = self.0.follow(offset!(task_mm))?;
        let anon = counter(mm, offset!(rss_anon))?;
        let file = counter(mm, offset!(rss_file))?;
        let shmem = counter(mm, offset!(rss_shmem))?;
        let swap = counter(mm, offset!(rss_swap)).unwrap_or(0);
        let page_tables: u64 = mm.read(offset!(mm_pgtables_bytes)).unwrap_or(0);
        let size = anon + file + shmem + swap + (page_tables >> PAGE_SHIFT);
        Some(Footprint { anon, file, shmem, swap, page_tables, size })
    }

    #[inline(always)]
    pub(crate) fn is_kernel_thread(self) -> bool {
        self.0.read::<u32>(offset!(task_flags)).is_some_and(|flags| flags & KERNEL_THREAD != 0)
    }
}

/// A counter of a `struct mm_struct`, pages.
#[inline(always)]
fn counter(mm: Address, index: u32) -> Option<u64> {
    let (rss, size) = (offset!(mm_rss_stat), offset!(rss_stat_size));
    if rss == ABSENT || size == ABSENT || index == ABSENT {
        return None;
    }
    // A per-CPU counter may lag behind by a few pages and be negative;
    // `get_mm_counter()` takes 0 for that, and so does this.
    let pages: i64 = mm.read(rss + (index & 15) * size)?;
    Some(if pages < 0 { 0 } else { pages as u64 })
}

/// A `struct cgroup`.
#[derive(Clone, Copy)]
pub(crate) struct Cgroup(pub(crate) Address);

impl Cgroup {
    /// `cgroup_id()`, include/linux/cgroup.h.
    #[inline(always)]
    pub(crate) fn id(self) -> Option<u64> {
        self.0.follow(offset!(cgroup_kn))?.read(offset!(kernfs_node_id))
    }

    /// How many others are above it.
    #[inline(always)]
    pub(crate) fn level(self) -> Option<u32> {
        self.0.read(offset!(cgroup_level))
    }

    /// The id of the one above it of this level.
    #[inline(always)]
    pub(crate) fn above(self, level: u32) -> Option<u64> {
        let at = |first: u32| if first == ABSENT { ABSENT } else { first + level * 8 };
        match self.0.follow(at(offset!(cgroup_ancestors))) {
            Some(above) => Cgroup(above).id(),
            None => self.0.read(at(offset!(cgroup_ancestor_ids))),
        }
    }

    /// Number of its hierarchy: 0 for v2, others for mounted v1 controllers.
    #[inline(always)]
    pub(crate) fn hierarchy(self) -> Option<i32> {
        self.0.follow(offset!(cgroup_root))?.read(offset!(cgroup_root_hierarchy_id))
    }

    /// The cgroup itself, unless it is known to be one of v1: ids of those hierarchies
    /// mean other cgroups on v2.
    #[inline(always)]
    fn on_v2(self) -> Option<Self> {
        matches!(self.hierarchy(), Some(0) | None).then_some(self)
    }

    /// `cgroup_parent()`, include/linux/cgroup.h.
    #[inline(always)]
    fn parent(self) -> Option<Self> {
        let (parent, own) = (offset!(cgroup_parent), offset!(cgroup_self));
        if own == ABSENT {
            return None;
        }
        let parent = self.0.follow(parent)?;
        Some(Self(Address(parent.0.wrapping_sub(u64::from(own)))))
    }

    /// Whether the agent's mount shows it: one of [`flag::INSIDE`], [`flag::OUTSIDE`] and 0,
    /// and how many levels are above the mount.
    #[inline(always)]
    pub(crate) fn place(self) -> (u32, u32) {
        // SAFETY: the global lives for ever and is only written before loading.
        let mount = unsafe { core::ptr::read_volatile(&raw const MOUNT) };
        if mount == HIERARCHY_ROOT {
            return (0, 0);
        }
        let mut at = self;
        for _ in 0..MOST_LEVELS {
            match at.id() {
                Some(id) if id == mount => {
                    return match at.0.read(offset!(cgroup_level)) {
                        Some(level) => (flag::INSIDE, level),
                        None => (0, 0),
                    };
                }
                Some(HIERARCHY_ROOT) => return (flag::OUTSIDE, 0),
                Some(_) => {}
                None => return (0, 0),
            }
            match at.parent() {
                Some(parent) => at = parent,
                None => return (0, 0),
            }
        }
        (0, 0)
    }
}

/// The `css` of a `struct mem_cgroup`.
#[derive(Clone, Copy)]
pub(crate) struct MemoryState(Address);

impl MemoryState {
    /// Id of its cgroup; none if it is not on v2.
    #[inline(always)]
    pub(crate) fn cgroup(self) -> Option<u64> {
        Cgroup(self.0.follow(offset!(css_cgroup))?).on_v2()?.id()
    }

    /// What its cgroup says while a kill goes on.
    #[inline(always)]
    pub(crate) fn level(self) -> Option<Level> {
        let group: u8 = self.0.read(offset!(css_oom_group))?;
        // Of the count only that it grows matters.
        let oom: u64 = self.0.read(offset!(css_oom))?;
        Some(Level { cgroup: self.cgroup()?, oom: oom as u32, group: u32::from(group != 0) })
    }

    /// The one above it, or that it is the root's; `None` if that cannot be read.
    #[inline(always)]
    pub(crate) fn parent(self) -> Option<Option<Self>> {
        match self.0.read::<u64>(offset!(css_parent))? {
            0 => Some(None),
            parent => Some(Some(Self(Address(parent)))),
        }
    }
}

/// The cgroup of a `struct mem_cgroup`; none if it is not on v2.
#[inline(always)]
pub(crate) fn mem_cgroup(memcg: Address) -> Option<Cgroup> {
    Cgroup(memcg.follow(offset!(mem_cgroup_cgroup))?).on_v2()
}

/// The memory cgroup of a `struct oom_control`, as id and [`Cgroup::place`]: 0 is the node.
#[inline(always)]
pub(crate) fn oom_domain(control: Address) -> Option<(u64, u32)> {
    match control.read::<u64>(offset!(oom_control_memcg))? {
        0 => Some((0, 0)),
        memcg => {
            let cgroup = mem_cgroup(Address(memcg))?;
            Some((cgroup.id()?, cgroup.place().0))
        }
    }
}

/// What is charged to a cgroup, and its limit, pages.
type Charge = Option<(u64, u64)>;

/// Memory and swap of the memory cgroup of a `struct oom_control`; none of the node.
#[inline(always)]
pub(crate) fn memory_of_domain(control: Address) -> (Charge, Charge) {
    let Some(memcg) = control.follow(offset!(oom_control_memcg)) else { return (None, None) };
    let charge = |usage: u32, limit: u32| Some((memcg.read(usage)?, memcg.read(limit)?));
    (
        charge(offset!(mem_cgroup_usage), offset!(mem_cgroup_limit)),
        charge(offset!(mem_cgroup_swap_usage), offset!(mem_cgroup_swap_limit)),
    )
}
