//! One process, by the descriptor of its directory.

use super::text::{self, Lineage};
use herder_model::shield::EXEMPT;
use rustix::{
    fd::OwnedFd,
    fs::{Mode, OFlags, openat},
    io::Errno,
    thread::{CapabilitySet, capabilities, set_capabilities},
};

/// Most that is read of a file; each is far shorter.
const MOST: usize = 16 << 10;

/// Why nothing can be done with a process.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProcessError {
    /// It has ended, or its id is another's now.
    #[error("the process has ended")]
    Gone,
    /// The kernel forbids it.
    #[error(
        "{0}; a process of another user than the agent's takes CAP_DAC_OVERRIDE, a lower score CAP_SYS_RESOURCE"
    )]
    Refused(Errno),
    #[error("{0}")]
    Other(Errno),
}

impl From<Errno> for ProcessError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT | Errno::SRCH | Errno::NOTDIR => Self::Gone,
            // The kernel says EINVAL of one that has no memory any more.
            Errno::INVAL => Self::Gone,
            Errno::ACCESS | Errno::PERM | Errno::ROFS => Self::Refused(error),
            error => Self::Other(error),
        }
    }
}

/// A process that was there when it was opened. Its directory is never another's.
#[derive(Debug)]
pub struct HostProcess {
    pid: u32,
    start: u64,
    flags: u64,
    directory: OwnedFd,
}

impl HostProcess {
    pub(super) fn of(pid: u32, directory: OwnedFd) -> Result<Self, ProcessError> {
        let mut process = HostProcess { pid, start: 0, flags: 0, directory };
        let stat = process.read("stat")?;
        (process.flags, process.start) = text::flags_and_start(&stat).ok_or(ProcessError::Gone)?;
        Ok(process)
    }

    /// Its id on the node.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// When it began, in clock ticks since the boot.
    pub fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn flags(&self) -> Option<u64> {
        Some(self.flags)
    }

    /// Its parent, and its ids.
    pub fn lineage(&self) -> Result<Option<Lineage>, ProcessError> {
        Ok(text::lineage(&self.read("status")?))
    }

    /// The path of its cgroup, as this process sees it.
    pub fn cgroup(&self) -> Result<Option<String>, ProcessError> {
        Ok(text::v2_path(&self.read("cgroup")?).map(str::to_owned))
    }

    /// Its `oom_score_adj`.
    pub fn score(&self) -> Result<i16, ProcessError> {
        self.read("oom_score_adj")?.trim().parse().map_err(|_| ProcessError::Gone)
    }

    /// Exempts it from OOM kills.
    ///
    /// By the file's older name, because that leaves alone how low the process may go by itself
    /// (`oom_score_adj_min`, `__set_oom_adj()`, fs/proc/base.c): what is taken back later is then
    /// all that the process ever got. A kernel without that file is asked by the other.
    pub fn exempt(&self) -> Result<(), ProcessError> {
        // `OOM_DISABLE`, include/uapi/linux/oom.h.
        with_right(|| match self.write("oom_adj", "-17") {
            Err(Errno::NOENT) => self.write("oom_score_adj", &EXEMPT.to_string()),
            written => written,
        })
        .map_err(ProcessError::from)
    }

    /// Writes its `oom_score_adj`. Without a right if that is enough: with CAP_SYS_RESOURCE the
    /// kernel also takes the value as the lowest that the process may choose.
    pub fn set_score(&self, score: i16) -> Result<(), ProcessError> {
        let score = score.to_string();
        match self.write("oom_score_adj", &score) {
            Err(Errno::ACCESS) => with_right(|| self.write("oom_score_adj", &score)),
            written => written,
        }
        .map_err(ProcessError::from)
    }

    fn write(&self, file: &str, text: &str) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.directory, file, flags, Mode::empty())?;
        rustix::io::write(&file, text.as_bytes()).map(drop)
    }

    fn read(&self, file: &str) -> Result<String, ProcessError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.directory, file, flags, Mode::empty())?;
        let mut bytes = vec![0; 4096];
        let mut length = 0;
        loop {
            let room = bytes.get_mut(length..).unwrap_or_default();
            match rustix::io::read(&file, room)? {
                0 => break,
                more => length += more,
            }
            if length == bytes.len() {
                if length >= MOST {
                    break;
                }
                bytes.resize(length * 2, 0);
            }
        }
        bytes.truncate(length);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// From now on this thread has CAP_SYS_RESOURCE only while it exempts a process.
pub fn drop_right() {
    set_right(false);
}

fn with_right<T>(write: impl FnOnce() -> T) -> T {
    set_right(true);
    let written = write();
    set_right(false);
    written
}

/// If this fails, the write says so, or the thread keeps what it had.
fn set_right(wanted: bool) {
    let Ok(mut sets) = capabilities(None) else { return };
    sets.effective.set(CapabilitySet::SYS_RESOURCE, wanted);
    if let Err(error) = set_capabilities(None, sets) {
        tracing::debug!(%error, wanted, "CAP_SYS_RESOURCE of this thread cannot be changed.");
    }
}
