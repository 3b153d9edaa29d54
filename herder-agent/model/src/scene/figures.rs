//! What a cgroup's files say of its memory.

use crate::cgroup::{CgroupPath, counters::numbers};
use serde::Serialize;

/// Memory of a cgroup with all below it, bytes. What its kernel does not have is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Figures {
    pub cgroup: CgroupPath,
    /// `memory.current`.
    pub current: Option<u64>,
    /// `memory.peak` (Linux 5.19).
    pub peak: Option<u64>,
    /// `memory.swap.current`.
    pub swap: Option<u64>,
    /// `pids.current`: processes and threads.
    pub pids: Option<u64>,
    #[serde(flatten)]
    pub stat: Stat,
}

/// What `memory.stat` has, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stat {
    pub anon: Option<u64>,
    /// Page cache, tmpfs and shared memory included.
    pub file: Option<u64>,
    /// tmpfs and shared memory.
    pub shmem: Option<u64>,
    /// All of the kernel's for it. Before Linux 5.18 the sum of what that has by name.
    pub kernel: Option<u64>,
    /// Slab caches, a part of `kernel`.
    pub slab: Option<u64>,
    pub sock: Option<u64>,
    /// Page tables, a part of `kernel`.
    pub page_tables: Option<u64>,
    /// Page cache that is yet to be written.
    pub file_dirty: Option<u64>,
    /// Page cache that is being written.
    pub file_writeback: Option<u64>,
    /// What cannot be reclaimed, such as locked memory.
    pub unevictable: Option<u64>,
}

impl Stat {
    pub fn parse(text: &str) -> Self {
        let mut stat = Stat::default();
        let mut parts = None;
        for (name, bytes) in numbers(text) {
            let field = match name {
                "anon" => &mut stat.anon,
                "file" => &mut stat.file,
                "shmem" => &mut stat.shmem,
                "kernel" => &mut stat.kernel,
                "slab" => &mut stat.slab,
                "sock" => &mut stat.sock,
                "pagetables" => &mut stat.page_tables,
                "file_dirty" => &mut stat.file_dirty,
                "file_writeback" => &mut stat.file_writeback,
                "unevictable" => &mut stat.unevictable,
                _ => &mut None,
            };
            *field = Some(bytes);
            if matches!(name, "slab" | "kernel_stack" | "pagetables" | "percpu") {
                parts = Some(bytes.saturating_add(parts.unwrap_or(0)));
            }
        }
        stat.kernel = stat.kernel.or(parts);
        stat
    }

    /// Page cache of files, without tmpfs and shared memory.
    pub fn cache(&self) -> Option<u64> {
        Some(self.file?.saturating_sub(self.shmem.unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_stat_of_old_and_new_kernels() {
        // As 5.10 and 7.2 write it, in parts.
        let old = "anon 8192\nfile 40960\nkernel_stack 16384\npercpu 512\nsock 0\nshmem 4096\nfile_dirty 135168\nslab 1000\nworkingset_refault_anon 0\n";
        let stat = Stat::parse(old);
        assert_eq!((stat.anon, stat.shmem, stat.sock), (Some(8192), Some(4096), Some(0)));
        assert_eq!((stat.kernel, stat.page_tables), (Some(16384 + 512 + 1000), None));
        assert_eq!(stat.cache(), Some(40960 - 4096));
        let new = "anon 1\nfile 2\nkernel 900\nkernel_stack 3\npagetables 7\nslab 5\n";
        let stat = Stat::parse(new);
        assert_eq!((stat.kernel, stat.page_tables, stat.slab), (Some(900), Some(7), Some(5)));
        assert_eq!(Stat::parse("anon x\nnothing\n\nfile -1\n"), Stat::default());
    }
}
