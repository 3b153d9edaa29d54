//! Finds in the kernel's BTF what the programs need to know before loading.

use super::btf::{Btf, BtfError, Kind, TypeId};
use herder_agent_ebpf::layout::{ABSENT, KernelLayout};
use std::collections::HashSet;

/// What `oom:mark_victim` hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkArgument {
    Task,
    Pid,
    /// No BTF, or not the tracepoint that is known.
    Unknown,
}

/// The kernel's functions that are traced, those that it has, by their types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Functions {
    pub mark_oom_victim: Option<TypeId>,
    pub oom_kill_process: Option<TypeId>,
    pub oom_kill_process_inner: Option<TypeId>,
    pub print_oom_group: Option<TypeId>,
    pub out_of_memory: Option<TypeId>,
    /// `oom_evaluate_task()`.
    pub evaluate_task: Option<TypeId>,
}

/// The running kernel, as far as the programs depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelFacts {
    pub layout: KernelLayout,
    pub mark: MarkArgument,
    pub functions: Functions,
    /// The OOM killer of a cgroup does not see processes that exit, though their memory is not
    /// free yet (`css_task_iter_advance()`, kernel/cgroup/cgroup.c).
    pub hides_exiting: bool,
}

impl KernelFacts {
    pub const UNKNOWN: Self = Self {
        layout: KernelLayout::UNKNOWN,
        mark: MarkArgument::Unknown,
        functions: Functions {
            mark_oom_victim: None,
            oom_kill_process: None,
            oom_kill_process_inner: None,
            print_oom_group: None,
            out_of_memory: None,
            evaluate_task: None,
        },
        hides_exiting: false,
    };

    /// Reads them from a BTF blob. A field that is not there stays absent: the
    /// programs then leave out what depends on it.
    pub fn read(bytes: &[u8]) -> Result<Self, BtfError> {
        let btf = Btf::parse(bytes, &HashSet::from(NAMES))?;
        let mark = match btf.tracepoint_argument("mark_victim", 0) {
            Some(Kind::Pointer(_)) => MarkArgument::Task,
            Some(Kind::Int) => MarkArgument::Pid,
            _ => MarkArgument::Unknown,
        };
        Ok(Self {
            layout: layout(&btf),
            mark,
            functions: Functions {
                mark_oom_victim: btf.function("mark_oom_victim"),
                oom_kill_process: btf.function("oom_kill_process"),
                oom_kill_process_inner: btf.function("__oom_kill_process"),
                print_oom_group: btf.function("mem_cgroup_print_oom_group"),
                out_of_memory: btf.function("out_of_memory"),
                evaluate_task: btf.function("oom_evaluate_task"),
            },
            // That the walk over a cgroup leaves them out shows in no type. It was made to mend
            // what this function had changed, and is in all but the first kernels that have it.
            hides_exiting: btf.function("cgroup_task_dead").is_some(),
        })
    }

    /// Whether a victim can be described when it is marked; otherwise that has
    /// to wait until it exits. Where the mark has a thread id only, the task is that of the
    /// traced function, or of the signal before it.
    pub fn describes_at_mark(&self) -> bool {
        let layout = &self.layout;
        let essential = [
            layout.task_pid,
            layout.task_tgid,
            layout.task_group_leader,
            layout.task_cgroups,
            layout.css_set_dfl_cgrp,
            layout.cgroup_kn,
            layout.kernfs_node_id,
        ];
        self.mark != MarkArgument::Unknown && !essential.contains(&ABSENT)
    }

    /// Whether the memory cgroups of a victim can be read while it is marked.
    pub fn reads_levels(&self) -> bool {
        let layout = &self.layout;
        let essential = [
            layout.css_set_memory,
            layout.css_cgroup,
            layout.css_parent,
            layout.css_oom_group,
            layout.css_oom,
        ];
        self.describes_at_mark() && !essential.contains(&ABSENT)
    }
}

/// Every name that is looked up in BTF.
const NAMES: [&str; 28] = [
    "task_struct",
    "css_set",
    "cgroup",
    "cgroup_root",
    "cgroup_subsys_state",
    "memory_cgrp_id",
    "MEMCG_OOM",
    "kernfs_node",
    "cred",
    "signal_struct",
    "pid",
    "upid",
    "mm_struct",
    "percpu_counter",
    "oom_control",
    "mem_cgroup",
    "btf_trace_mark_victim",
    "mark_oom_victim",
    "oom_kill_process",
    "__oom_kill_process",
    "mem_cgroup_print_oom_group",
    "out_of_memory",
    "oom_evaluate_task",
    "MM_FILEPAGES",
    "MM_ANONPAGES",
    "MM_SHMEMPAGES",
    "MM_SWAPENTS",
    "cgroup_task_dead",
];

fn layout(btf: &Btf<'_>) -> KernelLayout {
    let offset = |structure: &str, path: &str| {
        btf.member(structure, path).map_or(ABSENT, |(offset, _)| offset)
    };
    let (mm_rss_stat, rss_stat_size) = rss_stat(btf).unwrap_or((ABSENT, ABSENT));
    KernelLayout {
        task_cgroups: offset("task_struct", "cgroups"),
        css_set_dfl_cgrp: offset("css_set", "dfl_cgrp"),
        cgroup_kn: offset("cgroup", "kn"),
        cgroup_root: offset("cgroup", "root"),
        cgroup_ancestors: offset("cgroup", "ancestors"),
        cgroup_ancestor_ids: offset("cgroup", "ancestor_ids"),
        cgroup_root_hierarchy_id: offset("cgroup_root", "hierarchy_id"),
        cgroup_self: offset("cgroup", "self"),
        cgroup_parent: offset("cgroup", "self.parent"),
        cgroup_level: offset("cgroup", "level"),
        css_set_memory: memory_of_css_set(btf).unwrap_or(ABSENT),
        css_cgroup: offset("cgroup_subsys_state", "cgroup"),
        css_parent: offset("cgroup_subsys_state", "parent"),
        css_oom_group: from_css(btf, "oom_group").map_or(ABSENT, |(offset, _)| offset),
        css_oom: count_of_oom(btf).unwrap_or(ABSENT),
        kernfs_node_id: offset("kernfs_node", "id"),
        task_pid: offset("task_struct", "pid"),
        task_tgid: offset("task_struct", "tgid"),
        task_group_leader: offset("task_struct", "group_leader"),
        task_real_parent: offset("task_struct", "real_parent"),
        task_start_boottime: offset("task_struct", "start_boottime"),
        task_comm: offset("task_struct", "comm"),
        task_real_cred: offset("task_struct", "real_cred"),
        cred_uid: offset("cred", "uid"),
        task_signal: offset("task_struct", "signal"),
        signal_oom_score_adj: offset("signal_struct", "oom_score_adj"),
        signal_live: offset("signal_struct", "live"),
        task_thread_pid: offset("task_struct", "thread_pid"),
        pid_level: offset("pid", "level"),
        pid_numbers: offset("pid", "numbers"),
        upid_size: btf.struct_size("upid").unwrap_or(ABSENT),
        upid_nr: offset("upid", "nr"),
        task_mm: offset("task_struct", "mm"),
        mm_total_vm: offset("mm_struct", "total_vm"),
        mm_rss_stat,
        rss_stat_size,
        rss_file: btf.enumerator("MM_FILEPAGES").unwrap_or(ABSENT),
        rss_anon: btf.enumerator("MM_ANONPAGES").unwrap_or(ABSENT),
        rss_shmem: btf.enumerator("MM_SHMEMPAGES").unwrap_or(ABSENT),
        oom_control_memcg: offset("oom_control", "memcg"),
        mem_cgroup_cgroup: offset("mem_cgroup", "css.cgroup"),
        task_flags: offset("task_struct", "flags"),
        mm_pgtables_bytes: offset("mm_struct", "pgtables_bytes.counter"),
        rss_swap: btf.enumerator("MM_SWAPENTS").unwrap_or(ABSENT),
        mem_cgroup_usage: offset("mem_cgroup", "memory.usage.counter"),
        mem_cgroup_limit: offset("mem_cgroup", "memory.max"),
        mem_cgroup_swap_usage: offset("mem_cgroup", "swap.usage.counter"),
        mem_cgroup_swap_limit: offset("mem_cgroup", "swap.max"),
        mm_arg_start: offset("mm_struct", "arg_start"),
        mm_arg_end: offset("mm_struct", "arg_end"),
    }
}

/// Where `css_set.subsys`, an array of pointers, has the memory controller.
fn memory_of_css_set(btf: &Btf<'_>) -> Option<u32> {
    let (array, kind) = btf.member("css_set", "subsys")?;
    let Kind::Array(pointer, _) = btf.kind(kind)? else { return None };
    let index = btf.enumerator("memory_cgrp_id")?;
    array.checked_add(index.checked_mul(btf.size(pointer)?)?)
}

/// Where a member of `mem_cgroup` is, seen from its `css`, which is what the rest of the kernel
/// has of it.
fn from_css(btf: &Btf<'_>, member: &str) -> Option<(u32, TypeId)> {
    let (css, _) = btf.member("mem_cgroup", "css")?;
    let (offset, kind) = btf.member("mem_cgroup", member)?;
    Some((offset.checked_sub(css)?, kind))
}

/// The same of the count of `oom` in `memory.events.local`, an array of `atomic_long_t`.
fn count_of_oom(btf: &Btf<'_>) -> Option<u32> {
    let (array, kind) = from_css(btf, "memory_events_local")?;
    let Kind::Array(element, _) = btf.kind(kind)? else { return None };
    array.checked_add(btf.enumerator("MEMCG_OOM")?.checked_mul(btf.size(element)?)?)
}

/// Offset of the first counter's value in `mm_struct`, and size of a counter.
/// Up to 6.1 it is a struct with an array of `atomic_long_t`, since 6.2 an array
/// of `struct percpu_counter` (f1a7941243c1, include/linux/mm_types.h).
fn rss_stat(btf: &Btf<'_>) -> Option<(u32, u32)> {
    let (offset, kind) = btf.member("mm_struct", "rss_stat")?;
    if let Kind::Array(element, _) = btf.kind(kind)? {
        let (count, _) = btf.member("percpu_counter", "count")?;
        return Some((offset.checked_add(count)?, btf.size(element)?));
    }
    let (count, array) = btf.member("mm_struct", "rss_stat.count")?;
    match btf.kind(array)? {
        Kind::Array(element, _) => Some((count, btf.size(element)?)),
        _ => None,
    }
}
