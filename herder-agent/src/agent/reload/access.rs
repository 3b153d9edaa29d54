//! Takes a changed file of `--web-config-file`, and certificates, keys and authorities that it
//! names: when one of them changes, and on SIGHUP.

use super::{UNWATCHED, WATCHED, chain::ChainWatch, settled};
use crate::{
    report::Reporter,
    serve::{Access, access::AccessFiles},
};
use std::{path::PathBuf, sync::Arc};
use tokio::{signal::unix::Signal, sync::watch, time::sleep};

/// What is watched, and what is known of it.
pub(crate) struct AccessReload {
    pub(crate) path: PathBuf,
    /// The files as they were when the agent took them.
    pub(crate) loaded: AccessFiles,
    pub(crate) hangup: Signal,
    pub(crate) taken: watch::Sender<Access>,
}

impl AccessReload {
    /// Watches for ever.
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
            let now = settled(|| AccessFiles::read(&self.path), Some(&known), PartialEq::eq).await;
            let is_other = now != known;
            if is_other {
                match now.take() {
                    Ok(access) => {
                        self.taken.send_replace(access);
                        reporter.access_reload(None);
                    }
                    Err(error) => reporter.access_reload(Some(&error)),
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
