//! Reloads the configuration file when it changes, and on SIGHUP.

pub(super) mod access;
mod chain;

use crate::{
    agent::guard::Guard,
    cli::{
        config::{self, ConfigError},
        telemetry::LogSwitch,
    },
    report::{ConfigInForce, Reporter},
};
use chain::ChainWatch;
use herder_model::rules::{
    matching::Policy,
    parse::{self, Config, LogLevel},
};
use std::{future::pending, path::Path, sync::Arc, time::Duration};
use tokio::{signal::unix::Signal, sync::watch, time::sleep};

/// A file is often written in several steps: it is whole when it was the same for so long.
const SETTLE: Duration = Duration::from_millis(100);

/// A file that never stays the same is read as it is after so many looks.
const LOOKS: usize = 20;

/// How often the file is read without a notification of a change.
const WATCHED: Duration = Duration::from_secs(60);

/// The same where changes cannot be watched; each time it is tried again.
const UNWATCHED: Duration = Duration::from_secs(10);

/// The text of the file, or why it cannot be read.
pub(super) type Text = Result<String, ConfigError>;

/// What is watched, and what is known of it.
pub(super) struct Reload<'a> {
    pub(super) path: Option<&'a Path>,
    /// The file as it was when the agent took it.
    pub(super) loaded: Option<String>,
    pub(super) hangup: Signal,
    /// The rules, for all parts that go by them.
    pub(super) policies: watch::Sender<Arc<Policy>>,
    pub(super) log: Log,
    pub(super) guard: Guard,
    /// The file was rejected only because everyone can ask the agent.
    pub(super) is_exposed: bool,
}

/// What is logged, and by what that is chosen.
pub(super) struct Log {
    /// Where the file has no `logLevel`.
    pub(super) default: LogLevel,
    pub(super) switch: LogSwitch,
}

impl Log {
    /// Logs as a configuration says; gives the level. Where it cannot be changed, the earlier one
    /// stays.
    pub(super) fn take(&self, config: &Config) -> Result<LogLevel, ConfigError> {
        let level = config.log_level.clone().unwrap_or_else(|| self.default.clone());
        self.switch.set(&level)?;
        Ok(level)
    }
}

/// The configuration that the agent begins with. An empty file is one here, and none in a reload.
pub(super) fn taken(path: &Path, text: &str) -> Result<Config, ConfigError> {
    if parse::is_empty(text) {
        tracing::warn!(path = %path.display(), "The configuration is empty: no rule matches anything.");
    }
    Ok(Config::parse(text, &path.display().to_string())?)
}

impl Reload<'_> {
    /// Watches for ever; without a file, only ignores SIGHUP.
    pub(super) async fn watch(mut self, reporter: Arc<Reporter>) {
        let Some(path) = self.path else {
            while self.hangup.recv().await.is_some() {}
            return pending().await;
        };
        let mut known = self.loaded.take().map(Ok);
        let mut chain = ChainWatch::new(path);
        let mut unwatched = false;
        let mut asked = false;
        loop {
            // Before the file is read, so that no change in between is missed.
            let watched = chain.renew();
            reporter.config_watched(watched.is_ok());
            match (&watched, std::mem::replace(&mut unwatched, watched.is_err())) {
                (Err(error), false) => tracing::warn!(
                    %error,
                    "The configuration file is not watched; it is read every {} s.",
                    UNWATCHED.as_secs()
                ),
                (Ok(()), true) => tracing::info!("The configuration file is watched."),
                _ => {}
            }
            let now = settled(|| config::read(path), known.as_ref(), same).await;
            if asked || known.as_ref().is_none_or(|known| !same(known, &now)) {
                self.take(path, &now, &reporter);
                known = Some(now);
            }
            let pause = if watched.is_ok() { WATCHED } else { UNWATCHED };
            asked = tokio::select! {
                _ = self.hangup.recv() => true,
                () = self.guard.changed(), if self.is_exposed => true,
                () = chain.changed() => false,
                () = sleep(pause) => false,
            };
        }
    }

    fn take(&mut self, path: &Path, text: &Text, reporter: &Reporter) {
        self.is_exposed = false;
        let text = match text {
            Ok(text) => text,
            Err(error) => return reporter.config_reload(Err(error)),
        };
        match self.parse(path, text) {
            Ok((config, log_level)) => {
                // A closed channel means that the agent is stopping.
                if self.policies.send(Arc::new(Policy::new(config))).is_ok() {
                    let hash = config::hash(text);
                    reporter.config_reload(Ok(ConfigInForce { hash, log_level }));
                }
            }
            Err(error) => reporter.config_reload(Err(&error)),
        }
    }

    /// The configuration in a text, and the log level that is in force from now on. The level goes
    /// first: of the two only that can fail, and a file counts as a whole.
    fn parse(&mut self, path: &Path, text: &str) -> Result<(Config, LogLevel), ConfigError> {
        let path = path.display().to_string();
        if parse::is_empty(text) {
            return Err(ConfigError::Emptied { path });
        }
        let config = Config::parse(text, &path)?;
        let accepted = self.guard.accept(config, &path);
        self.is_exposed = accepted.is_err();
        let config = accepted?;
        let log_level = self.log.take(&config)?;
        Ok((config, log_level))
    }
}

/// What is read, when it is what it was before, or has been the same for a while.
async fn settled<T>(read: impl Fn() -> T, known: Option<&T>, same: impl Fn(&T, &T) -> bool) -> T {
    let mut now = read();
    for _ in 0..LOOKS {
        if known.is_some_and(|known| same(known, &now)) {
            break;
        }
        sleep(SETTLE).await;
        let later = read();
        if same(&now, &later) {
            break;
        }
        now = later;
    }
    now
}

fn same(one: &Text, other: &Text) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => one == other,
        (Err(one), Err(other)) => one.to_string() == other.to_string(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
