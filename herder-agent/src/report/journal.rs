//! The last kills, for the API, and each new one for those who follow.

use super::{
    KillRecord,
    record::{RestartRecord, rfc3339},
};
use crate::{attribution::id::ContainerId, oom::Kind, pods::restarts::Reason};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;

/// Kills that are kept, 1 to 4 KiB each.
pub const KEPT: usize = 1000;

/// The last [`KEPT`] kills.
#[derive(Debug)]
pub struct Journal {
    kills: VecDeque<Arc<KillRecord>>,
    last: u64,
    /// Wakes those who follow; they read the kills here, each at its own pace.
    news: watch::Sender<()>,
}

impl Default for Journal {
    fn default() -> Self {
        Journal { kills: VecDeque::new(), last: 0, news: watch::Sender::new(()) }
    }
}

impl Journal {
    /// Numbers a kill and keeps it.
    pub fn add(&mut self, mut record: KillRecord) {
        self.last += 1;
        record.id = self.last;
        if self.kills.len() == KEPT {
            self.kills.pop_front();
        }
        self.kills.push_back(Arc::new(record));
        self.news.send_replace(());
    }

    /// The number of the newest kill; 0 if there is none.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Wakes with each kill from now on.
    pub fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// The newest kept kill with a smaller number.
    pub fn before(&self, id: u64) -> Option<Arc<KillRecord>> {
        let older = self.kills.partition_point(|kill| kill.id < id);
        self.kills.get(older.checked_sub(1)?).cloned()
    }

    /// The oldest kept kill with a larger number.
    pub fn after(&self, id: u64) -> Option<Arc<KillRecord>> {
        self.kills.get(self.kills.partition_point(|kill| kill.id <= id)).cloned()
    }

    /// A killed process is gone, so long after its mark. Process ids are reused,
    /// so it is the newest kill of that id which has not ended.
    pub fn exited(&mut self, pid: u32, after: Duration) {
        for kill in self.kills.iter_mut().rev() {
            let mut open =
                kill.victims.iter().enumerate().filter(|(_, it)| it.exit_seconds.is_none());
            let Some((number, _)) = open.find(|(_, victim)| victim.pid == Some(pid)) else {
                continue;
            };
            // Who reads it at this moment has it as it was.
            let kill = Arc::make_mut(kill);
            let exit_seconds = Some(after.as_secs_f64());
            if let Some(victim) = kill.victims.get_mut(number) {
                victim.exit_seconds = exit_seconds;
            }
            if kill.victim.pid == Some(pid) {
                kill.victim.exit_seconds = exit_seconds;
            }
            return;
        }
    }

    /// An incarnation of a container ended and another was started. Gives number
    /// and kind of the kill that ended it, if it was one that is kept.
    pub fn restarted(&mut self, ended: ContainerId, reason: Reason) -> Option<(u64, Kind)> {
        let kill = self
            .kills
            .iter_mut()
            .rev()
            .find(|kill| kill.kind != Kind::Subprocess && kill.container_id == Some(ended))?;
        let kill = Arc::make_mut(kill);
        kill.restarted = Some(RestartRecord { reason, seen: rfc3339(SystemTime::now()) });
        Some((kill.id, kill.kind))
    }

    /// So many of the newest kills, newest first.
    pub fn newest(&self, limit: usize) -> Vec<Arc<KillRecord>> {
        self.kills.iter().rev().take(limit).cloned().collect()
    }
}
