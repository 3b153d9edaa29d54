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

#[cfg(test)]
mod tests {
    use super::*;
    use herder_model::{cgroup::CgroupPath, saved::SavedCgroup};
    use std::{fs, os::unix::fs::MetadataExt};

    /// What died in a cgroup that is gone has no count but the node's.
    #[test]
    fn what_was_killed_meanwhile_is_counted_once_and_the_next_agent_begins_there() {
        let mount = std::env::temp_dir().join(format!("herder-meanwhile-{}", std::process::id()));
        fs::create_dir_all(mount.join("c")).unwrap();
        fs::write(mount.join("c/memory.events.local"), "oom_kill 5\n").unwrap();
        fs::write(mount.join("memory.events"), "oom_kill 14\n").unwrap();
        let root = CgroupRoot::unchecked(&mount).unwrap();
        let there = CgroupId(fs::metadata(mount.join("c")).unwrap().ino());
        let gone = CgroupId(u64::MAX);
        let left = [(there, "/c"), (gone, "/gone")].map(|(id, path)| {
            let path = CgroupPath::parse(path.as_bytes()).ok();
            let (original_value, rule, escalated) = (None, None, None);
            (id, SavedCgroup { path, oom_kills: Some(3), original_value, rule, escalated })
        });
        let (begins_at, oom_kills) = (root.id(), Some(10));
        let state = State { begins_at, oom_kills, cgroups: left.into(), ..State::default() };
        let reporter = Reporter::default();
        let files = CgroupFs::new(mount.clone());
        let (leaves, now) = report(state, Some(&root), &files, &reporter);
        assert_eq!(
            [leaves[&there].oom_kills, leaves[&gone].oom_kills, now],
            [Some(5), None, Some(14)]
        );
        let text = String::from_utf8(reporter.metrics().exposition().0).unwrap();
        assert!(text.contains("herder_kills_unseen_total{reason=\"agent-down\"} 4\n"), "{text}");
        fs::remove_dir_all(&mount).unwrap();
    }
}
