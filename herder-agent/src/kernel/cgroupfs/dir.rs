//! One cgroup's directory, by descriptor.
//!
//! The only code of the agent that writes below the cgroup mount, and the only files that
//! it writes are `memory.oom.group` and, in `kill`, `cgroup.kill`. A directory is opened once, without
//! following links and without leaving the mount, and checked to be the cgroup
//! that was meant; from then on its descriptor is used, so that no rename or
//! removal can turn a write to another cgroup.

mod kill;

pub use kill::{KILL, KillError};

use super::below;
use crate::kernel::process::has;
use herder_model::cgroup::{CgroupId, CgroupPath, OOM_GROUP, counters::parse_oom_kill};
use rustix::{
    fs::{AtFlags, Mode, OFlags, fstat, fstatfs, openat, statat},
    io::Errno,
    process::geteuid,
    thread::CapabilitySet,
};
use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

/// `CGROUP2_SUPER_MAGIC`, include/uapi/linux/magic.h.
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// `TMPFS_MAGIC` and `CGROUP_SUPER_MAGIC`: what cgroup v1 hosts have there.
const V1_MAGICS: [i64; 2] = [0x0102_1994, 0x0027_e0eb];

/// Whose files are those of users that a user namespace does not have
/// (`DEFAULT_OVERFLOWUID`, include/linux/highuid.h).
const OVERFLOW_UID: u32 = 65534;

/// What the kernel counted in a cgroup, without those below it (Linux 5.2).
pub const EVENTS: &str = "memory.events.local";

/// Why a directory is no usable cgroup v2 mount.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    #[error("cannot open the cgroup mount {path}: {source}; give the right one with --cgroup-root")]
    Open { path: PathBuf, source: io::Error },
    #[error(
        "{0} is a cgroup v1 mount, and memory.oom.group exists on cgroup v2 only; boot with systemd.unified_cgroup_hierarchy=1 (that a hybrid host has {0}/unified does not help: memory is on v1 there)"
    )]
    Version1(PathBuf),
    #[error("{0} is not a cgroup v2 mount; give the right one with --cgroup-root")]
    Other(PathBuf),
}

/// Why `memory.oom.group` is put into no container's spec. A runtime that finds cgroup v1 refuses
/// to start a container whose spec has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error(
        "--cgroup-root is no cgroup v2 mount, and on cgroup v1 a runtime refuses to start a container with memory.oom.group"
    )]
    NoRoot,
    /// The runtime names containers by paths of the whole mount, and those that it makes are not
    /// all below a directory of that.
    #[error("--cgroup-root names a directory below the mount of cgroup v2")]
    BelowMount,
    #[error(
        "the cgroup v2 mount at --cgroup-root does not have the memory controller; where cgroup v1 has it, a runtime refuses to start a container with memory.oom.group"
    )]
    NoController,
}

/// Why something cannot be done in a cgroup's directory.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DirError {
    #[error("the cgroup is gone")]
    Gone,
    #[error("it has no memory.oom.group: the memory controller is not enabled for it")]
    NoController,
    #[error("memory.oom.group cannot be opened or written ({error}); {remedy}")]
    ReadOnly { error: Errno, remedy: String },
    #[error("memory.oom.group reads {0:?}")]
    Value(String),
    #[error("{0}")]
    Other(Errno),
}

/// Where the agent looks at the v2 hierarchy, or at a part of it: the mount point, or a
/// directory below it.
#[derive(Debug)]
pub struct CgroupRoot(OwnedFd, CgroupId);

impl CgroupRoot {
    /// Opens the mount point and checks what it is.
    pub fn open(path: &Path) -> Result<Self, RootError> {
        let root = Self::open_any(path)?;
        let magic = fstatfs(&root.0).map_err(|error| open_error(path, error))?.f_type;
        if magic == CGROUP2_MAGIC {
            Ok(root)
        } else if V1_MAGICS.contains(&magic) {
            Err(RootError::Version1(path.to_path_buf()))
        } else {
            Err(RootError::Other(path.to_path_buf()))
        }
    }

    fn open_any(path: &Path) -> Result<Self, RootError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        let opened = opened.and_then(|root| Ok((fstat(&root)?.st_ino, root)));
        opened
            .map(|(inode, root)| CgroupRoot(root, CgroupId(inode)))
            .map_err(|error| open_error(path, error))
    }

    pub fn id(&self) -> CgroupId {
        self.1
    }

    /// Whether this is where something is mounted, and not a directory below that.
    fn is_mount_point(&self) -> bool {
        let above = openat(&self.0, "..", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let device = |directory: &OwnedFd| fstat(directory).ok().map(|about| about.st_dev);
        above.is_ok_and(|above| device(&above) != device(&self.0))
    }

    /// Whether the specs of all containers of the node can have `memory.oom.group`, if this is the
    /// root that was found.
    pub fn takes_specs(root: Option<&Self>) -> Result<(), SpecError> {
        let root = root.ok_or(SpecError::NoRoot)?;
        if !root.is_mount_point() {
            return Err(SpecError::BelowMount);
        }
        let controllers = fs::read_to_string(root.proc_path().join("cgroup.controllers"));
        let has_memory =
            controllers.is_ok_and(|all| all.split_whitespace().any(|name| name == "memory"));
        if has_memory { Ok(()) } else { Err(SpecError::NoController) }
    }

    /// Any directory in place of a cgroup mount, for tests of what is done in one.
    #[doc(hidden)]
    pub fn unchecked(path: &Path) -> Result<Self, RootError> {
        Self::open_any(path)
    }

    /// Opens a cgroup by path, if it is the one with this id.
    pub fn open_dir(&self, path: &CgroupPath, id: CgroupId) -> Result<CgroupDir, DirError> {
        let opened = below::open(self.0.as_fd(), &path.relative());
        let directory = CgroupDir(opened.map_err(|error| match error {
            Errno::NOENT | Errno::NOTDIR | Errno::NODEV => DirError::Gone,
            error @ (Errno::ACCESS | Errno::PERM) => refused(error, None),
            error => DirError::Other(error),
        })?);
        let found = fstat(&directory.0).map_err(DirError::Other)?.st_ino;
        if found == id.0 { Ok(directory) } else { Err(DirError::Gone) }
    }
}

fn open_error(path: &Path, error: Errno) -> RootError {
    RootError::Open { path: path.to_path_buf(), source: error.into() }
}

#[derive(Debug)]
pub struct CgroupDir(OwnedFd);

impl CgroupDir {
    pub fn oom_group(&self) -> Result<bool, DirError> {
        let file = self.open_file(OFlags::RDONLY)?;
        let mut buffer = [0u8; 16];
        let length = rustix::io::read(&file, &mut buffer).map_err(|error| self.failed(error))?;
        match buffer.get(..length).unwrap_or_default().trim_ascii() {
            b"0" => Ok(false),
            b"1" => Ok(true),
            other => Err(DirError::Value(String::from_utf8_lossy(other).into_owned())),
        }
    }

    /// Writes `memory.oom.group`. It takes effect at once: the kernel reads the
    /// flag when it kills (`mem_cgroup_get_oom_group()`, mm/memcontrol.c).
    pub fn set_oom_group(&self, value: bool) -> Result<(), DirError> {
        let file = self.open_file(OFlags::WRONLY)?;
        let text: &[u8] = if value { b"1\n" } else { b"0\n" };
        rustix::io::write(&file, text).map(drop).map_err(|error| self.failed(error))
    }

    /// Tries all that a write of `memory.oom.group` takes, short of writing.
    pub fn try_oom_group(&self) -> Result<(), DirError> {
        self.open_file(OFlags::WRONLY).map(drop)
    }

    /// Processes that the OOM killer killed in this cgroup, as the kernel counts them
    /// (`oom_kill`); none if that cannot be read.
    pub fn oom_kills(&self) -> Option<u64> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.0, EVENTS, flags, Mode::empty()).ok()?;
        let mut buffer = [0u8; 512];
        let length = rustix::io::read(&file, &mut buffer).ok()?;
        parse_oom_kill(std::str::from_utf8(buffer.get(..length)?).ok()?)
    }

    fn open_file(&self, access: OFlags) -> Result<OwnedFd, DirError> {
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.0, OOM_GROUP, flags, Mode::empty()).map_err(|error| match error {
            // A removed cgroup has lost its files, but a living one without the
            // controller never had this one.
            Errno::NOENT if self.is_alive() => DirError::NoController,
            Errno::NOENT => DirError::Gone,
            error => self.failed(error),
        })
    }

    fn failed(&self, error: Errno) -> DirError {
        match error {
            Errno::NODEV => DirError::Gone,
            Errno::ROFS | Errno::ACCESS | Errno::PERM => {
                let file = statat(&self.0, OOM_GROUP, AtFlags::SYMLINK_NOFOLLOW);
                refused(error, file.ok().map(|file| file.st_uid))
            }
            error => DirError::Other(error),
        }
    }

    /// Every living cgroup has this file (Documentation/admin-guide/cgroup-v2.rst).
    fn is_alive(&self) -> bool {
        rustix::fs::accessat(
            &self.0,
            "cgroup.procs",
            rustix::fs::Access::EXISTS,
            rustix::fs::AtFlags::empty(),
        )
        .is_ok()
    }

    pub fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// A path that leads to this very directory for as long as it is open.
    pub fn proc_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.number()))
    }
}

impl CgroupRoot {
    /// A path that leads to the mount for as long as it is open.
    pub fn proc_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

fn refused(error: Errno, owner: Option<u32>) -> DirError {
    DirError::ReadOnly { error, remedy: own_remedy(error, owner) }
}

/// What would help this process, if the file of this owner is refused, or the way to it.
fn own_remedy(error: Errno, owner: Option<u32>) -> String {
    remedy(error, geteuid().as_raw(), owner, has(CapabilitySet::DAC_OVERRIDE))
}

/// What would help a process of this user against the kernel's refusal.
fn remedy(error: Errno, user: u32, owner: Option<u32>, overrides: bool) -> String {
    match owner {
        _ if error == Errno::ROFS => {
            "mount /sys/fs/cgroup read-write (in a pod a hostPath volume without readOnly; in a systemd unit no ProtectControlGroups=)".into()
        }
        Some(OVERFLOW_UID) if !overrides => {
            "it belongs to a user that this user namespace does not have; run in the host's (no hostUsers: false)".into()
        }
        Some(owner) if owner != user && !overrides && user != 0 => format!(
            "the agent runs as uid {user} and the file belongs to uid {owner}; run as uid 0 (no DynamicUser= or User= in a systemd unit, runAsUser: 0 in a pod)"
        ),
        Some(owner) if owner != user && !overrides => {
            format!("it belongs to uid {owner}, so the agent needs CAP_DAC_OVERRIDE")
        }
        None if !overrides => {
            "the agent's user may not enter a cgroup above it; run as uid 0 with CAP_DAC_OVERRIDE".into()
        }
        _ => "its owner and mode allow it, so a security module or a seccomp profile forbids it; see the kernel's log for SELinux or AppArmor, and the unit's or pod's profile".into(),
    }
}

#[cfg(test)]
mod tests;
