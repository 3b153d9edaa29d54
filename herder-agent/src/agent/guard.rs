//! Whether everyone can ask the agent: what is confidential is accepted in the rules, and shown,
//! only where clients have to authenticate themselves or are processes of this machine.

use crate::{
    cli::config::read_text,
    serve::{
        Access,
        access::{AccessError, AccessFiles},
    },
};
use herder_model::rules::{
    matching::Policy,
    parse::{Config, InvalidConfig},
};
use std::{future::pending, path::Path, sync::Arc};
use tokio::sync::watch;

/// What the rules are held against. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    is_local: bool,
    /// None without `--web-config-file`.
    access: Option<watch::Receiver<Access>>,
}

impl Guard {
    pub(super) fn new(is_local: bool, access: Option<watch::Receiver<Access>>) -> Self {
        Guard { is_local, access }
    }

    fn is_guarded(&self) -> bool {
        let access = self.access.as_ref();
        self.is_local || access.is_some_and(|access| access.borrow().asks_who_it_is())
    }

    /// Accepts rules only if what they ask for is not shown to everyone. `name` is the file's.
    pub(super) fn accept(&mut self, config: Config, name: &str) -> Result<Config, InvalidConfig> {
        // What is in force now is what has been looked at.
        if let Some(access) = &mut self.access {
            access.borrow_and_update();
        }
        config.where_asked(self.is_guarded(), name)
    }

    /// Waits until something else is asked of clients than when rules were looked at.
    pub(super) async fn changed(&mut self) {
        let Some(access) = &mut self.access else { return pending().await };
        if access.changed().await.is_err() {
            pending::<()>().await;
        }
    }
}

/// The same the other way round: what the file of `--web-config-file` is held against.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    is_local: bool,
    policies: watch::Receiver<Arc<Policy>>,
}

impl Rules {
    pub(super) fn new(is_local: bool, policies: watch::Receiver<Arc<Policy>>) -> Self {
        Rules { is_local, policies }
    }

    /// Accepts what is to be asked of clients only if the rules that are in force need no more.
    pub(super) fn accept(&mut self, access: Access, path: &Path) -> Result<Access, AccessError> {
        let reads = self.policies.borrow_and_update().reads_arguments();
        if reads && !self.is_local && !access.asks_who_it_is() {
            return Err(AccessError::Exposes { path: path.display().to_string() });
        }
        Ok(access)
    }

    /// Waits until other rules are in force than those that were looked at.
    pub(super) async fn changed(&mut self) {
        if self.policies.changed().await.is_err() {
            pending::<()>().await;
        }
    }
}

/// Whether a file of `--web-config-file` makes clients authenticate themselves.
pub fn authenticates(path: &Path) -> Result<bool, String> {
    AccessFiles::read(path, read_text).asks_who_it_is().map_err(|error| error.to_string())
}
