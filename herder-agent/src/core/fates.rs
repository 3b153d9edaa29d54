//! What became of a container after a kill: whether it lived on is not known when a process of
//! it dies. systemd may stop its scope (`OOMPolicy=kill`, `stop`), its own program may give up.
//!
//! A container whose cgroup is removed has ended. One that still has processes after a while has
//! survived. One look at the end of that while is all that it costs.

use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    clock::Monotonic,
    kill::KEPT,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

/// A container that ends within this time has not survived the kill.
const WITHIN: Duration = Duration::from_secs(10);

/// The same where systemd may be stopping it: it gives a unit so long to end by itself
/// (`DefaultTimeoutStopSec=`, 90 s), and some seconds more are for the rest.
const STOPPED_WITHIN: Duration = Duration::from_secs(100);

/// Kills whose containers are followed; of more, which takes more than fit in the journal, the
/// fate of the oldest stays unknown.
const MOST: usize = KEPT;

/// A container's kills by number: when each happened, and when the container is looked at for it.
type Kills = BTreeMap<u64, (Monotonic, Monotonic)>;

/// Containers that had a kill lately.
#[derive(Debug, Default)]
pub(super) struct Fates {
    containers: HashMap<CgroupId, (CgroupPath, Kills)>,
    /// All of their kills, in the order in which the containers are looked at.
    due: BTreeSet<(Monotonic, u64, CgroupId)>,
}

/// How a container was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It has processes, and nothing is known to be ending it.
    Lives,
    /// With processes that systemd may be about to end.
    MayBeStopped,
    Ended,
}

/// What became known about a kill.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) kill: u64,
    pub(super) container: CgroupPath,
    /// After which time the container had ended; none if it survived.
    pub(super) ended: Option<Duration>,
}

impl Fates {
    /// When [`Self::look`] has something to do.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.due.first().map(|(due, ..)| *due)
    }

    /// Follows the container of the kill that was reported under this number.
    pub(super) fn follow(&mut self, kill: u64, id: CgroupId, path: CgroupPath, since: Monotonic) {
        if self.due.len() >= MOST
            && let Some((_, oldest, id)) = self.due.pop_first()
        {
            self.take(oldest, id);
        }
        self.follow_until(since + WITHIN, (kill, since), id, path);
    }

    fn follow_until(
        &mut self,
        due: Monotonic,
        (kill, since): (u64, Monotonic),
        id: CgroupId,
        path: CgroupPath,
    ) {
        self.due.insert((due, kill, id));
        let (_, kills) = self.containers.entry(id).or_insert_with(|| (path, Kills::new()));
        kills.insert(kill, (since, due));
    }

    /// Takes a kill out, and gives its container and when it happened.
    fn take(&mut self, kill: u64, id: CgroupId) -> Option<(CgroupPath, Monotonic)> {
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
    pub(super) fn over(&mut self, id: CgroupId, ended: Option<Monotonic>) -> Vec<Settled> {
        let Some((path, kills)) = self.containers.remove(&id) else { return Vec::new() };
        let settled = |(kill, (since, due))| {
            self.due.remove(&(due, kill, id));
            let ended = ended.map(|ended| ended.saturating_duration_since(since));
            Settled { kill, container: path.clone(), ended }
        };
        kills.into_iter().map(settled).collect()
    }

    /// Looks at the containers whose time has come, each once.
    pub(super) fn look(
        &mut self,
        now: Monotonic,
        life: impl Fn(CgroupId, &CgroupPath) -> Life,
    ) -> Vec<Settled> {
        let mut settled = Vec::new();
        let mut found = HashMap::new();
        while self.deadline().is_some_and(|due| due <= now) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> CgroupPath {
        CgroupPath::parse(text.as_bytes()).unwrap()
    }

    /// Numbers of kills, and after how many seconds their containers had ended.
    fn reported(settled: &[Settled]) -> Vec<(u64, Option<u64>)> {
        settled.iter().map(|it| (it.kill, it.ended.map(|after| after.as_secs()))).collect()
    }

    const A: CgroupId = CgroupId(1);
    const B: CgroupId = CgroupId(2);

    #[test]
    fn what_lives_after_a_while_has_survived_and_what_is_removed_has_not() {
        let begin = Monotonic(7);
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut fates = Fates::default();
        fates.follow(1, A, path("/a"), at(0));
        fates.follow(2, B, path("/b"), at(1));
        fates.follow(3, A, path("/a"), at(4));
        assert_eq!(fates.deadline(), Some(at(10)));
        assert_eq!(reported(&fates.look(at(9), |_, _| Life::Ended)), []);
        assert_eq!(reported(&fates.look(at(10), |_, _| Life::Lives)), [(1, None)]);
        assert_eq!(reported(&fates.over(A, Some(at(12)))), [(3, Some(8))]);
        assert_eq!(reported(&fates.look(at(20), |_, _| Life::Ended)), [(2, Some(19))]);
        assert_eq!((fates.deadline(), fates.containers.len()), (None, 0));
        assert_eq!(reported(&fates.over(A, Some(at(20)))), []);
    }

    /// systemd sends SIGTERM at `OOMPolicy=stop`, and waits.
    #[test]
    fn what_systemd_may_be_stopping_is_not_said_to_have_survived_too_early() {
        let begin = Monotonic(7);
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut fates = Fates::default();
        fates.follow(1, A, path("/a.scope"), at(0));
        fates.follow(2, B, path("/b.scope"), at(0));
        assert_eq!(reported(&fates.look(at(11), |_, _| Life::MayBeStopped)), []);
        assert_eq!(fates.deadline(), Some(at(100)));
        assert_eq!(reported(&fates.over(A, Some(at(90)))), [(1, Some(90))]);
        assert_eq!(reported(&fates.look(at(100), |_, _| Life::MayBeStopped)), [(2, None)]);
    }

    #[test]
    fn what_another_kill_has_ended_had_survived_those_before() {
        let begin = Monotonic(7);
        let mut fates = Fates::default();
        for (kill, id) in [(1, A), (2, B), (3, A)] {
            fates.follow(kill, id, path("/a"), begin);
        }
        assert_eq!(reported(&fates.over(A, None)), [(1, None), (3, None)]);
        assert_eq!((fates.due.len(), fates.containers.len()), (1, 1));
    }

    #[test]
    fn a_storm_is_bounded_and_each_container_is_looked_at_once() {
        let begin = Monotonic(7);
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
        assert_eq!((fates.deadline(), fates.containers.len()), (None, 0));
    }
}
