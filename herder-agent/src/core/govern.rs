//! What becomes of a cgroup that an event or a walk has found: it is named, counted, and brought
//! under its rule.

use super::{Core, appearing::Announced};
use crate::{
    enforce::{Origin, Place},
    kernel::source::{MOST_AT_ONCE, Queue},
    runtime::roles::RoleRequest,
};
use herder_model::{
    cgroup::{CgroupId, CgroupPath, tree::Role, unknown::Unknown},
    oom::event::{Base, CgroupEvent, Event, is_cut},
    owner::Owner,
    rules::matching::{Policy, Verdict},
};
use std::{collections::HashSet, sync::Arc};

/// Events of cgroups that are taken before anything else gets a turn, about. That is more than the
/// programs' ring buffer holds, and as many as inotify queues by default, so that only what was made
/// meanwhile is left.
const MOST_TAKEN: usize = 16 << 10;

/// How often the source is asked for them. Not every record is an event.
const POLLS_AT_ONCE: usize = MOST_TAKEN / MOST_AT_ONCE;

impl Core {
    /// Takes the kernel's events of cgroups. A process that makes them faster than they are taken
    /// keeps nothing else waiting; the next turn goes on.
    pub(super) fn take_cgroups(&mut self) {
        let mut taken = 0;
        for _ in 0..POLLS_AT_ONCE {
            let polled = self.poll(Queue::Cgroups);
            taken += polled.events.len();
            for event in polled.events {
                match event {
                    Event::CgroupMade(made) => self.cgroup_made(made),
                    Event::CgroupRemoved(CgroupEvent { id: Some(id), .. }) => {
                        self.cgroup_removed(id);
                    }
                    // Without an id (no BTF) the next resync finds out.
                    _ => {}
                }
            }
            self.cgroups.has_more = polled.more;
            if !polled.more || taken >= MOST_TAKEN {
                break;
            }
        }
        self.report_not_kept();
    }

    fn cgroup_made(&mut self, made: CgroupEvent) {
        // A cgroup that is already gone was still made, which is what the NRI plugin waits for.
        self.awaited.cgroup_made(&made.path);
        if is_cut(&made.path) {
            // A kill in it is attributed to a cgroup above it, and a walk finds its path.
            self.cgroups.tree.refuse(Role::Other, 1);
            return;
        }
        // Nothing has announced what a directory was found to contain: it may have a past.
        if let Some(id) = made.id
            && self.source.only_counts()
            && self.cgroups.existed(id)
        {
            let role = self.subjects.role(&made.path);
            return self.take_found(id, &made.path, role, self.clock.now());
        }
        let is_sought =
            made.base == Base::Hierarchy && self.cgroups.begins_at != CgroupId::HIERARCHY_ROOT;
        let id = made.id.or_else(|| self.files.id(&made.path).filter(|_| !is_sought));
        if let Some(id) = id.filter(|_| !is_sought)
            && (!self.enters(id, &made.path) || self.subjects.is_left_alone(&made.path))
        {
            return;
        }
        if !self.cgroups.appearing.add(id, made.path, is_sought, self.clock.now()) {
            // A walk takes one that has entered for known.
            id.filter(|_| !is_sought).into_iter().for_each(|id| self.cgroups.is_late(id));
            self.cgroups.unseen();
        }
    }

    /// From now on its kills can be named. Returns whether it is new, and is kept.
    fn enters(&mut self, id: CgroupId, path: &CgroupPath) -> bool {
        let role = self.subjects.role(path);
        let now = self.clock.now();
        let is_new = self.cgroups.tree.made(id, path.clone(), role, now);
        if is_new {
            self.can_be_named(id, path, true);
            self.count_cgroup(id, path, self.cgroups.existed(id));
        }
        is_new
    }

    /// Brings the next new cgroup under its rule, or puts it off if it cannot be
    /// opened yet.
    pub(super) fn try_appearing(&mut self) {
        let now = self.clock.now();
        let Some(mut announced) = self.cgroups.appearing.next() else { return };
        if announced.is_sought {
            let Some((id, path)) = self.cgroups.find(&announced, &self.files) else {
                self.cgroups.appearing.put_off(announced, now);
                return;
            };
            if !self.enters(id, &path) || self.subjects.is_left_alone(&path) {
                return;
            }
            (announced.id, announced.path, announced.is_sought) = (Some(id), path, false);
        }
        if announced.id.is_none() {
            announced.id = self.files.id(&announced.path);
            if let Some(id) = announced.id
                && !self.enters(id, &announced.path)
            {
                return;
            }
        }
        let is_governed = announced.id.is_some_and(|id| {
            self.decide(id, &announced.path, Origin::Made);
            self.enforcer.governs(id) || self.subjects.wanted(&announced.path).is_none()
        });
        if !is_governed
            && let Some(Announced { id: Some(id), .. }) =
                self.cgroups.appearing.put_off(announced, now)
        {
            self.cgroups.is_late(id);
        }
    }

    /// From now on it can be named. `just_made` says that an event has announced it.
    pub(super) fn can_be_named(&mut self, id: CgroupId, path: &CgroupPath, just_made: bool) {
        if let Some(of) = self.subjects.made(id, path, &self.files) {
            self.role_requests.ask(RoleRequest { of, just_made });
        }
    }

    /// From now on the source watches it. `has_past` says that what it has counted until now is not
    /// to be reported, or was.
    pub(super) fn count_cgroup(&mut self, id: CgroupId, path: &CgroupPath, has_past: bool) {
        let subjects = &self.subjects;
        let container_of = |path: &CgroupPath| subjects.container_of(path);
        self.source.made(id, path, has_past, self.clock.now(), &container_of);
    }

    fn cgroup_removed(&mut self, id: CgroupId) {
        self.cgroups.removed(id, self.clock.now());
        self.forget_cgroup(id);
    }

    pub(super) fn forget_cgroup(&mut self, id: CgroupId) {
        if let Some(path) = self.cgroups.tree.path(id) {
            self.subjects.naming.removed(id, path);
            self.source.removed(id);
        }
        self.container_removed(id);
        self.escalations.forget(id);
        self.escalations.forget_left(id);
        self.enforcer.removed(id);
        self.shields.release(id);
        self.audit.removed(id);
        if let Some(over_limit) = &mut self.kills.over_limit {
            over_limit.removed(id);
        }
        self.forget_series(id);
    }

    /// The series of a cgroup that is gone, if it has any, go after a while, and
    /// those of a container of a pod a while after the pod.
    pub(super) fn forget_series(&self, id: CgroupId) {
        let tree = &self.cgroups.tree;
        if let Some((_, path)) = tree.nearest(id).filter(|(id, _)| tree.is_gone(*id)) {
            let owner = self.subjects.owner(path);
            self.reporter.owner_left(&owner);
            // Before the container had a name, its kills may have been counted by its path.
            let container = self.subjects.container_of(path);
            self.reporter.owner_left(&Owner::Host { cgroup: container });
            // What is a pod's but no container has the series of its kills there.
            let of_pod = matches!(owner, Owner::Host { .. })
                .then(|| self.subjects.naming.owner_of_kill(path));
            if let Some(owner) = of_pod.flatten() {
                self.reporter.owner_left(&owner);
            }
        }
    }

    /// Restores the values that an earlier agent wrote where no rule matches any more, once all
    /// pods are known, and all cgroups but these.
    pub(super) fn restore_left(&mut self, unknown: &Unknown) {
        self.release_left_inits(unknown);
        let unmatched = self.subjects.certainly_unmatched(self.clock.now());
        let is_sure = |path: &CgroupPath| !unknown.contains(path) && unmatched(path);
        let tree = &self.cgroups.tree;
        let is_done = |id: &CgroupId| tree.path(*id).is_some_and(&is_sure);
        let mut done: HashSet<_> = self.enforcer.left().filter(is_done).collect();
        // The next walk restores those.
        done.retain(|id| !self.shields.is_still_exempt(*id));
        done.iter().for_each(|id| self.escalations.forget_left(*id));
        self.enforcer.restore_left(|id| done.contains(&id));
    }

    /// Takes other rules.
    pub(super) fn take_policy(&mut self, policy: Arc<Policy>) {
        self.reporter.rules(policy.names());
        self.reporter.escalating(policy.escalations());
        let before = std::mem::replace(&mut self.subjects.policy, policy);
        self.ask_for_arguments(Some(&before));
        self.cgroups.sort(&self.subjects);
        self.refuse_new_groups();
        let living: Vec<_> = self.cgroups.tree.living().map(|(id, _)| id).collect();
        // What is there was there before these rules, however new it is: kills until now are not
        // theirs, and its value is what it had.
        living.into_iter().for_each(|id| self.decide_known(id, Origin::Existing));
    }

    /// Brings these under their rules anew. The pod of a new container may be known only after it:
    /// a 0 there is still the kernel's, and the 1 that follows its runtime's.
    pub(super) fn decide_some(&mut self, ids: impl IntoIterator<Item = CgroupId>) {
        let now = self.clock.now();
        for id in ids {
            let is_new = self.cgroups.tree.is_new(id, now);
            self.decide_known(id, if is_new { Origin::Made } else { Origin::Existing });
        }
    }

    fn decide_known(&mut self, id: CgroupId, origin: Origin) {
        if let Some(path) = self.cgroups.tree.path(id).cloned() {
            self.decide(id, &path, origin);
        }
    }

    /// Brings one cgroup under its rule, or lets it go.
    pub(super) fn decide(&mut self, id: CgroupId, path: &CgroupPath, origin: Origin) {
        match self.subjects.verdict(path) {
            Verdict::Matched(target) => {
                let is_new = origin == Origin::Made;
                // Since Herder adjusted the container's spec, the spec no longer says the original
                // value.
                let origin = self.subjects.naming.adjusted(path).map_or(origin, Origin::Adjusted);
                let scope = self.subjects.scope_of(path);
                let owner = self.subjects.owner(scope.as_ref().unwrap_or(path));
                let target = self.escalated(id, path, scope.as_ref(), is_new, target);
                self.shield(id, path, &target, scope.is_none());
                if target.value && self.awaits_init(id, path) {
                    return;
                }
                self.enforcer.govern(id, Place { path, scope }, origin, target, owner);
                // At once, so that what a thousand containers have to say never piles up.
                self.take_effects();
                return;
            }
            Verdict::BadAnnotation(error) => {
                let naming = &self.subjects.naming;
                self.notices.notice_bad_annotation(naming, path, &error, &self.reporter);
            }
            Verdict::Leave { .. } | Verdict::Unmatched => {}
        }
        self.escalations.forget(id);
        self.shields.release(id);
        if self.enforcer.restores_group(id) && self.awaits_init(id, path) {
            return;
        }
        self.enforcer.release(id);
        self.take_effects();
        self.audit.removed(id);
    }

    /// How many cgroups are not kept, if that has changed.
    pub(super) fn report_not_kept(&mut self) {
        let Some((before, not_kept)) = self.cgroups.newly_not_kept() else { return };
        self.reporter.not_kept(before, not_kept);
        let ([containers, _], [of_before, _]) = (not_kept, before);
        if containers != of_before {
            self.enforcer.not_kept(containers);
        }
    }
}
