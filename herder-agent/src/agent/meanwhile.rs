//! What was killed while no agent ran: the difference between the state that an earlier agent of
//! this boot saved and the kernel's current counts.

use crate::{
    kernel::cgroupfs::{CgroupFs, dir::CgroupRoot},
    report::Reporter,
    state::{State, StateFile},
};
use herder_model::{cgroup::CgroupId, oom::reasons::Unseen, saved::SavedCgroups};
use std::path::Path;

/// Reports these kills, for each cgroup that is still there and for the rest of the node. Returns
/// the rest of the saved state, and what the node counts now.
pub(super) fn report(
    state: State,
    root: Option<&CgroupRoot>,
    files: &CgroupFs,
    reporter: &Reporter,
) -> (SavedCgroups, Option<u64>) {
    let begins_at = root.map_or(CgroupId::HIERARCHY_ROOT, CgroupRoot::id);
    let mut leaves = state.cgroups;
    let mut reported = 0;
    for (id, left) in &mut leaves {
        let (Some(earlier), Some(path)) = (left.oom_kills, &left.path) else { continue };
        let directory = root.and_then(|root| root.open_dir(path, *id).ok());
        // Until it is under a rule, this is what the next agent needs.
        left.oom_kills = directory.and_then(|directory| directory.oom_kills());
        let meanwhile = left.oom_kills.unwrap_or(earlier).saturating_sub(earlier);
        if meanwhile > 0 {
            reporter.unseen(Unseen::AgentDown, Some(path), meanwhile);
            reported += meanwhile;
        }
    }
    let now = files.node_kills(begins_at);
    // What an agent counted that looked from elsewhere says nothing here.
    let earlier = state.oom_kills.filter(|_| state.begins_at == begins_at);
    if let (Some(earlier), Some(now)) = (earlier, now) {
        let others = now.saturating_sub(earlier).saturating_sub(reported);
        if others > 0 {
            reporter.unseen(Unseen::AgentDown, None, others);
        }
    }
    (leaves, now)
}

/// What an earlier agent left, and where this one leaves its own. A file that is no
/// state belongs to another program, and is not written.
pub(super) fn left(path: Option<&Path>) -> (Option<StateFile>, State) {
    let Some(path) = path else {
        tracing::info!(
            "Without --state-file, kills that happen while no agent runs are not counted."
        );
        return (None, State::default());
    };
    let loaded = StateFile::new(path.to_path_buf()).and_then(|file| Ok((file.load()?, file)));
    match loaded {
        Ok((state, file)) => {
            tracing::info!(path = %path.display(), cgroups = state.cgroups.len(), "Read the state of an earlier agent.");
            (Some(file), state)
        }
        Err(error) => {
            tracing::error!(%error, "The state file is neither read nor written.");
            (None, State::default())
        }
    }
}
