//! The processes of the node, as its procfs shows them: which one is a container's init, and its
//! `oom_score_adj`.
//!
//! The only code of the agent that writes below a procfs, and all that it writes there is
//! `oom_score_adj`, by its own name and by its older one, `oom_adj`. A process is opened once, by
//! its directory, and compared by when it began: a process id that was given away again is never
//! written to.

mod process;
mod text;

pub use process::{HostProcess, ProcessError, drop_right};
pub use text::Lineage;

use crate::kernel::process::has;
use rustix::{
    fs::{Mode, OFlags, StatVfsMountFlags, fstatfs, fstatvfs, openat},
    io::Errno,
    thread::CapabilitySet,
    time::{ClockId, clock_gettime},
};
use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// `PROC_SUPER_MAGIC`, include/uapi/linux/magic.h.
const PROC_MAGIC: i64 = 0x9fa0;

/// `PF_KTHREAD`, include/linux/sched.h.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Why the node's processes cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HostProcError {
    #[error("cannot open {path}: {source}; give the node's /proc with --proc-root")]
    Open { path: PathBuf, source: io::Error },
    /// Something else is there.
    #[error("{0} is no procfs; give the node's /proc with --proc-root")]
    Other(PathBuf),
    /// That of a container.
    #[error(
        "{0} shows the processes of a container, not of the node; mount the node's /proc (component protect-init) and name it with --proc-root"
    )]
    Namespace(PathBuf),
    #[error("{0} is mounted read-only; mount it read-write")]
    ReadOnly(PathBuf),
    /// The right to lower a score is missing.
    #[error("CAP_SYS_RESOURCE is missing, without which no oom_score_adj can be lowered")]
    NoRight,
}

/// The procfs of the node's first pid namespace.
#[derive(Debug)]
pub struct HostProc {
    root: OwnedFd,
    path: PathBuf,
}

impl HostProc {
    /// Opens it, and checks that it is the node's and that scores can be lowered.
    pub fn open(path: &Path) -> Result<Self, HostProcError> {
        let found = Self::of_the_node(path)?;
        if !has(CapabilitySet::SYS_RESOURCE) {
            return Err(HostProcError::NoRight);
        }
        Ok(found)
    }

    /// Opens it, and checks that it is the node's and that scores can be raised.
    pub fn of_the_node(path: &Path) -> Result<Self, HostProcError> {
        let found = Self::open_any(path)?;
        if fstatfs(&found.root).map_err(|error| failed(path, error))?.f_type != PROC_MAGIC {
            return Err(HostProcError::Other(path.into()));
        }
        // Kernel threads are in the first pid namespace only, and the second process is one.
        let second = found.process(2).ok().and_then(|process| process.flags());
        if second.is_none_or(|flags| flags & KERNEL_THREAD == 0) {
            return Err(HostProcError::Namespace(path.into()));
        }
        let flags = fstatvfs(&found.root).map_err(|error| failed(path, error))?.f_flag;
        if flags.contains(StatVfsMountFlags::RDONLY) {
            return Err(HostProcError::ReadOnly(path.into()));
        }
        Ok(found)
    }

    fn open_any(path: &Path) -> Result<Self, HostProcError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty());
        let root = root.map_err(|error| failed(path, error))?;
        Ok(HostProc { root, path: path.into() })
    }

    /// Any directory in its place, for tests of what is done in one.
    #[cfg(test)]
    pub fn unchecked(path: &Path) -> Result<Self, HostProcError> {
        Self::open_any(path)
    }

    /// The processes that there are. An error among them means that others are missing.
    pub fn pids(&self) -> io::Result<impl Iterator<Item = io::Result<u32>> + use<>> {
        let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let entries = fs::read_dir(&self.path)?;
        Ok(entries.filter_map(move |entry| entry.map(pid).transpose()))
    }

    pub fn process(&self, pid: u32) -> Result<HostProcess, ProcessError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let directory = openat(&self.root, pid.to_string(), flags, Mode::empty());
        HostProcess::of(pid, directory.map_err(ProcessError::from)?)
    }
}

fn failed(path: &Path, error: Errno) -> HostProcError {
    HostProcError::Open { path: path.into(), source: error.into() }
}

/// A moment of `CLOCK_BOOTTIME` in clock ticks, as a process's beginning is given.
pub fn ticks(boottime: u64) -> u64 {
    // `nsec_to_clock_t()`, kernel/time/time.c.
    boottime / (1_000_000_000 / rustix::param::clock_ticks_per_second().max(1))
}

/// Now, in clock ticks since the boot.
pub fn ticks_now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, rest) = (now.tv_sec.cast_unsigned(), now.tv_nsec.cast_unsigned());
    ticks(seconds.saturating_mul(1_000_000_000).saturating_add(rest))
}

/// The cgroup of this process by the v2 mount that its own mount namespace has: where a cgroup
/// namespace begins, if there is one.
pub fn own_cgroup_mount() -> Option<u64> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let path = text::namespace_mount(&mounts)?;
    Some(std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).ok()?))
}
