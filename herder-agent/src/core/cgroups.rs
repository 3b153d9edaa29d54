//! What becomes of cgroups: they are named, counted, and brought under their rule, whether
//! an event told of them or a walk found them.

use super::{Core, decoded};
use crate::{
    enforce::{Origin, Place},
    kernel::{clock::monotonic_now, source::Source},
};
use herder_model::{
    cgroup::{CgroupId, CgroupPath, tree::Role},
    naming::Naming,
    oom::event::{CgroupEvent, Event},
    owner::{Owner, crun},
    rules::matching::{Policy, Target, Verdict},
};
use std::{
    collections::HashSet, fs, io, os::unix::fs::MetadataExt, path::PathBuf, sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// How long after the pods are known their containers' names are, at the latest: the kubelet
/// tells those of a pod that is just being made some seconds later.
const NAMED_WITHIN: Duration = Duration::from_secs(60);

/// Events of cgroups that are kept at once.
const MOST_AT_ONCE: usize = 256;

impl Core {
    /// Takes what the kernel told about cgroups.
    pub(super) fn take_cgroups(&mut self) {
        let mut all = false;
        while !all {
            let mut events = self.take_changes();
            let (page_size, reporter) = (self.page_size, &self.reporter);
            all = match &mut self.source {
                Source::Ebpf(probe) => probe.read_cgroups(MOST_AT_ONCE, |record| {
                    events.extend(decoded(record, page_size, reporter));
                }),
                Source::MemoryEvents(_) => true,
            };
            for event in events {
                match event {
                    Event::CgroupMade(made) => self.cgroup_made(made),
                    Event::CgroupRemoved(CgroupEvent { id: Some(id), .. }) => {
                        self.cgroup_removed(id);
                    }
                    // Without an id (no BTF) the next resync finds out.
                    _ => {}
                }
            }
        }
        self.tell_not_kept();
    }

    /// Where the hierarchy is, if there is one.
    pub(super) fn hierarchy(&self) -> Option<PathBuf> {
        self.enforcer.has_root().then(|| self.root.clone())
    }

    /// What a cgroup is to the agent.
    pub(super) fn role(&self, path: &CgroupPath) -> Role {
        role(&self.naming, &self.policy, path)
    }

    /// From now on it can be named, and its kills are counted.
    pub(super) fn named_and_counted(&mut self, id: CgroupId, path: &CgroupPath) {
        self.take_owners(id, path);
        self.count_cgroup(id, path);
    }

    pub(super) fn cgroup_removed(&mut self, id: CgroupId) {
        self.appearing.retain(|appearing| appearing.id != Some(id));
        self.tree.removed(id, monotonic_now());
        if let Some(over_limit) = &mut self.over_limit {
            over_limit.removed(id);
        }
        self.forget_cgroup(id);
    }

    pub(super) fn forget_cgroup(&mut self, id: CgroupId) {
        if let Some(path) = self.tree.path(id) {
            self.naming.removed(id, path);
        }
        self.uncount_cgroup(id);
        self.container_removed(id);
        self.enforcer.removed(id);
        self.reconciler.removed(id);
        self.forget_series(id);
    }

    /// The series of a cgroup that is gone, if it has any, go after a while, and
    /// those of a container of a pod a while after the pod.
    pub(super) fn forget_series(&self, id: CgroupId) {
        if let Some((_, path)) = self.tree.nearest(id).filter(|(id, _)| self.tree.is_gone(*id)) {
            let owner = self.owner(path);
            self.reporter.owner_left(&owner);
            // Before it had a name it may have been told of by its path.
            self.reporter.owner_left(&Owner::Host { cgroup: self.container_of(path) });
            // What is a pod's but no container has the series of its kills there.
            let of_pod =
                matches!(owner, Owner::Host { .. }).then(|| self.naming.owner_of_kill(path));
            if let Some(owner) = of_pod.flatten() {
                self.reporter.owner_left(&owner);
            }
        }
    }

    /// A directory below the mount may be removed and made again. Then neither the programs
    /// nor who writes know it: the next agent does.
    pub(super) fn begins_as_before(&self) -> io::Result<()> {
        let now = fs::metadata(&self.root).map(|about| about.ino()).ok();
        match now {
            Some(now) if self.enforcer.has_root() && now != self.begins_at.0 => {
                let path = self.root.display();
                Err(io::Error::other(format!("{path} is another cgroup than at the start")))
            }
            _ => Ok(()),
        }
    }

    /// Gives back what an earlier agent wrote where no rule matches any more, once all cgroups
    /// and pods are known. A container without a name may yet match a rule.
    pub(super) fn restore_left(&mut self) {
        if !self.naming.knows_pods() {
            return;
        }
        let since = *self.pods_known.get_or_insert_with(Instant::now);
        let named_by_now = since.elapsed() > NAMED_WITHIN;
        let unmatched = |id| {
            self.tree.path(id).is_some_and(|path| {
                (named_by_now || !self.naming.awaits_name(path)) && self.wanted(path).is_none()
            })
        };
        let done: HashSet<_> = self.enforcer.left().filter(|id| unmatched(*id)).collect();
        self.enforcer.restore_left(|id| done.contains(&id));
    }

    /// Takes other rules.
    pub(super) fn take_policy(&mut self, policy: Arc<Policy>) {
        self.policy = policy;
        self.reporter.rules(self.policy.names());
        self.tree.sort(|path| role(&self.naming, &self.policy, path));
        if self.not_kept != [0; 2] {
            // Among those that are not kept some may be matched now.
            self.losses.cgroups_unseen();
        }
        self.decide_all();
    }

    pub(super) fn decide_all(&mut self) {
        let living: Vec<_> = self.tree.living().map(|(id, _)| id).collect();
        self.decide_some(living);
    }

    pub(super) fn decide_some(&mut self, ids: impl IntoIterator<Item = CgroupId>) {
        for id in ids {
            let Some(path) = self.tree.path(id).cloned() else { continue };
            let is_new = self.appearing.iter().any(|appearing| appearing.id == Some(id));
            let origin = if is_new { Origin::Made } else { Origin::Existing };
            self.decide(id, &path, origin);
        }
    }

    /// Brings one cgroup under its rule, or lets it go.
    pub(super) fn decide(&mut self, id: CgroupId, path: &CgroupPath, origin: Origin) {
        match self.naming.verdict(&self.policy, path) {
            Verdict::Matched(target) => {
                // What its spec has said since we changed it is not what anybody wanted.
                let origin = self.naming.adjusted(path).map_or(origin, Origin::Adjusted);
                let scope = self.scope_of(path);
                let owner = self.owner(scope.as_ref().unwrap_or(path));
                self.enforcer.govern(id, Place { path, scope }, origin, target, owner);
                // At once, so that what a thousand containers have to say never piles up.
                self.take_effects();
                return;
            }
            Verdict::BadAnnotation(error) => self.notice_bad_annotation(path, &error),
            Verdict::Leave { .. } | Verdict::Unmatched => {}
        }
        self.enforcer.release(id);
        self.reconciler.removed(id);
    }

    /// What the rules want of a cgroup, if they want something.
    pub(super) fn wanted(&self, path: &CgroupPath) -> Option<Target> {
        match self.naming.verdict(&self.policy, path) {
            Verdict::Matched(target) => Some(target),
            _ => None,
        }
    }

    /// The scope that is one container with this cgroup, which crun has made in it; not if
    /// a rule wants something of this cgroup alone.
    pub(super) fn scope_of(&self, path: &CgroupPath) -> Option<CgroupPath> {
        crun::scope(path).filter(|scope| self.wanted(scope).is_some())
    }

    pub(super) fn owner(&self, path: &CgroupPath) -> Owner {
        let container = self.naming.container_path(path);
        self.naming.owner(container.as_ref().unwrap_or(path))
    }
}

fn role(naming: &Naming, policy: &Policy, path: &CgroupPath) -> Role {
    let matched = || matches!(naming.verdict(policy, path), Verdict::Matched(_));
    if path.as_str() == "/" || naming.is_own(path) || matched() {
        Role::Container
    } else {
        Role::Other
    }
}
