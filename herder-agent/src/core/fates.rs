//! What became of a container after a kill: whether it lived on is not known when a process of
//! it dies. systemd may stop its scope (`OOMPolicy=kill`, `stop`), its own program may give up.
//!
//! A container whose cgroup is removed has ended. One that still has processes after a while has
//! survived. One look at the end of that while is all that it costs.

use super::Core;
use crate::{enforce::may_be_stopped, kernel::clock::monotonic_now};
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    enforcement::Obstacle,
    kill::{KEPT, KillReport},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    os::unix::fs::MetadataExt,
    time::Duration,
};
use tokio::time::Instant;

/// A container that ends within this time has not survived the kill.
const WITHIN: Duration = Duration::from_secs(10);

/// The same where systemd may be stopping it: it gives a unit so long to end by itself
/// (`DefaultTimeoutStopSec=`, 90 s), and some seconds more are for the rest.
const STOPPED_WITHIN: Duration = Duration::from_secs(100);

/// Kills whose containers are followed; of more, which takes more than fit in the journal, the
/// fate of the oldest stays unknown.
const MOST: usize = KEPT;

/// A container's kills by number: when each happened, and when the container is looked at for it.
type Kills = BTreeMap<u64, (Instant, Instant)>;

/// Containers that had a kill lately.
#[derive(Debug, Default)]
pub(super) struct Fates {
    containers: HashMap<CgroupId, (CgroupPath, Kills)>,
    /// All of their kills, in the order in which the containers are looked at.
    due: BTreeSet<(Instant, u64, CgroupId)>,
}

/// How a container was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// With processes, and nobody is known to be ending it.
    Lives,
    /// With processes that systemd may be about to end.
    MayBeStopped,
    Ended,
}

/// What became known about a kill.
#[derive(Debug, PartialEq, Eq)]
struct Settled {
    kill: u64,
    container: CgroupPath,
    /// After which time the container had ended; none if it survived.
    ended: Option<Duration>,
}

impl Fates {
    /// When [`Self::look`] has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.first().map(|(due, ..)| *due)
    }

    fn follow(&mut self, kill: u64, id: CgroupId, path: CgroupPath, since: Instant) {
        if self.due.len() >= MOST
            && let Some((_, oldest, id)) = self.due.pop_first()
        {
            self.take(oldest, id);
        }
        self.follow_until(since + WITHIN, (kill, since), id, path);
    }

    fn follow_until(
        &mut self,
        due: Instant,
        (kill, since): (u64, Instant),
        id: CgroupId,
        path: CgroupPath,
    ) {
        self.due.insert((due, kill, id));
        let (_, kills) = self.containers.entry(id).or_insert_with(|| (path, Kills::new()));
        kills.insert(kill, (since, due));
    }

    /// Takes a kill out, and gives its container and when it happened.
    fn take(&mut self, kill: u64, id: CgroupId) -> Option<(CgroupPath, Instant)> {
        let (path, kills) = self.containers.get_mut(&id)?;
        let (since, due) = kills.remove(&kill)?;
        self.due.remove(&(due, kill, id));
        let path = path.clone();
        if kills.is_empty() {
            self.containers.remove(&id);
        }
        Some((path, since))
    }

    /// A container's life is over, or that of the incarnation that is followed: it has ended, or
    /// another kill has ended it, until which it had survived.
    fn over(&mut self, id: CgroupId, ended: Option<Instant>) -> Vec<Settled> {
        let Some((path, kills)) = self.containers.remove(&id) else { return Vec::new() };
        let settled = |(kill, (since, due))| {
            self.due.remove(&(due, kill, id));
            let ended = ended.map(|ended| ended.saturating_duration_since(since));
            Settled { kill, container: path.clone(), ended }
        };
        kills.into_iter().map(settled).collect()
    }

    /// Looks at the containers whose time has come, each once.
    fn look(&mut self, now: Instant, life: impl Fn(CgroupId, &CgroupPath) -> Life) -> Vec<Settled> {
        let mut settled = Vec::new();
        let mut found = HashMap::new();
        while self.due().is_some_and(|due| due <= now) {
            let Some((_, kill, id)) = self.due.first().copied() else { break };
            let Some((path, since)) = self.take(kill, id) else { break };
            let life = *found.entry(id).or_insert_with(|| life(id, &path));
            let age = now.saturating_duration_since(since);
            if life == Life::MayBeStopped && age < STOPPED_WITHIN {
                self.follow_until(since + STOPPED_WITHIN, (kill, since), id, path);
            } else {
                let ended = (life == Life::Ended).then_some(age);
                settled.push(Settled { kill, container: path, ended });
            }
        }
        settled
    }
}

impl Core {
    /// Follows the container of a kill that was told under this number. The root is no container.
    pub(super) fn follow_container(&mut self, kill: u64, report: &KillReport) {
        let (Some(victim), Some(cgroup)) = (report.kill.victims.first(), &report.cgroup) else {
            return;
        };
        let container = self.container_of(cgroup);
        if container == CgroupPath::root() {
            return;
        }
        let id = if container == *cgroup { Some(victim.cgroup) } else { self.inode(&container) };
        let age = monotonic_now().saturating_duration_since(victim.time);
        let Some(id) = id.filter(|id| !self.tree.is_gone(*id)) else {
            return self.settle_fates(vec![Settled { kill, container, ended: Some(age) }], None);
        };
        // Those before it did not end the container, if this one does.
        if report.ends && !may_be_stopped(self.enforcer.systemd_transient(), &container) {
            let before = self.fates.over(id, None);
            self.settle_fates(before, None);
        }
        // What becomes of the container is known when its init dies, or all of it.
        if !report.ends {
            let since = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
            self.fates.follow(kill, id, container, since);
        }
    }

    /// A cgroup was removed: if it was a container with a kill lately, that is its end.
    pub(super) fn container_removed(&mut self, id: CgroupId) {
        let settled = self.fates.over(id, Some(Instant::now()));
        // It is still known what stood in the way.
        let obstacle = settled.first().and_then(|_| self.enforcer.obstacle(id));
        self.settle_fates(settled, obstacle);
    }

    /// Looks at the containers whose time has come.
    pub(super) fn look_at_containers(&mut self) {
        let mut fates = std::mem::take(&mut self.fates);
        let settled = fates.look(Instant::now(), |id, path| self.life(id, path));
        self.fates = fates;
        self.settle_fates(settled, None);
    }

    fn life(&self, id: CgroupId, path: &CgroupPath) -> Life {
        let directory = self.root.join(path.relative());
        let same = fs::metadata(&directory).is_ok_and(|found| found.ino() == id.0);
        let events = fs::read_to_string(directory.join("cgroup.events"));
        let populated = events.is_ok_and(|text| text.lines().any(|line| line == "populated 1"));
        match same && populated {
            false => Life::Ended,
            true if may_be_stopped(self.enforcer.systemd_transient(), path) => Life::MayBeStopped,
            true => Life::Lives,
        }
    }

    fn settle_fates(&mut self, settled: Vec<Settled>, obstacle: Option<Obstacle>) {
        for Settled { kill, container, ended } in settled {
            let owner = self.owner(&container);
            let Some(record) = self.reporter.settled(kill, &owner, ended, obstacle) else {
                continue;
            };
            if let Some(ended) = ended {
                self.notice_end(&container, &record, ended, obstacle);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> CgroupPath {
        CgroupPath::parse(text.as_bytes()).unwrap()
    }

    /// Numbers of kills, and after how many seconds their containers had ended.
    fn told(settled: &[Settled]) -> Vec<(u64, Option<u64>)> {
        settled.iter().map(|it| (it.kill, it.ended.map(|after| after.as_secs()))).collect()
    }

    const A: CgroupId = CgroupId(1);
    const B: CgroupId = CgroupId(2);

    #[test]
    fn what_lives_after_a_while_has_survived_and_what_is_removed_has_not() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut fates = Fates::default();
        fates.follow(1, A, path("/a"), at(0));
        fates.follow(2, B, path("/b"), at(1));
        fates.follow(3, A, path("/a"), at(4));
        assert_eq!(fates.due(), Some(at(10)));
        assert_eq!(told(&fates.look(at(9), |_, _| Life::Ended)), []);
        assert_eq!(told(&fates.look(at(10), |_, _| Life::Lives)), [(1, None)]);
        assert_eq!(told(&fates.over(A, Some(at(12)))), [(3, Some(8))]);
        assert_eq!(told(&fates.look(at(20), |_, _| Life::Ended)), [(2, Some(19))]);
        assert_eq!((fates.due(), fates.containers.len()), (None, 0));
        assert_eq!(told(&fates.over(A, Some(at(20)))), []);
    }

    /// systemd sends SIGTERM at `OOMPolicy=stop`, and waits.
    #[test]
    fn what_systemd_may_be_stopping_is_not_said_to_have_survived_too_early() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut fates = Fates::default();
        fates.follow(1, A, path("/a.scope"), at(0));
        fates.follow(2, B, path("/b.scope"), at(0));
        assert_eq!(told(&fates.look(at(11), |_, _| Life::MayBeStopped)), []);
        assert_eq!(fates.due(), Some(at(100)));
        assert_eq!(told(&fates.over(A, Some(at(90)))), [(1, Some(90))]);
        assert_eq!(told(&fates.look(at(100), |_, _| Life::MayBeStopped)), [(2, None)]);
    }

    #[test]
    fn what_another_kill_has_ended_had_survived_those_before() {
        let begin = Instant::now();
        let mut fates = Fates::default();
        for (kill, id) in [(1, A), (2, B), (3, A)] {
            fates.follow(kill, id, path("/a"), begin);
        }
        assert_eq!(told(&fates.over(A, None)), [(1, None), (3, None)]);
        assert_eq!((fates.due.len(), fates.containers.len()), (1, 1));
    }

    #[test]
    fn a_storm_is_bounded_and_each_container_is_looked_at_once() {
        let begin = Instant::now();
        let mut fates = Fates::default();
        for kill in 0..3 * MOST as u64 {
            fates.follow(kill, CgroupId(kill % 3), path("/a"), begin);
        }
        assert_eq!(fates.due.len(), MOST);
        assert_eq!(fates.containers.values().map(|(_, kills)| kills.len()).sum::<usize>(), MOST);
        let looks = std::cell::Cell::new(0);
        let settled = fates.look(begin + WITHIN, |_, _| {
            looks.set(looks.get() + 1);
            Life::Lives
        });
        assert_eq!((settled.len(), looks.get()), (MOST, 3));
        assert!(settled.iter().all(|it| it.kill >= 2 * MOST as u64), "the newest");
        assert_eq!((fates.due(), fates.containers.len()), (None, 0));
    }
}
