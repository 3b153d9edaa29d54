//! Whether all kills were told, by the kernel's own counts, and what the next agent
//! has to know for that.

use super::Core;
use crate::{
    enforce::{Counted, Effect},
    kernel::{
        cgroupfs::dir::EVENTS,
        clock::monotonic_now,
        source::{Source, node_kills},
    },
    state::{State, StateError, StateFile},
};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    oom::{OomKill, reasons::Unseen},
};
use std::{iter, os::unix::fs::MetadataExt, path::Path, time::Duration};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, timeout},
};

/// How long after a change the state is saved.
const SOON: Duration = Duration::from_millis(500);

/// How long the last state may take to be saved.
const AT_THE_END: Duration = Duration::from_secs(1);

/// The state file, and what is yet to be written to it.
#[derive(Debug)]
pub struct Leaving {
    file: Option<StateFile>,
    changed: Option<Instant>,
    saving: Option<JoinHandle<Result<(), StateError>>>,
    /// What was told last of why it cannot be saved.
    told: Option<String>,
}

impl Leaving {
    /// Without a file nothing is left. What an agent begins with is the first that the
    /// next one has to know.
    pub fn new(file: Option<StateFile>) -> Self {
        let changed = file.as_ref().map(|_| Instant::now());
        Leaving { file, changed, saving: None, told: None }
    }

    fn touch(&mut self) {
        if self.file.is_some() {
            self.changed.get_or_insert_with(Instant::now);
        }
    }

    /// When the state is to be saved.
    pub(super) fn due(&self) -> Option<Instant> {
        self.changed.filter(|_| self.saving.is_none()).map(|changed| changed + SOON)
    }

    /// Saves in the background: a disk may be slow.
    fn save(&mut self, state: State) {
        self.changed = None;
        self.saving = self.file.clone().map(|file| spawn_blocking(move || file.save(&state)));
    }

    /// Waits until the state is saved; for ever if it is not being saved.
    pub(super) async fn saved(&mut self) {
        let Some(saving) = &mut self.saving else { return std::future::pending().await };
        let result = saving.await;
        self.saving = None;
        match result {
            Ok(Err(error)) => {
                let error = error.to_string();
                // It is tried again after each change, which may be twice a second.
                if self.told.as_ref() != Some(&error) {
                    tracing::warn!(error, "Cannot leave the state to the next agent.");
                    self.told = Some(error);
                }
            }
            Ok(Ok(())) if self.told.take().is_some() => {
                tracing::info!("The state can be left to the next agent again.");
            }
            _ => {}
        }
    }
}

impl Core {
    /// Passes on what the enforcer did and found.
    pub(super) fn take_effects(&mut self) {
        for effect in self.enforcer.take_effects() {
            match effect {
                Effect::Counted(Counted { id, oom_kills }) => {
                    if self.reconciler.count(id) != Some(oom_kills) {
                        self.leaving.touch();
                    }
                    self.reconciler.read(id, oom_kills, monotonic_now());
                }
                Effect::Saved => self.leaving.touch(),
                Effect::Notice(event) => self.notice_enforcement(event),
                told => self.reporter.enforcement(&told),
            }
        }
    }

    /// Reads what the kernel counted of the node as a whole.
    pub(super) fn count_node(&mut self) {
        let Some(oom_kills) = node_kills(&self.root, self.begins_at) else { return };
        match self.node_before.take() {
            Some(before) => self.reconciler.begin_node(before, oom_kills, monotonic_now()),
            None => self.reconciler.read_node(oom_kills, monotonic_now()),
        }
    }

    /// The victims of a kill that is being told.
    pub(super) fn count_told(&mut self, kill: &OomKill) {
        let now = monotonic_now();
        for (number, victim) in kill.victims.iter().enumerate() {
            // A kill that was deduced from counts has what they have.
            let twice =
                number == 0 && kill.group != Some(false) && matches!(self.source, Source::Ebpf(_));
            let counts = victim.memory_cgroup.or_else(|| self.memory_cgroup(victim.cgroup));
            self.reconciler.told(counts.unwrap_or(victim.cgroup), twice, victim.time, now);
        }
        self.leaving.touch();
    }

    /// Where the kernel counts what is killed in a cgroup, if only its files can tell: the
    /// nearest that counts, from the cgroup upwards. One that is threaded, or was made for
    /// itself by a container, may have no memory controller.
    fn memory_cgroup(&self, cgroup: CgroupId) -> Option<CgroupId> {
        if self.reconciler.count(cgroup).is_some() {
            return Some(cgroup);
        }
        nearest_that_counts(&self.root, &self.path_or_above(cgroup)?)
    }

    /// Compares the counts that are due.
    pub(super) fn settle_counts(&mut self) {
        let now = monotonic_now();
        let unheard = self.reconciler.settle_starting(now);
        if unheard > 0 {
            self.reporter.unseen(Unseen::AgentDown, None, unheard);
            self.leaving.touch();
        }
        for (id, processes) in self.reconciler.settle(now) {
            let path = id.and_then(|id| self.tree.path(id));
            self.reporter.unseen(Unseen::Missed, path, processes);
            self.leaving.touch();
        }
    }

    /// Saves what is to be left to the next agent.
    pub(super) fn save_state(&mut self) {
        let mut cgroups = self.enforcer.leaves();
        for (id, left) in &mut cgroups {
            left.oom_kills = self.reconciler.explained(*id);
        }
        self.count_node();
        let oom_kills = self.reconciler.node_explained();
        self.leaving.save(State { begins_at: self.begins_at, oom_kills, cgroups });
    }

    /// Saves the last state, unless the disk is too slow.
    pub(super) async fn save_last_state(&mut self) {
        let all = async {
            if self.leaving.saving.is_some() {
                self.leaving.saved().await;
            }
            if self.leaving.file.is_some() {
                self.save_state();
                self.leaving.saved().await;
            }
        };
        if timeout(AT_THE_END, all).await.is_err() {
            tracing::warn!("The last state was not saved in time.");
        }
    }
}

fn nearest_that_counts(root: &Path, path: &CgroupPath) -> Option<CgroupId> {
    let upwards = iter::once(path.clone()).chain(path.ancestors());
    let mut directories = upwards.map(|path| root.join(path.relative()));
    let counts = directories.find(|directory| directory.join(EVENTS).exists())?;
    Some(CgroupId(counts.metadata().ok()?.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Threaded cgroups, those without the controller, and those that are gone again.
    #[test]
    fn kills_are_counted_in_the_nearest_cgroup_that_counts() {
        let root = std::env::temp_dir().join(format!("herder-counts-{}", std::process::id()));
        fs::create_dir_all(root.join("c/own")).unwrap();
        fs::create_dir_all(root.join("c/plain/deep")).unwrap();
        for counts in ["c", "c/own"] {
            fs::write(root.join(counts).join(EVENTS), "oom_kill 0\n").unwrap();
        }
        let inode = |path: &str| Some(CgroupId(fs::metadata(root.join(path)).unwrap().ino()));
        let table = [
            ("/c", inode("c")),
            ("/c/own", inode("c/own")),
            ("/c/plain/deep", inode("c")),
            ("/c/gone/deep", inode("c")),
            ("/", None),
        ];
        for (path, expected) in table {
            let found = nearest_that_counts(&root, &CgroupPath::parse(path.as_bytes()).unwrap());
            assert_eq!(found, expected, "{path}");
        }
        fs::remove_dir_all(&root).unwrap();
    }
}
