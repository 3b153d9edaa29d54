//! How many processes of a container were left running by a kill.
//!
//! A killed process stays in its cgroup until it has released its memory, for most some
//! milliseconds, so the count has to wait. The writer of Events does that, not the
//! core.

use std::{fs, io, path::PathBuf, time::Duration};
use tokio::time::{Instant, sleep_until};

/// How long a victim gets to die.
const DYING: Duration = Duration::from_millis(500);

/// Most cgroups of one container that are read; one that makes more for itself
/// is not counted.
const MOST_CGROUPS: usize = 64;

/// A container of which some process was just killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivors {
    /// Directory of its cgroup.
    pub cgroup: PathBuf,
    /// When the kill was reported, by the clock of the writer of Events.
    since: Instant,
}

impl Survivors {
    /// Of the container with this directory, a process of which is reported as killed now.
    pub fn new(cgroup: PathBuf) -> Self {
        Survivors { cgroup, since: Instant::now() }
    }

    /// Counts when it is time. Nothing if it cannot be known.
    pub(super) async fn count(&self) -> Option<usize> {
        sleep_until(self.since + DYING).await;
        self.count_now()
    }

    fn count_now(&self) -> Option<usize> {
        let mut processes = 0;
        let mut directories = vec![self.cgroup.clone()];
        for _ in 0..MOST_CGROUPS {
            let Some(directory) = directories.pop() else { return Some(processes) };
            match fs::read_to_string(directory.join("cgroup.procs")) {
                // Outside of the agent's own pid namespace each id reads 0, but
                // has its line.
                Ok(text) => processes += text.lines().count(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(_) => return None,
            }
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            let below =
                entries.flatten().filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir()));
            directories.extend(below.map(|entry| entry.path()));
        }
        directories.is_empty().then_some(processes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn processes_of_all_cgroups_below_are_counted_after_a_while() {
        let root = std::env::temp_dir().join(format!("herder-left-{}", std::process::id()));
        let make = |path: &str, processes: &str| {
            fs::create_dir_all(root.join(path)).unwrap();
            fs::write(root.join(path).join("cgroup.procs"), processes).unwrap();
        };
        make("", "1\n2\n");
        let left = Survivors { cgroup: root.clone(), since: Instant::now() };
        let count = left.count();
        make("", "0\n");
        make("container", "0\n0\n");
        make("container/deeper", "");
        assert_eq!(count.await, Some(3), "those that were there in the end");
        make("many", "");
        for number in 0..MOST_CGROUPS {
            make(&format!("many/{number}"), "1\n");
        }
        assert_eq!(left.count().await, None);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(left.count().await, Some(0), "the container has ended");
    }
}
