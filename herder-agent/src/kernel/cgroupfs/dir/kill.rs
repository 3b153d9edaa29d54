//! The second and last file that the agent writes below the cgroup mount: `cgroup.kill`, by which
//! all processes of a cgroup and of those below it get SIGKILL at once (Linux 5.14).
//!
//! Whether a kernel has it is seen by the file. The write takes the lock of all cgroups
//! (`cgroup_kill_write()`, kernel/cgroup/cgroup.c), which others may hold for long on a node that is
//! short of memory. So it is never written by the core's thread.

use super::{CgroupDir, own_remedy};
use rustix::{
    fs::{AtFlags, Mode, OFlags, openat, statat},
    io::Errno,
};
use std::{io, os::fd::OwnedFd};

pub const KILL: &str = "cgroup.kill";

/// Why the processes of a cgroup cannot be killed by it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KillError {
    /// The cgroup was removed.
    #[error("the cgroup is gone")]
    Gone,
    /// The kernel has no such file.
    #[error("this kernel has no {KILL} (Linux 5.14)")]
    Absent,
    /// A threaded cgroup has no processes of its own.
    #[error("the cgroup is threaded, so that it has no {KILL} that works")]
    Threaded,
    /// A read-only mount, or no permission.
    #[error("{KILL} cannot be opened or written ({error}); {remedy}")]
    Refused { error: Errno, remedy: String },
    #[error("{KILL}: {0}")]
    Other(Errno),
}

impl CgroupDir {
    /// Whether the kernel has the file.
    pub fn has_kill(&self) -> bool {
        statat(&self.0, KILL, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Tries all that killing takes, short of it.
    pub fn try_kill(&self) -> Result<(), KillError> {
        self.open_kill().map(drop)
    }

    /// Kills all processes of this cgroup and of those below it.
    pub fn kill(&self) -> Result<(), KillError> {
        let file = self.open_kill()?;
        rustix::io::write(&file, b"1\n").map(drop).map_err(|error| match error {
            // What the kernel answers once the cgroup is being removed.
            Errno::NOENT | Errno::NODEV => KillError::Gone,
            error => self.kill_failed(error),
        })
    }

    /// Another descriptor of the same cgroup, for another thread.
    pub fn duplicate(&self) -> io::Result<Self> {
        Ok(CgroupDir(self.0.try_clone()?))
    }

    fn open_kill(&self) -> Result<OwnedFd, KillError> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.0, KILL, flags, Mode::empty()).map_err(|error| match error {
            Errno::NOENT if self.is_alive() => KillError::Absent,
            Errno::NOENT | Errno::NODEV => KillError::Gone,
            error => self.kill_failed(error),
        })
    }

    fn kill_failed(&self, error: Errno) -> KillError {
        match error {
            Errno::OPNOTSUPP => KillError::Threaded,
            Errno::ROFS | Errno::ACCESS | Errno::PERM => {
                let file = statat(&self.0, KILL, AtFlags::SYMLINK_NOFOLLOW);
                let remedy = own_remedy(error, file.ok().map(|file| file.st_uid));
                KillError::Refused { error, remedy }
            }
            error => KillError::Other(error),
        }
    }
}
