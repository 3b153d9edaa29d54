//! New cgroups that cannot be brought under their rule yet: the kernel announces each some
//! microseconds before its directory can be opened.

use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    clock::Monotonic,
};
use std::{collections::VecDeque, time::Duration};

/// How long a new cgroup's directory is tried for, from when its event is read. The kernel announces it some
/// microseconds before it can be opened; an emulated or busy node takes longer.
const WITHIN: Duration = Duration::from_millis(100);

/// Pause between two such tries.
const RETRY: Duration = Duration::from_millis(1);

/// Most that wait for that at once; a walk finds those beyond.
const MOST: usize = 1024;

/// A cgroup that was announced, and is yet to be brought under its rule.
#[derive(Debug)]
pub(super) struct Announced {
    /// None where the kernel has no BTF: the event then carries no id.
    pub(super) id: Option<CgroupId>,
    pub(super) path: CgroupPath,
    /// Its path may begin above the mount.
    pub(super) is_sought: bool,
    /// When it is tried, again if it could not be opened before.
    due: Monotonic,
    until: Monotonic,
}

/// Those that wait.
#[derive(Debug, Default)]
pub(super) struct Appearing(VecDeque<Announced>);

impl Appearing {
    /// Takes one that is tried at once. Returns whether there is room for it.
    pub(super) fn add(
        &mut self,
        id: Option<CgroupId>,
        path: CgroupPath,
        is_sought: bool,
        now: Monotonic,
    ) -> bool {
        if self.0.len() >= MOST {
            return false;
        }
        self.0.push_back(Announced { id, path, is_sought, due: now, until: now + WITHIN });
        true
    }

    /// When the next is tried.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.0.iter().map(|announced| announced.due).min()
    }

    /// The one that is tried next, whether or not it is time.
    pub(super) fn next(&mut self) -> Option<Announced> {
        let due = self.deadline()?;
        let next = self.0.iter().position(|announced| announced.due == due)?;
        self.0.remove(next)
    }

    /// It cannot be opened yet. Returns it when it was tried for long enough.
    pub(super) fn put_off(&mut self, announced: Announced, now: Monotonic) -> Option<Announced> {
        if now >= announced.until {
            return Some(announced);
        }
        self.0.push_back(Announced { due: now + RETRY, ..announced });
        None
    }

    /// A cgroup was removed.
    pub(super) fn removed(&mut self, id: CgroupId) {
        self.0.retain(|announced| announced.id != Some(id));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> CgroupId {
        CgroupId(number)
    }

    #[test]
    fn each_is_tried_in_turn_until_its_time_is_over() {
        let mut appearing = Appearing::default();
        let mut now = Monotonic(7);
        for number in [1, 2] {
            assert!(appearing.add(Some(id(number)), CgroupPath::root(), false, now));
        }
        let mut tries = Vec::new();
        let mut given_up = Vec::new();
        while let Some(due) = appearing.deadline() {
            now = now.max(due);
            let next = appearing.next().unwrap();
            tries.push(next.id.unwrap().0);
            given_up.extend(appearing.put_off(next, now).map(|it| it.id.unwrap().0));
        }
        assert_eq!((&tries[..4], tries.len()), (&[1, 2, 1, 2][..], 2 * 101));
        assert_eq!((given_up, now), (vec![1, 2], Monotonic(7) + WITHIN));
    }

    #[test]
    fn there_is_room_for_so_many_and_what_is_removed_waits_no_more() {
        let mut appearing = Appearing::default();
        let mut add =
            |number| appearing.add(Some(id(number)), CgroupPath::root(), false, Monotonic::ZERO);
        assert!((0..MOST as u64).all(&mut add) && !add(MOST as u64));
        appearing.removed(id(5));
        assert_eq!(appearing.len(), MOST - 1);
        let mut left = std::iter::from_fn(|| appearing.next());
        assert!(left.all(|announced| announced.id != Some(id(5))));
    }
}
