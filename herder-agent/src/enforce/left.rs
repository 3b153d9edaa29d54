//! What an earlier agent wrote and left behind: values of cgroups whose rule went while no
//! agent was running.

use super::{Context, Enforcer, Shared, container::Container, effect::Effect, obstacle};
use herder_model::{
    cgroup::CgroupId,
    enforcement::{Cause, OomGroupWrite},
    escalation::node::Raised,
    saved::{SavedCgroup, SavedCgroups},
};
use std::collections::HashMap;

impl Enforcer {
    /// Takes what an earlier agent of this boot left.
    #[must_use]
    pub fn with_left(mut self, left: SavedCgroups) -> Self {
        self.left = left;
        self
    }

    /// Takes out which values are 1 because processes kept dying.
    pub fn take_raised(&mut self) -> HashMap<CgroupId, Raised> {
        let raised = |(id, left): (&CgroupId, &mut SavedCgroup)| {
            let (last, rule) = (left.escalated.take()?, left.rule.clone()?);
            Some((*id, Raised { rule, last }))
        };
        self.left.iter_mut().filter_map(raised).collect()
    }

    /// Whether an earlier agent left something of a cgroup that is under no rule yet.
    pub fn is_left(&self, id: CgroupId) -> bool {
        self.left.contains_key(&id)
    }

    /// Counts again what the kernel has killed in a cgroup that is under no rule yet: all of that is
    /// reported by now.
    pub fn count_left(&mut self, id: CgroupId) {
        let Some(left) = self.left.get_mut(&id) else { return };
        let root = self.context.root.as_ref().zip(left.path.as_ref());
        let directory = root.and_then(|(root, path)| root.open_dir(path, id).ok());
        left.oom_kills = directory.and_then(|directory| directory.oom_kills());
    }

    /// Some kills of the node were not reported, and are counted without their cgroups. They may be in
    /// the counts of those that are under no rule yet.
    pub fn doubt_left_counts(&mut self) {
        self.left.values_mut().for_each(|left| left.oom_kills = None);
    }

    /// What is to be left to the next agent, but for the counts of those that are under a rule.
    pub fn leaves(&self) -> SavedCgroups {
        let left = |container: &Container| SavedCgroup {
            path: Some(container.path().clone()),
            oom_kills: None,
            original_value: container.value_to_restore(),
            rule: Some(container.rule().clone()),
            escalated: None,
        };
        let known = self.containers.iter().map(|(id, container)| (*id, left(container)));
        self.left.iter().map(|(id, left)| (*id, left.clone())).chain(known).collect()
    }

    /// Forgets what an earlier agent left of cgroups that are gone. One that is there
    /// may yet be matched, when its pod's names are known.
    pub fn retain_left(&mut self, is_there: impl Fn(CgroupId) -> bool) {
        self.left.retain(|id, _| is_there(*id));
    }

    /// Cgroups that an earlier agent left, and that are under no rule yet.
    pub fn left(&self) -> impl Iterator<Item = CgroupId> {
        self.left.keys().copied()
    }

    /// Restores the values that an earlier agent wrote where no rule matches any more: rules that
    /// were removed while no agent was running. Values for which `unmatched` is false are kept.
    pub fn restore_left(&mut self, unmatched: impl Fn(CgroupId) -> bool) {
        let done: Vec<_> = self.left.extract_if(|id, _| unmatched(*id)).collect();
        for (id, left) in &done {
            restore(*id, left, &self.context, &mut self.shared);
        }
        if !done.is_empty() {
            self.shared.effects.add(Effect::Saved);
        }
    }
}

/// Restores the value that the cgroup had before, unless it has been changed since.
fn restore(id: CgroupId, left: &SavedCgroup, context: &Context, shared: &mut Shared) {
    let seen = shared.clock.now();
    let (Some(path), Some(first), Some(root)) = (&left.path, left.original_value, &context.root)
    else {
        return;
    };
    let Ok(directory) = root.open_dir(path, id) else { return };
    let ours = directory.oom_group().is_ok_and(|value| value != first);
    if !ours || context.options.dry_run {
        return;
    }
    let written = directory.set_oom_group(first);
    shared.effects.add(Effect::Wrote(OomGroupWrite {
        cgroup: path.clone(),
        rule: left.rule.clone().unwrap_or_else(|| "unknown".into()),
        old: !first,
        new: first,
        cause: Cause::Restore,
        result: obstacle::write_result(&written),
        took: shared.clock.now() - seen,
        dry_run: false,
    }));
}
