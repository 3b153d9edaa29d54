//! Writes the state file: soon after a change, and in the background, since a disk may be slow.
//! What could not be written is tried again, since another change may never come.

use crate::state::{State, StateError, StateFile};
use herder_model::clock::Monotonic;
use std::time::Duration;
use tokio::task::{JoinHandle, spawn_blocking};

/// How long after a change the state is saved.
const SOON: Duration = Duration::from_millis(500);

/// How long after a failure it is tried again, whatever changes meanwhile. Some failures last, and a
/// state may have megabytes.
const AGAIN: Duration = Duration::from_secs(10);

/// The state file, and what is yet to be written to it.
#[derive(Debug)]
pub(super) struct StateWriter {
    file: Option<StateFile>,
    /// When something is to be saved.
    due: Option<Monotonic>,
    saving: Option<JoinHandle<Result<(), StateError>>>,
    /// Why the state cannot be saved, as it was logged last.
    reported: Option<String>,
}

impl StateWriter {
    /// Without a file nothing is left. What an agent begins with is the first that the
    /// next one has to know.
    pub(super) fn new(file: Option<StateFile>, now: Monotonic) -> Self {
        let mut writer = StateWriter { file, due: None, saving: None, reported: None };
        writer.touch(now);
        writer
    }

    /// Whether there is a file to write to.
    pub(super) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    pub(super) fn is_saving(&self) -> bool {
        self.saving.is_some()
    }

    /// Something has changed.
    pub(super) fn touch(&mut self, now: Monotonic) {
        if self.file.is_some() {
            self.due.get_or_insert(now + SOON);
        }
    }

    /// When the state is to be saved.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.due.filter(|_| self.saving.is_none())
    }

    pub(super) fn save(&mut self, state: State) {
        self.due = None;
        self.saving = self.file.clone().map(|file| spawn_blocking(move || file.save(&state)));
    }

    /// It could not be saved.
    pub(super) fn failed(&mut self, now: Monotonic) {
        self.due = Some(now + AGAIN);
    }

    /// Waits until the state is saved, and says whether it is; for ever if it is not being saved.
    pub(super) async fn saved(&mut self) -> bool {
        let Some(saving) = &mut self.saving else { return std::future::pending().await };
        let result = saving.await;
        self.saving = None;
        let is_saved = matches!(result, Ok(Ok(())));
        match result {
            Ok(Err(error)) => {
                let error = error.to_string();
                // It is tried again as long as that lasts.
                if self.reported.as_ref() != Some(&error) {
                    tracing::warn!(error, "Cannot write the state file.");
                    self.reported = Some(error);
                }
            }
            Ok(Ok(())) if self.reported.take().is_some() => {
                tracing::info!("The state file can be written again.");
            }
            _ => {}
        }
        is_saved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_change_is_saved_a_little_later_and_one_at_a_time() {
        let directory = std::env::temp_dir().join(format!("herder-writer-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = StateFile::new(directory.join("state")).unwrap();
        let mut writer = StateWriter::new(Some(file.clone()), Monotonic(5));
        assert_eq!(writer.deadline(), Some(Monotonic(5) + SOON));
        let state = State { oom_kills: Some(9), ..State::default() };
        writer.save(state.clone());
        assert_eq!(writer.deadline(), None);
        for time in [20, 30] {
            writer.touch(Monotonic(time));
        }
        assert_eq!(writer.deadline(), None, "it is being saved");
        assert!(writer.saved().await);
        assert_eq!(file.load().unwrap(), state);
        assert_eq!(writer.deadline(), Some(Monotonic(20) + SOON), "from the first change on");
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn without_a_file_nothing_is_ever_due() {
        let mut writer = StateWriter::new(None, Monotonic::ZERO);
        writer.touch(Monotonic(1));
        writer.save(State::default());
        assert_eq!(
            (writer.deadline(), writer.is_saving(), writer.has_file()),
            (None, false, false)
        );
    }
}
