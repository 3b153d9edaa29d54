//! Original values of cgroups that are under no rule: those that an earlier agent left, since their
//! rule went while no agent was running, and those that could not be restored.

use super::{Context, Enforcer, Shared, effect::Effect, obstacle, restored::Restored};
use crate::kernel::cgroupfs::dir::DirError;
use herder_model::{
    cgroup::{CgroupId, CgroupPath},
    clock::Monotonic,
    enforcement::{Cause, OomGroupWrite, WriteResult},
    escalation::node::Raised,
    saved::{SavedCgroup, SavedCgroups},
};
use std::{collections::HashMap, time::Duration};

/// Those that failed before and are tried again by one walk. Each takes some tens of microseconds,
/// in which nothing is corrected.
const MOST_AGAIN: usize = 64;

/// A value that was to be restored and is not.
pub(super) struct Unrestored {
    tried: Monotonic,
    /// The reason that was reported last; none in a dry run.
    why: Option<String>,
}

#[cfg(test)]
impl Unrestored {
    pub(super) fn is_after(&self, time: Monotonic) -> bool {
        self.tried > time
    }
}

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
        let known = self.containers.iter().map(|(id, container)| (*id, container.saved()));
        self.left.iter().map(|(id, left)| (*id, left.clone())).chain(known).collect()
    }

    /// Forgets what is left of cgroups that are gone. One that is there may yet be matched, when
    /// its pod's names are known.
    pub fn retain_left(&mut self, is_there: impl Fn(CgroupId, Option<&CgroupPath>) -> bool) {
        self.left.retain(|id, left| is_there(*id, left.path.as_ref()));
    }

    /// Cgroups that an earlier agent left, and that are under no rule yet.
    pub fn left(&self) -> impl Iterator<Item = CgroupId> {
        self.left.keys().copied()
    }

    /// Restores the values that an agent wrote where no rule matches any more: rules that were
    /// removed while no agent was running, and what could not be restored before. Values for which
    /// `unmatched` is false are kept.
    pub fn restore_left(&mut self, unmatched: impl Fn(CgroupId) -> bool) {
        self.unrestored.retain(|id, _| self.left.contains_key(id));
        let due = self.left.keys().copied().filter(|id| unmatched(*id));
        for id in self.in_turn(due.collect()) {
            let Some(left) = self.left.remove(&id) else { continue };
            let restored = restore(id, &left, &self.context, &mut self.shared);
            if restored == Restored::Over {
                self.shared.effects.add(Effect::Saved);
            }
            self.keep_unrestored(id, left, restored);
        }
        self.report_unrestored();
    }

    /// Takes out what is left of a cgroup that is gone, or under a rule again.
    pub(super) fn take_left(&mut self, id: CgroupId) -> Option<SavedCgroup> {
        let left = self.left.remove(&id);
        if self.unrestored.remove(&id).is_some() {
            self.report_unrestored();
        }
        left
    }

    /// A dry run fails at nothing, and a file that is not there is no failure either.
    pub(super) fn report_unrestored(&mut self) {
        let failed = self.unrestored.values().filter(|it| it.why.is_some()).count();
        self.shared.effects.add(Effect::Unrestored(failed));
    }

    /// All that were not tried before, and some of the others: those that have waited longest.
    fn in_turn(&self, due: Vec<CgroupId>) -> Vec<CgroupId> {
        let tried = |id: &CgroupId| self.unrestored.get(id).map(|it| it.tried);
        let (mut again, mut all): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|id| tried(id).is_some());
        again.sort_unstable_by_key(tried);
        all.extend(again.into_iter().take(MOST_AGAIN));
        all
    }

    /// Keeps what was to be restored, unless that is over. A walk tries it again, and the next
    /// agent does.
    pub(super) fn keep_unrestored(&mut self, id: CgroupId, left: SavedCgroup, how: Restored) {
        let before = self.unrestored.remove(&id).and_then(|it| it.why);
        report(&left, &how, before.as_deref(), &mut self.shared);
        let why = match how {
            Restored::Over => return,
            Restored::Kept => None,
            Restored::Failed(why) => Some(why),
        };
        self.left.insert(id, left);
        self.unrestored.insert(id, Unrestored { tried: self.shared.clock.now(), why });
    }
}

/// Reports that a value could not be restored: each time to be counted, and once to be logged.
pub(super) fn report(
    left: &SavedCgroup,
    how: &Restored,
    before: Option<&str>,
    shared: &mut Shared,
) {
    let Restored::Failed(why) = how else { return };
    let Some(write) = write_of(left, WriteResult::Error(why.clone()), Duration::ZERO) else {
        return;
    };
    shared.effects.add(match before {
        Some(before) if before == why => Effect::FailedAgain(write),
        _ => Effect::Wrote(write),
    });
}

/// The write that restores it.
fn write_of(left: &SavedCgroup, result: WriteResult, took: Duration) -> Option<OomGroupWrite> {
    let new = left.original_value?;
    Some(OomGroupWrite {
        cgroup: left.path.clone()?,
        rule: left.rule.clone().unwrap_or_else(|| "unknown".into()),
        old: !new,
        new,
        cause: Cause::Restore,
        result,
        took,
        dry_run: false,
    })
}

/// Restores the value that the cgroup had before, unless it has been changed since.
fn restore(id: CgroupId, left: &SavedCgroup, context: &Context, shared: &mut Shared) -> Restored {
    let seen = shared.clock.now();
    let Some(first) = left.original_value else { return Restored::Over };
    let (Some(path), Some(root)) = (&left.path, &context.root) else { return Restored::Kept };
    let directory = match root.open_dir(path, id) {
        Ok(directory) => directory,
        Err(error) => {
            let failed = Restored::from(error).at("cannot open it");
            return failed.in_dry_run(context.options.dry_run);
        }
    };
    match directory.oom_group() {
        Ok(value) if value == first => return Restored::Over,
        Ok(_) if context.options.dry_run => return Restored::Kept,
        Ok(_) => {}
        Err(error) => return Restored::from(error).in_dry_run(context.options.dry_run),
    }
    let written = directory.set_oom_group(first);
    if matches!(written, Ok(()) | Err(DirError::Gone))
        && let Some(write) =
            write_of(left, obstacle::write_result(&written), shared.clock.now() - seen)
    {
        shared.effects.add(Effect::Wrote(write));
    }
    Restored::by(written)
}
