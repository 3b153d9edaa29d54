//! Which inits are to be protected, and which are: the core's side of [`crate::enforce::shield`].

mod ended;
mod restoring;

use super::{Core, subjects::Subjects};
use crate::enforce::{
    ContainerState,
    shield::{Found, Link, Parts, Protect, Wanted},
};
use herder_model::{
    cgroup::{CgroupId, CgroupPath, unknown::Unknown},
    rules::matching::{Target, Verdict},
    shield::{SavedInits, Unprotected},
};
use restoring::Restoring;
use std::{collections::HashMap, future::pending, sync::Arc};

/// What is wanted, and the thread that does it, once something is.
pub(super) struct Shields {
    parts: Option<Parts>,
    link: Option<Link>,
    /// What an earlier agent left, as long as no thread looks after it.
    left: SavedInits,
    /// Where the cgroups of those inits are that are kept.
    kept_at: HashMap<CgroupId, CgroupPath>,
    wanted: Wanted,
    changed: bool,
    /// The versions that are in the state file, and in the one that is being written.
    saved: u64,
    saving: u64,
    restoring: Restoring,
    /// What was found when Events were emitted last.
    noticed: Arc<Found>,
}

impl Shields {
    /// Without parts nothing is ever protected.
    pub(super) fn new(parts: Option<Parts>) -> Self {
        let left = parts.as_ref().map(|parts| parts.left.clone()).unwrap_or_default();
        let wanted = Wanted { keep: left.keys().copied().collect(), ..Wanted::default() };
        let changed = !left.is_empty();
        Shields {
            parts,
            link: None,
            kept_at: left.iter().map(|(id, init)| (*id, init.path.clone())).collect(),
            left,
            changed,
            wanted,
            saved: 0,
            saving: 0,
            restoring: Restoring::default(),
            noticed: Arc::default(),
        }
    }

    fn want(&mut self, id: CgroupId, protect: Protect) {
        self.changed |= self.wanted.keep.remove(&id);
        self.restoring.forget(id);
        if self.wanted.containers.get(&id) != Some(&protect) {
            self.wanted.containers.insert(id, protect);
            self.changed = true;
        }
    }

    pub(super) fn release(&mut self, id: CgroupId) {
        self.changed |= self.wanted.containers.remove(&id).is_some();
    }

    /// The rule that matches it does not want its init to be protected, which is certain: what an
    /// earlier agent left is not kept either.
    fn refuse(&mut self, id: CgroupId) {
        self.release(id);
        self.changed |= self.wanted.keep.remove(&id);
    }

    /// It is about to be killed as a group, which would leave an exempt init over: that is handed
    /// over before the value is written.
    fn refuse_of_group(&mut self, id: CgroupId) {
        let was_wanted = self.wanted.containers.contains_key(&id) || self.wanted.keep.contains(&id);
        self.refuse(id);
        if was_wanted {
            self.hand_over();
        }
    }

    /// A rule matches a cgroup: whether its init is to be protected. crun's cgroup in a scope is
    /// part of that. What has no name yet may be a pod's sandbox, and another rule may match it by
    /// its name.
    fn decide(
        &mut self,
        subjects: &Subjects,
        id: CgroupId,
        path: &CgroupPath,
        rule: &Arc<str>,
        whole: bool,
    ) {
        if subjects.naming.awaits_name(path) {
            self.release(id);
        } else if !subjects.policy.protects_init(rule) {
            self.refuse(id);
        } else if whole {
            let (path, rule, init) = (path.clone(), rule.clone(), subjects.naming.init(path));
            self.want(id, Protect { path, rule, init });
        } else {
            self.release(id);
        }
    }

    /// Forgets what an earlier agent left where no rule wants it for certain.
    pub(super) fn keep(&mut self, keeps: impl Fn(CgroupId, Option<&CgroupPath>) -> bool) {
        let (before, at) = (self.wanted.keep.len(), &mut self.kept_at);
        self.wanted.keep.retain(|id| keeps(*id, at.get(id)));
        at.retain(|id, _| self.wanted.keep.contains(id));
        self.changed |= self.wanted.keep.len() != before;
    }

    /// Those that are wanted, or kept until it is certain whether they are.
    fn ids(&self) -> Vec<CgroupId> {
        self.wanted.containers.keys().chain(&self.wanted.keep).copied().collect()
    }

    /// Hands over what is wanted, if that has changed.
    pub(super) fn hand_over(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        if let Some(link) = &self.link {
            return link.want(self.wanted.clone());
        }
        let Some(parts) = self.parts.take() else { return };
        match Link::start(parts, self.wanted.clone()) {
            Ok(link) => (self.link, self.left) = (Some(link), SavedInits::new()),
            Err(error) => {
                tracing::error!(%error, "No init is protected: the thread for it cannot be started.");
            }
        }
    }

    /// Waits until something else is protected.
    pub(super) async fn news(&mut self) {
        match &mut self.link {
            Some(link) => link.changed().await,
            None => pending().await,
        }
    }

    fn found(&self) -> Arc<Found> {
        self.link.as_ref().map(Link::found).unwrap_or_default()
    }

    /// Whether there is something that the state file has not.
    pub(super) fn is_unsaved(&self) -> bool {
        self.found().version > self.saving
    }

    /// What the next agent has to know; it is being saved.
    pub(super) fn begin_saving(&mut self) -> SavedInits {
        if self.link.is_none() {
            return self.left.clone();
        }
        let found = self.found();
        self.saving = found.version;
        found.inits.clone()
    }

    /// What was being saved is in the state file, or is not.
    pub(super) fn saved(&mut self, done: bool) {
        if !done {
            self.saving = self.saved;
        } else if self.saving > self.saved {
            self.saved = self.saving;
            if let Some(link) = &self.link {
                link.saved(self.saved);
            }
        }
    }

    /// The agent ends.
    pub(super) fn end(&mut self) {
        if let Some(link) = &mut self.link {
            link.end();
        }
    }
}

impl Core {
    /// A rule matches a cgroup: whether its init is to be protected.
    pub(super) fn shield(&mut self, id: CgroupId, path: &CgroupPath, target: &Target, whole: bool) {
        if target.value {
            return self.shields.refuse_of_group(id);
        }
        self.shields.decide(&self.subjects, id, path, &target.rule, whole);
    }

    /// Other rules make groups of these: their inits are restored before all values are written, by
    /// one message.
    pub(super) fn refuse_new_groups(&mut self) {
        for id in self.shields.ids() {
            let verdict = self.cgroups.tree.path(id).map(|path| self.subjects.verdict(path));
            if matches!(verdict, Some(Verdict::Matched(target)) if target.value) {
                self.shields.refuse(id);
            }
        }
        self.shields.hand_over();
    }

    /// What an earlier agent left stays until it is certain that no rule wants it.
    pub(super) fn release_left_inits(&mut self, unknown: &Unknown) {
        let unprotected = self.subjects.certainly_unprotected(self.clock.now());
        let tree = &self.cgroups.tree;
        self.shields.keep(|id, left_at| match tree.path(id) {
            Some(path) => !tree.is_gone(id) && (unknown.contains(path) || !unprotected(path)),
            None => left_at.is_some_and(|path| unknown.contains(path)),
        });
    }

    /// Says of each container whether its init is protected, where its rule asks for it.
    pub(super) fn show_protection(&self, states: &mut [ContainerState]) {
        let found = self.shields.found();
        if found.states.is_empty() {
            return;
        }
        let wanted = &self.shields.wanted.containers;
        let by_path: HashMap<_, _> = wanted
            .iter()
            .filter_map(|(id, protect)| Some((&protect.path, found.states.get(id)?)))
            .collect();
        for state in states {
            let shown = by_path.get(&state.cgroup);
            state.init = shown.map(|it| it.map_or("protected", Unprotected::as_str));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Reporter;
    use herder_model::{
        naming::Naming,
        rules::{matching::Policy, parse::Config},
        shield::SavedInit,
    };

    /// An agent that is killed leaves an init exempt, and its successor has other rules.
    #[test]
    fn what_was_left_is_kept_until_a_rule_or_none_is_certain() {
        let id = CgroupId(7);
        let left = || {
            let mut shields = Shields::new(None);
            shields.wanted.keep.insert(id);
            shields
        };
        let protect = || Protect { path: CgroupPath::root(), rule: "r".into(), init: None };
        let mut shields = left();
        shields.release(id);
        assert!(shields.wanted.keep.contains(&id) && !shields.changed, "its name may yet come");
        shields.refuse(id);
        assert!(shields.wanted.keep.is_empty() && shields.changed);
        let mut shields = left();
        shields.want(id, protect());
        assert!(shields.wanted.keep.is_empty() && shields.wanted.containers.contains_key(&id));
        shields.refuse(id);
        assert_eq!(shields.wanted, Wanted::default());
        let mut shields = left();
        shields.keep(|_, _| false);
        assert_eq!(shields.wanted, Wanted::default());
    }

    /// A walk that cannot read where it is has not found it.
    #[test]
    fn where_an_init_was_left_is_known_before_its_cgroup_is_found() {
        let init = SavedInit { path: CgroupPath::root(), pid: 7, start: 7, score: 0 };
        let mut shields = Shields::new(Some(dry_run([(CgroupId(7), init)].into())));
        shields.keep(|_, at| at == Some(&CgroupPath::root()));
        assert_eq!((shields.wanted.keep.len(), shields.kept_at.len()), (1, 1));
        shields.keep(|_, _| false);
        assert_eq!((shields.wanted.keep.len(), shields.kept_at.len()), (0, 0));
    }

    /// Its name may bring a container under another rule than its path.
    #[test]
    fn a_rule_is_not_certain_before_the_name_is_known() {
        let rules = "rules: [{ name: all, cgroups: [\"/**\"], oomGroup: single-process }]";
        let policy = Arc::new(Policy::new(Config::parse(rules, "test").unwrap()));
        let subjects = Subjects::new(Naming::new(true), policy, 0);
        let uid = "2c39abf0-f543-4c05-8cfe-3839410aef01";
        let unnamed = format!("/kubepods/pod{uid}/{}", "a".repeat(64));
        let id = CgroupId(7);
        for (path, is_kept) in [(unnamed.as_str(), true), ("/system.slice/x.service", false)] {
            let path = CgroupPath::parse(path.as_bytes()).unwrap();
            let rule = subjects.wanted(&path).unwrap().rule;
            let mut shields = Shields::new(None);
            shields.wanted.keep.insert(id);
            shields.decide(&subjects, id, &path, &rule, true);
            assert_eq!(shields.wanted.keep.contains(&id), is_kept, "{path}");
        }
    }

    fn dry_run(left: SavedInits) -> Parts {
        Parts {
            proc_root: "/proc".into(),
            cgroup_root: "/sys/fs/cgroup".into(),
            begins_at: CgroupId::HIERARCHY_ROOT,
            loader: None,
            has_state: true,
            most: 1,
            dry_run: true,
            left,
            listener: Arc::new(Reporter::default()),
        }
    }

    /// The kernel passes over an exempt init when it kills the group.
    #[test]
    fn that_a_container_becomes_a_group_is_handed_over_at_once() {
        let mut shields = Shields::new(Some(dry_run(SavedInits::new())));
        for id in [7, 8] {
            let path = CgroupPath::parse(format!("/{id}").as_bytes()).unwrap();
            shields.want(CgroupId(id), Protect { path, rule: "r".into(), init: None });
        }
        shields.hand_over();
        let handed_over = |shields: &Shields| -> Vec<_> {
            let link = shields.link.as_ref().unwrap();
            link.wanted().containers.keys().copied().collect()
        };
        assert_eq!(handed_over(&shields), [CgroupId(7), CgroupId(8)]);
        shields.refuse_of_group(CgroupId(7));
        assert_eq!(handed_over(&shields), [CgroupId(8)]);
        shields.end();
    }

    /// A dry run writes nothing, and what it starts with is saved again.
    #[test]
    fn what_was_left_is_saved_whether_or_not_there_is_a_thread() {
        let saved = SavedInit { path: CgroupPath::root(), pid: 1, start: 1, score: 0 };
        let left = SavedInits::from([(CgroupId(7), saved)]);
        let mut shields = Shields::new(Some(dry_run(left.clone())));
        assert_eq!(shields.begin_saving(), left);
        // As when the thread cannot be started.
        let parts = shields.parts.take();
        assert_eq!(shields.begin_saving(), left);
        shields.parts = parts;
        shields.hand_over();
        assert!(shields.link.is_some());
        assert_eq!(shields.begin_saving(), left);
        shields.end();
        assert_eq!(shields.begin_saving(), left);
    }
}
