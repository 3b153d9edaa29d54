//! The cgroups that events and walks have found: their tree, those that are yet to be opened, and
//! where a walk is.

use super::{
    appearing::{Announced, Appearing},
    subjects::Subjects,
};
use crate::kernel::cgroupfs::CgroupFs;
use herder_model::{
    cgroup::{
        CgroupId, CgroupPath,
        tree::{CgroupTree, Role},
    },
    clock::Monotonic,
};
use std::{collections::BTreeSet, mem};

/// What is known of cgroups.
pub(super) struct Cgroups {
    pub(super) tree: CgroupTree,
    pub(super) appearing: Appearing,
    /// The cgroup that the mount begins at.
    pub(super) begins_at: CgroupId,
    /// Not all events are taken, and no descriptor becomes readable for the rest.
    pub(super) has_more: bool,
    /// All have been looked at once.
    walked: bool,
    /// The newest that the first walk has found.
    newest_before: CgroupId,
    /// Some may have been made without an event.
    unseen: bool,
    /// New ones that did not appear in time, or for which there was no room to wait; a walk tries
    /// them again.
    late: BTreeSet<CgroupId>,
    /// The way from the root to where a walk is.
    way: Vec<(CgroupId, CgroupPath)>,
    /// How many were not kept when that was last reported, by their role.
    not_kept: [u64; 2],
}

impl Cgroups {
    pub(super) fn new(begins_at: CgroupId) -> Self {
        Cgroups {
            tree: CgroupTree::default(),
            appearing: Appearing::default(),
            begins_at,
            has_more: false,
            walked: false,
            newest_before: CgroupId(0),
            unseen: false,
            late: BTreeSet::new(),
            way: Vec::new(),
            not_kept: [0; 2],
        }
    }

    /// When events are to be taken, or a new cgroup is to be opened.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        if self.has_more { Some(Monotonic::ZERO) } else { self.appearing.deadline() }
    }

    /// The path of a cgroup that is there.
    pub(super) fn living(&self, id: CgroupId) -> Option<&CgroupPath> {
        self.tree.path(id).filter(|_| !self.tree.is_gone(id))
    }

    /// The path of a cgroup, or of the nearest kept one above it, if that says whose the cgroup is.
    /// A cgroup above containers does not: the one sought may be in a container that no event has
    /// announced.
    pub(super) fn path_or_above(&self, id: CgroupId, subjects: &Subjects) -> Option<CgroupPath> {
        let (nearest, path) = self.tree.nearest(id)?;
        let is_near_enough = nearest == id
            || self.tree.role(nearest) == Some(Role::Other)
            || subjects.naming.lies_in_container(path)
            || subjects.wanted(path).is_some();
        is_near_enough.then(|| path.clone())
    }

    /// Where the mount shows a cgroup of which it is only known what it is called from the
    /// hierarchy's root. Without an id the event is no more than a reason to look: what is
    /// there, and is new, is a cgroup of ours, whichever the event was about.
    pub(super) fn find(
        &self,
        announced: &Announced,
        files: &CgroupFs,
    ) -> Option<(CgroupId, CgroupPath)> {
        let paths = (0..).map_while(|level| announced.path.from_level(level));
        let mut found = paths.filter_map(|path| Some((files.id(&path)?, path)));
        found.find(|(id, _)| match announced.id {
            Some(wanted) => *id == wanted,
            None => self.tree.path(*id).is_none(),
        })
    }

    /// It is in the tree, and could not be opened in time.
    pub(super) fn is_late(&mut self, id: CgroupId) {
        self.late.insert(id);
    }

    /// It was removed.
    pub(super) fn removed(&mut self, id: CgroupId, now: Monotonic) {
        self.appearing.removed(id);
        self.late.remove(&id);
        self.tree.removed(id, now);
    }

    /// Some may have been made without an event, so that only a walk can find them.
    pub(super) fn unseen(&mut self) {
        self.unseen = true;
    }

    /// Whether that is so since the last call.
    pub(super) fn take_unseen(&mut self) -> bool {
        mem::take(&mut self.unseen)
    }

    /// Whether all have been looked at once, so that another one is new.
    pub(super) fn walked(&self) -> bool {
        self.walked
    }

    /// Whether a cgroup was there before the agent, whenever it is found: ids grow, and none is used
    /// again.
    pub(super) fn existed(&self, id: CgroupId) -> bool {
        !self.walked || id <= self.newest_before
    }

    pub(super) fn begin_walk(&mut self) {
        self.tree.begin_walk();
        self.way.clear();
    }

    /// A walk comes to a cgroup: gives those above it, from the root on, if it is a container
    /// and they are not known. Whose limit was hit is known by them, whatever room there was.
    pub(super) fn walks_to(
        &mut self,
        path: &CgroupPath,
        role: Role,
    ) -> Vec<(CgroupId, CgroupPath)> {
        while self.way.pop_if(|(_, above)| !path.is_within(above)).is_some() {}
        if role != Role::Container {
            return Vec::new();
        }
        self.way.iter().filter(|(id, _)| self.tree.path(*id).is_none()).cloned().collect()
    }

    pub(super) fn walked_past(&mut self, id: CgroupId, path: CgroupPath) {
        if !self.walked {
            self.newest_before = self.newest_before.max(id);
        }
        self.way.push((id, path));
    }

    /// Those that a walk tries again.
    pub(super) fn take_late(&mut self) -> BTreeSet<CgroupId> {
        mem::take(&mut self.late)
    }

    /// All have been looked at. Returns whether they had been before.
    pub(super) fn all_walked(&mut self) -> bool {
        mem::replace(&mut self.walked, true)
    }

    /// How many are not kept, by their role, before and now, if that has changed.
    pub(super) fn newly_not_kept(&mut self) -> Option<([u64; 2], [u64; 2])> {
        let now = Role::ALL.map(|role| self.tree.not_kept(role));
        let before = mem::replace(&mut self.not_kept, now);
        (before != now).then_some((before, now))
    }

    /// Other rules decide what a cgroup is.
    pub(super) fn sort(&mut self, subjects: &Subjects) {
        self.tree.sort(|path| subjects.role(path));
        if self.not_kept != [0; 2] {
            // Among those that are not kept some may be matched now.
            self.unseen();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use herder_model::naming::Naming;
    use std::{fs, sync::Arc};

    fn path(text: &str) -> CgroupPath {
        CgroupPath::parse(text.as_bytes()).unwrap()
    }

    fn made(cgroups: &mut Cgroups, id: u64, text: &str, role: Role) {
        assert!(cgroups.tree.made(CgroupId(id), path(text), role, Monotonic::ZERO));
    }

    /// What lies above a container is kept with it, whatever room there is.
    #[test]
    fn a_walk_gives_the_unknown_way_to_a_container() {
        let mut cgroups = Cgroups::new(CgroupId(1));
        made(&mut cgroups, 1, "/", Role::Container);
        cgroups.begin_walk();
        for (id, text, role, unknown) in [
            (1, "/", Role::Container, &[][..]),
            (2, "/a", Role::Other, &[]),
            (3, "/a/b", Role::Other, &[]),
            (4, "/a/b/c", Role::Container, &[2, 3]),
            (5, "/d", Role::Other, &[]),
            (6, "/d/e", Role::Container, &[5]),
        ] {
            let above = cgroups.walks_to(&path(text), role);
            let above: Vec<u64> = above.into_iter().map(|(id, _)| id.0).collect();
            assert_eq!(above, unknown, "{text}");
            cgroups.walked_past(CgroupId(id), path(text));
        }
    }

    /// No event has announced the cgroup below the slice, and the slice does not say whose a kill
    /// in it is.
    #[test]
    fn what_lies_above_an_unknown_cgroup_stands_for_it_only_if_it_says_whose_it_is() {
        let subjects = Subjects::new(Naming::new(true), Arc::default(), 0);
        let mut cgroups = Cgroups::new(CgroupId(1));
        let pod = "/kubepods/pod2c39abf0-f543-4c05-8cfe-3839410aef01";
        let container = format!("{pod}/{}", "a".repeat(64));
        made(&mut cgroups, 2, pod, Role::Container);
        made(&mut cgroups, 3, &container, Role::Container);
        made(&mut cgroups, 4, "/other", Role::Other);
        for (id, above, expected) in
            [(7, 2, None), (8, 3, Some(container.as_str())), (9, 4, Some("/other"))]
        {
            cgroups.tree.lies_below(CgroupId(id), &[CgroupId(above)]);
            let found = cgroups.path_or_above(CgroupId(id), &subjects);
            assert_eq!(found, expected.map(path), "below {above}");
        }
    }

    #[test]
    fn a_cgroup_is_found_where_the_mount_shows_it() {
        let root = std::env::temp_dir().join(format!("herder-sought-{}", std::process::id()));
        fs::create_dir_all(root.join("pods/c")).unwrap();
        let files = CgroupFs::new(root.clone());
        let id = files.id(&path("/pods/c"));
        let mut cgroups = Cgroups::new(CgroupId(5));
        for sought in [id, Some(CgroupId(u64::MAX))] {
            cgroups.appearing.add(sought, path("/node.scope/pods/c"), true, Monotonic::ZERO);
            let announced = cgroups.appearing.next().unwrap();
            let found = cgroups.find(&announced, &files);
            assert_eq!(found, (sought == id).then(|| (id.unwrap(), path("/pods/c"))));
        }
        fs::remove_dir_all(&root).unwrap();
    }
}
