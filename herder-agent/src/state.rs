//! What an agent saves for the next one: how many kills of the node and of each matched
//! cgroup were reported, and the value to restore.
//!
//! One small file, optional. Cgroup ids mean the same only until the next boot.

mod place;

use herder_model::{cgroup::CgroupId, saved::SavedCgroups, shield::SavedInits};
use place::Place;
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The file with the kernel's id of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What is known of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The cgroup that the agent's mount begins at. The node's count means something only to an
    /// agent whose mount begins there too.
    pub begins_at: CgroupId,
    /// The node's count of killed processes up to which all are reported, if it was read.
    pub oom_kills: Option<u64>,
    pub cgroups: SavedCgroups,
    /// Inits that are exempt from OOM kills, or were about to be.
    pub inits: SavedInits,
}

impl Default for State {
    fn default() -> Self {
        let begins_at = CgroupId::HIERARCHY_ROOT;
        let (cgroups, inits) = (SavedCgroups::new(), SavedInits::new());
        State { begins_at, oom_kills: None, cgroups, inits }
    }
}

/// The file's content; its first field is how it is known again ([`place::BEGINS`]).
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    boot_id: String,
    /// Earlier versions took each mount for the whole hierarchy.
    begins_at: Option<CgroupId>,
    /// The first versions had none.
    oom_kills: Option<u64>,
    cgroups: SavedCgroups,
    /// Versions before 0.3 had none.
    #[serde(default)]
    inits: SavedInits,
}

/// Why the state of an earlier agent cannot be used, or this one's not be kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is not an agent's state file: {source}")]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("{path} is {what} and was left unchanged: remove it, or give another --state-file")]
    Foreign { path: PathBuf, what: String },
    #[error("{0} is larger than any state of an agent that can be read again")]
    Large(PathBuf),
}

/// The file, and the boot in which its ids hold.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
    boot_id: String,
}

impl StateFile {
    pub fn new(path: PathBuf) -> Result<Self, StateError> {
        let boot_id =
            fs::read_to_string(BOOT_ID).map_err(|error| failed(Path::new(BOOT_ID), error))?;
        Ok(StateFile { path, boot_id: boot_id.trim().to_owned() })
    }

    /// What an earlier agent of this boot left; nothing if there was none.
    pub fn load(&self) -> Result<State, StateError> {
        let text = match Place::open(&self.path) {
            Ok(place) => place.read()?,
            // Its directory may be made later; a save that fails then is logged.
            Err(StateError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(State::default());
            }
            Err(error) => return Err(error),
        };
        // Also what a machine without power may leave.
        if text.is_empty() {
            return Ok(State::default());
        }
        let saved: Saved = serde_json::from_slice(&text)
            .map_err(|source| StateError::Json { path: self.path.clone(), source })?;
        if saved.boot_id != self.boot_id {
            return Ok(State::default());
        }
        let Saved { begins_at, oom_kills, cgroups, inits, .. } = saved;
        let begins_at = begins_at.unwrap_or(CgroupId::HIERARCHY_ROOT);
        Ok(State { begins_at, oom_kills, cgroups, inits })
    }

    /// Puts a state in the place of the one before, as a whole.
    pub fn save(&self, state: &State) -> Result<(), StateError> {
        let State { begins_at, oom_kills, cgroups, inits } = state.clone();
        let boot_id = self.boot_id.clone();
        let saved = Saved { boot_id, begins_at: Some(begins_at), oom_kills, cgroups, inits };
        let text = serde_json::to_vec(&saved)
            .map_err(|source| StateError::Json { path: self.path.clone(), source })?;
        Place::open(&self.path)?.replace(&text)
    }
}

fn failed(path: &Path, source: io::Error) -> StateError {
    StateError::Io { path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use herder_model::{
        cgroup::CgroupPath, clock::Monotonic, saved::SavedCgroup, shield::SavedInit,
    };

    fn file(name: &str) -> StateFile {
        let path = std::env::temp_dir().join(format!("herder-{name}-{}.json", std::process::id()));
        let _ = fs::remove_file(&path);
        StateFile::new(path).unwrap()
    }

    #[test]
    fn what_is_saved_is_found_in_the_same_boot_only() {
        let file = file("state");
        assert_eq!(file.load().unwrap(), State::default(), "the first agent of a node");
        let path = CgroupPath::parse(b"/a").ok();
        let left = SavedCgroup {
            path,
            oom_kills: Some(3),
            original_value: Some(true),
            rule: Some("r".into()),
            escalated: Some(Monotonic(7)),
        };
        let cgroups = SavedCgroups::from([(CgroupId(7), left)]);
        let init = SavedInit { path: CgroupPath::root(), pid: 17, start: 4711, score: -997 };
        let inits = SavedInits::from([(CgroupId(7), init)]);
        let state = State { begins_at: CgroupId(5), oom_kills: Some(9), cgroups, inits };
        file.save(&state).unwrap();
        let text = fs::read_to_string(&file.path).unwrap();
        assert!(text.contains("\"begins_at\":5,\"oom_kills\":9,\"cgroups\":{\"7\":{"), "{text}");
        assert!(text.contains("\"inits\":{\"7\":{"), "{text}");
        assert_eq!(file.load().unwrap(), state);
        let later = StateFile { boot_id: "another".into(), ..file.clone() };
        assert_eq!(later.load().unwrap(), State::default());
        let first =
            format!("{{\"boot_id\":{:?},\"cgroups\":{{\"7\":{{\"oom_kills\":3}}}}}}", file.boot_id);
        fs::write(&file.path, first).unwrap();
        let of_first = file.load().unwrap();
        assert_eq!((of_first.oom_kills, of_first.cgroups[&CgroupId(7)].oom_kills), (None, Some(3)));
        fs::remove_file(&file.path).unwrap();
    }

    #[test]
    fn what_is_no_state_is_named() {
        let file = file("bad-state");
        let path = "{\"boot_id\":\"\",\"cgroups\":{\"7\":{\"path\":\"/../etc\"}}}";
        fs::write(&file.path, "").unwrap();
        assert_eq!(file.load().unwrap(), State::default());
        for bad in ["{", "[]", "{\"boot_id\":1}", path] {
            fs::write(&file.path, bad).unwrap();
            let error = file.load().unwrap_err().to_string();
            assert!(
                error.contains("bad-state") && error.contains("not an agent's state file"),
                "{error}"
            );
        }
        fs::remove_file(&file.path).unwrap();
        let nowhere = StateFile::new("/nowhere/state.json".into()).unwrap();
        assert!(nowhere.save(&State::default()).unwrap_err().to_string().contains("/nowhere"));
    }
}
