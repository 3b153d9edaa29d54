//! The last kills for the API, and each new one for streams.

use super::{
    KillRecord,
    record::{RestartRecord, rfc3339},
};
use herder_model::{
    kill::KEPT,
    oom::Kind,
    owner::id::ContainerId,
    pods::restarts::Reason,
    scene::{self, Scene},
};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;

/// The last [`KEPT`] kills.
#[derive(Debug)]
pub struct Journal {
    kills: VecDeque<Arc<KillRecord>>,
    last: u64,
    /// Who used how much, of the last [`scene::KEPT`] kills.
    scenes: VecDeque<(u64, Arc<Scene>)>,
    /// Kills of which it became known what became of the container, the last [`KEPT`] of them.
    settled: VecDeque<u64>,
    /// How many there were in all.
    settled_in_all: u64,
    /// Wakes the clients that follow; they read the kills here, each at its own pace.
    news: watch::Sender<()>,
}

impl Default for Journal {
    fn default() -> Self {
        Journal {
            kills: VecDeque::new(),
            last: 0,
            scenes: VecDeque::new(),
            settled: VecDeque::new(),
            settled_in_all: 0,
            news: watch::Sender::new(()),
        }
    }
}

impl Journal {
    /// Numbers a kill and keeps it, and its scene for as long as that is one of the last.
    pub fn add(&mut self, mut record: KillRecord, scene: Option<Arc<Scene>>) -> u64 {
        self.last += 1;
        record.id = self.last;
        if let Some(scene) = scene {
            if self.scenes.len() == scene::KEPT {
                self.scenes.pop_front();
            }
            self.scenes.push_back((self.last, scene));
        }
        if self.kills.len() == KEPT {
            self.kills.pop_front();
        }
        self.kills.push_back(Arc::new(record));
        self.news.send_replace(());
        self.last
    }

    /// It is known what became of a kill's container, which ended after some time or survived.
    /// Gives the record, unless it is not kept any more, or was known before.
    pub fn settled(&mut self, id: u64, ended: Option<Duration>) -> Option<Arc<KillRecord>> {
        let at = self.kills.binary_search_by_key(&id, |kill| kill.id).ok()?;
        let kill = self.kills.get_mut(at).filter(|kill| kill.survived.is_none())?;
        let changed = Arc::make_mut(kill);
        changed.survived = Some(ended.is_none());
        changed.ended_seconds = ended.map(|ended| ended.as_secs_f64());
        let kill = kill.clone();
        self.became_known(id);
        Some(kill)
    }

    fn became_known(&mut self, id: u64) {
        if self.settled.len() == KEPT {
            self.settled.pop_front();
        }
        self.settled.push_back(id);
        self.settled_in_all += 1;
        self.news.send_replace(());
    }

    /// How often that became known.
    pub fn last_settled(&self) -> u64 {
        self.settled_in_all
    }

    /// The next kill, after so many of them, of which that became known, and its place among
    /// them. What is not kept any more is passed over: it is older than every kill that is still shown.
    pub fn settled_after(&self, place: u64) -> Option<(u64, Arc<KillRecord>)> {
        let oldest = self.settled_in_all - self.settled.len() as u64;
        (place.max(oldest)..self.settled_in_all).find_map(|place| {
            let id = self.settled.get(usize::try_from(place - oldest).ok()?)?;
            let at = self.kills.binary_search_by_key(id, |kill| kill.id).ok()?;
            Some((place + 1, self.kills.get(at)?.clone()))
        })
    }

    /// A kept kill and, if it is kept too, its scene.
    pub fn kill(&self, id: u64) -> Option<(Arc<KillRecord>, Option<Arc<Scene>>)> {
        let kill = self.kills.binary_search_by_key(&id, |kill| kill.id).ok()?;
        let scene = self.scenes.binary_search_by_key(&id, |(id, _)| *id).ok();
        let scene = scene.and_then(|at| self.scenes.get(at)).map(|(_, scene)| scene.clone());
        Some((self.kills.get(kill)?.clone(), scene))
    }

    /// The number of the newest kill; 0 if there is none.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Wakes with each kill from now on, and when it is known what became of its container.
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
            // A reader that has it at this moment keeps it as it was.
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
    /// and kind of the kill that ended it, if it was one that is kept: the last that it did not
    /// survive. One of which that is not known yet was shortly before, so it is known now.
    pub fn restarted(&mut self, ended: ContainerId, reason: Reason) -> Option<(u64, Kind)> {
        let kill = self
            .kills
            .iter_mut()
            .rev()
            .find(|kill| kill.survived != Some(true) && kill.container_id == Some(ended))?;
        let kill = Arc::make_mut(kill);
        let was_known = kill.survived.replace(false).is_some();
        kill.restarted = Some(RestartRecord { reason, seen: rfc3339(SystemTime::now()) });
        let (id, kind) = (kill.id, kill.kind);
        if !was_known {
            self.became_known(id);
        }
        Some((id, kind))
    }

    /// So many of the newest kills, newest first.
    pub fn newest(&self, limit: usize) -> Vec<Arc<KillRecord>> {
        self.kills.iter().rev().take(limit).cloned().collect()
    }
}
