//! Takes a changed configuration file: when it changes, and on SIGHUP.
//!
//! The directory is watched and not the file, since editors and the kubelet
//! (ConfigMap volumes: a symbolic link `..data` is swapped) put a new file in
//! place of the old one.

use crate::{
    config::Config, core::Command, policy::Policy, probe::readable::Readable, report::Reporter,
};
use rustix::fs::inotify;
use std::{
    future::pending,
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    signal::unix::Signal,
    sync::{mpsc, watch},
    time::sleep,
};

/// A file is often written in several steps; this much later it is whole.
const SETTLE: Duration = Duration::from_millis(100);

/// What is watched, and what is known of it.
pub(super) struct Reload<'a> {
    pub(super) path: Option<&'a Path>,
    /// The file as it was when the agent took it.
    pub(super) loaded: Option<Vec<u8>>,
    pub(super) hangup: Signal,
    /// Who else than the core has to know the rules.
    pub(super) policies: watch::Sender<Arc<Policy>>,
}

impl Reload<'_> {
    /// Watches for ever; without a file, only ignores SIGHUP.
    pub(super) async fn watch(mut self, commands: mpsc::Sender<Command>, reporter: Arc<Reporter>) {
        let Some(path) = self.path else {
            while self.hangup.recv().await.is_some() {}
            return pending().await;
        };
        let directory = Directory::watch(path)
            .inspect_err(|error| {
                tracing::warn!(%error, path = %path.display(), "Only SIGHUP reloads the configuration.");
            })
            .ok();
        let mut asked = false;
        loop {
            // The first time at once: it may have changed before it was watched.
            let now = std::fs::read(path).ok();
            if asked || now != self.loaded {
                self.loaded = now;
                reload(path, &self.policies, &commands, &reporter).await;
            }
            asked = tokio::select! {
                _ = self.hangup.recv() => true,
                () = changed(directory.as_ref()) => false,
            };
            sleep(SETTLE).await;
        }
    }
}

async fn reload(
    path: &Path,
    policies: &watch::Sender<Arc<Policy>>,
    commands: &mpsc::Sender<Command>,
    reporter: &Reporter,
) {
    match Config::load(path) {
        Ok(config) => {
            let policy = Arc::new(Policy::new(config));
            policies.send_replace(policy.clone());
            // A closed channel means that the agent is stopping.
            if commands.send(Command::Policy(policy)).await.is_ok() {
                reporter.config_reload(None);
            }
        }
        Err(error) => reporter.config_reload(Some(&error)),
    }
}

async fn changed(directory: Option<&Directory>) {
    let Some(directory) = directory else {
        return pending().await;
    };
    if directory.readable.ready().await.is_err() {
        return pending().await;
    }
    directory.drain();
}

struct Directory {
    descriptor: OwnedFd,
    readable: Readable,
}

impl Directory {
    fn watch(file: &Path) -> io::Result<Self> {
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        let descriptor =
            inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let changes = inotify::WatchFlags::CLOSE_WRITE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::DELETE;
        inotify::add_watch(&descriptor, parent.unwrap_or(Path::new(".")), changes)?;
        let readable = Readable::register(descriptor.as_fd())?;
        Ok(Directory { descriptor, readable })
    }

    /// What changed does not matter: the file is read and compared anyway.
    fn drain(&self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.descriptor, &mut buffer);
        while events.next().is_ok() {}
    }
}
