//! Where the fields that the programs read stand in the running kernel.
//!
//! rustc emits no CO-RE relocations, so the agent looks the offsets up in the
//! kernel's own BTF and hands them over as a read-only global before the
//! programs are loaded. Field layouts differ between patch releases: a number
//! that is not from the running kernel must never be used.

macro_rules! kernel_layout {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// Byte offsets (or sizes, where it says so), [`ABSENT`] if unknown.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(C)]
        pub struct KernelLayout {
            $($(#[$doc])* pub $field: u32,)*
        }

        impl KernelLayout {
            /// A kernel that nothing is known about.
            pub const UNKNOWN: Self = Self { $($field: ABSENT,)* };

            /// The fields as the words that stand in the programs' read-only data.
            pub fn words(&self) -> [u32; size_of::<Self>() / size_of::<u32>()] {
                [$(self.$field,)*]
            }
        }
    };
}

/// The field does not exist in this kernel, or the kernel has no BTF.
pub const ABSENT: u32 = u32::MAX;

kernel_layout! {
    /// `task_struct.cgroups`
    task_cgroups,
    /// `css_set.dfl_cgrp`: the task's cgroup on the v2 hierarchy
    css_set_dfl_cgrp,
    /// `cgroup.kn`
    cgroup_kn,
    /// `cgroup.root`
    cgroup_root,
    /// `cgroup.ancestors`: addresses by level, itself included (Linux 6.1)
    cgroup_ancestors,
    /// `cgroup.ancestor_ids`: their ids instead, before
    cgroup_ancestor_ids,
    /// `cgroup_root.hierarchy_id`; 0 is the v2 hierarchy
    cgroup_root_hierarchy_id,
    /// `cgroup.self`
    cgroup_self,
    /// `cgroup.self.parent`: the `self` of the cgroup above
    cgroup_parent,
    /// `cgroup.level`: how many are above it
    cgroup_level,
    /// The element of `css_set.subsys` that is the memory controller's
    css_set_memory,
    /// `cgroup_subsys_state.cgroup`
    css_cgroup,
    /// `cgroup_subsys_state.parent`; null at the root
    css_parent,
    /// `mem_cgroup.oom_group`, from `mem_cgroup.css` on
    css_oom_group,
    /// The element of `mem_cgroup.memory_events_local` that counts `oom`, from
    /// `mem_cgroup.css` on
    css_oom,
    /// `kernfs_node.id`
    kernfs_node_id,
    /// `task_struct.pid`
    task_pid,
    /// `task_struct.tgid`
    task_tgid,
    /// `task_struct.group_leader`
    task_group_leader,
    /// `task_struct.real_parent`
    task_real_parent,
    /// `task_struct.start_boottime`
    task_start_boottime,
    /// `task_struct.comm`
    task_comm,
    /// `task_struct.real_cred`
    task_real_cred,
    /// `cred.uid`
    cred_uid,
    /// `task_struct.signal`
    task_signal,
    /// `signal_struct.oom_score_adj`
    signal_oom_score_adj,
    /// `signal_struct.live`: threads that have not begun to exit
    signal_live,
    /// `task_struct.thread_pid`
    task_thread_pid,
    /// `pid.level`
    pid_level,
    /// `pid.numbers`
    pid_numbers,
    /// Size of `struct upid`, the element of `pid.numbers`
    upid_size,
    /// `upid.nr`
    upid_nr,
    /// `task_struct.mm`
    task_mm,
    /// `mm_struct.total_vm`
    mm_total_vm,
    /// `mm_struct.rss_stat`, down to the first counter's value
    mm_rss_stat,
    /// Size of one of those counters
    rss_stat_size,
    /// Index of `MM_FILEPAGES`
    rss_file,
    /// Index of `MM_ANONPAGES`
    rss_anon,
    /// Index of `MM_SHMEMPAGES`
    rss_shmem,
    /// `oom_control.memcg`: null for the node
    oom_control_memcg,
    /// `mem_cgroup.css.cgroup`
    mem_cgroup_cgroup,
    /// `task_struct.flags`
    task_flags,
    /// `mm_struct.pgtables_bytes.counter`
    mm_pgtables_bytes,
    /// Index of `MM_SWAPENTS`
    rss_swap,
    /// `mem_cgroup.memory.usage.counter`, pages
    mem_cgroup_usage,
    /// `mem_cgroup.memory.max`, pages
    mem_cgroup_limit,
    /// `mem_cgroup.swap.usage.counter`, pages
    mem_cgroup_swap_usage,
    /// `mem_cgroup.swap.max`, pages
    mem_cgroup_swap_limit,
    /// `mm_struct.arg_start`: where the command line is
    mm_arg_start,
    /// `mm_struct.arg_end`
    mm_arg_end,
}
