//! What the kernel saw being written to the cgroup hierarchy.

use super::system::{fanotify_events, fanotify_modify};
use std::{
    fs::{self, File},
    os::fd::AsRawFd,
};

pub struct Audit(File);

impl Audit {
    /// From now on.
    pub fn start(mount: &str) -> Self {
        Audit(fanotify_modify(mount).unwrap())
    }

    /// Paths of the files that a process has written to.
    pub fn files_written_by(mut self, pid: u32) -> Vec<String> {
        let events = fanotify_events(&mut self.0);
        assert!(!events.is_empty(), "the audit sees writes");
        let own = events.into_iter().filter(|(writer, _)| *writer == pid);
        own.map(|(_, file)| {
            let link = format!("/proc/self/fd/{}", file.as_raw_fd());
            fs::read_link(link).unwrap().to_string_lossy().into_owned()
        })
        .collect()
    }
}
