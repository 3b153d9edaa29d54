//! What an earlier agent wrote and left behind: values of cgroups whose rule went while no
//! agent was running.

use super::{
    Context,
    effect::{Effect, Effects},
    obstacle,
};
use herder_model::{
    cgroup::CgroupId,
    enforcement::{Cause, OomGroupWrite},
    saved::SavedCgroup,
};
use std::time::Instant;

/// Gives the value back that the cgroup had before, unless it has been changed since.
pub(super) fn restore(id: CgroupId, left: &SavedCgroup, context: &Context, effects: &mut Effects) {
    let seen = Instant::now();
    let (Some(path), Some(first), Some(root)) = (&left.path, left.give_back, &context.root) else {
        return;
    };
    let Ok(directory) = root.open_dir(path, id) else { return };
    let ours = directory.oom_group().is_ok_and(|value| value != first);
    if !ours || context.options.dry_run {
        return;
    }
    let written = directory.set_oom_group(first);
    effects.add(Effect::Wrote(OomGroupWrite {
        cgroup: path.clone(),
        rule: left.rule.clone().unwrap_or_else(|| "unknown".into()),
        old: !first,
        new: first,
        cause: Cause::Restore,
        result: obstacle::write_result(&written),
        took: seen.elapsed(),
        dry_run: false,
    }));
}
