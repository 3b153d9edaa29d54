//! What is counted, logged and shown of the configuration in force.

use super::Reporter;
use herder_model::rules::parse::LogLevel;
use std::{error::Error, time::SystemTime};

/// The configuration that an agent goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigInForce {
    /// Names the file's content; [`ConfigInForce::NO_FILE`] where there is none.
    pub hash: String,
    /// What is logged, by the file or by `--log-level`.
    pub log_level: LogLevel,
}

impl ConfigInForce {
    /// The hash of an agent without a file.
    pub const NO_FILE: &'static str = "none";
}

impl Reporter {
    /// The agent begins with this configuration.
    pub fn config_begins(&self, config: ConfigInForce) {
        self.metrics.config_in_force(&config, SystemTime::now());
        *self.config.lock() = Some(config);
    }

    /// The configuration in force, once there is one.
    pub fn config(&self) -> Option<ConfigInForce> {
        self.config.lock().clone()
    }

    /// It was tried to watch for changes of the configuration file.
    pub fn config_watched(&self, watched: bool) {
        let families = &self.metrics.families;
        families.config_watched.set([], watched.into());
        families.config_watch_failures.add([], u64::from(!watched));
    }

    /// A changed configuration is in force, or was rejected.
    pub fn config_reload(&self, reloaded: Result<ConfigInForce, &dyn Error>) {
        let families = &self.metrics.families;
        match reloaded {
            Ok(config) => {
                families.config_reloads.add(["ok"], 1);
                let (hash, log_level) = (&config.hash, config.log_level.as_str());
                tracing::info!(hash, log_level, "The changed configuration is in force.");
                self.config_begins(config);
            }
            Err(error) => {
                families.config_reloads.add(["error"], 1);
                families.config_last_successful.set([], 0);
                tracing::error!(%error, "The changed configuration was rejected; the previous one stays in force.");
            }
        }
    }
}
