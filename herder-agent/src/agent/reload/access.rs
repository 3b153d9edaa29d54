//! Takes a changed file of `--web-config-file`, and certificates, keys and authorities that it
//! names: when one of them changes, and on SIGHUP.

use super::{UNWATCHED, WATCHED, chain::ChainWatch, settled};
use crate::{
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
    pub(crate) async fn watch(mut self, reporter: Arc<Reporter>) {
        let mut known = self.loaded;
        let mut chain = ChainWatch::new(&self.path);
        let mut unwatched = false;
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
            if is_other {
                let before = self.taken.borrow().clone();
                match now.take_after(&before) {
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
                () = chain.changed() => {}
                () = sleep(pause) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
