//! Takes a changed file of `--web-config-file`, and certificates, keys and authorities that it
//! names: when one of them changes, and on SIGHUP.

use super::{UNWATCHED, WATCHED, chain::ChainWatch, settled};
use crate::{
    agent::guard::Rules,
    cli::config::read_text,
    report::{InForce, Reporter},
    serve::{
        Access,
        access::{AccessError, AccessFiles},
    },
};
use std::{path::PathBuf, sync::Arc};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::sleep,
};

pub(crate) struct AccessReload {
    pub(crate) path: PathBuf,
    /// The files as they were when the agent took them.
    pub(crate) loaded: AccessFiles,
    pub(crate) hangup: Signal,
    pub(crate) taken: watch::Sender<Access>,
}

/// Takes the file for the first time: what the port asks, and what takes changes of it. Has to
/// run within tokio.
pub(crate) fn start(path: PathBuf) -> Result<(watch::Receiver<Access>, AccessReload), AccessError> {
    let loaded = AccessFiles::read(&path, read_text);
    let access = loaded.take()?;
    let InForce { tls, client_certificates, users } = access.in_force();
    tracing::info!(
        path = %path.display(),
        tls,
        client_certificates,
        users,
        "Took the file of --web-config-file."
    );
    let (taken, access) = watch::channel(access);
    let hangup = signal(SignalKind::hangup())?;
    Ok((access, AccessReload { path, loaded, hangup, taken }))
}

impl AccessReload {
    /// What it takes has to be enough for the `rules`.
    pub(crate) async fn watch(mut self, reporter: Arc<Reporter>, mut rules: Rules) {
        reporter.access_begins();
        let mut known = self.loaded;
        let mut chain = ChainWatch::new(&self.path);
        let mut unwatched = false;
        // The files were rejected only because of the rules, and other rules are in force.
        let (mut is_exposing, mut again) = (false, false);
        loop {
            // Before the files are read, so that no change in between is missed.
            chain.follow(known.paths());
            let watched = chain.renew();
            if let (Err(error), false) =
                (&watched, std::mem::replace(&mut unwatched, watched.is_err()))
            {
                tracing::warn!(
                    %error,
                    "Changes of the file of --web-config-file are not watched for; it is read every {} s.",
                    UNWATCHED.as_secs()
                );
            }
            let now =
                settled(|| AccessFiles::read(&self.path, read_text), Some(&known), PartialEq::eq)
                    .await;
            let is_other = now != known;
            if is_other || std::mem::take(&mut again) {
                let before = self.taken.borrow().clone();
                let taken = now.take_after(&before);
                let accepted = taken.and_then(|access| rules.accept(access, &self.path));
                is_exposing = matches!(accepted, Err(AccessError::Exposes { .. }));
                match accepted {
                    Ok(access) => {
                        let in_force = access.in_force();
                        self.taken.send_replace(access);
                        reporter.access_reload(Ok(in_force));
                    }
                    Err(error) => reporter.access_reload(Err(&error)),
                }
                known = now;
                // Another file may be named in it.
                continue;
            }
            let pause = if watched.is_ok() { WATCHED } else { UNWATCHED };
            tokio::select! {
                _ = self.hangup.recv() => {}
                () = rules.changed(), if is_exposing => again = true,
                () = chain.changed() => {}
                () = sleep(pause) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
