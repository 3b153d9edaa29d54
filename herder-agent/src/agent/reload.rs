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
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::sleep,
};

/// A file is often written in several steps; this much later it is whole.
const SETTLE: Duration = Duration::from_millis(100);

/// Watches for ever; without a file, only ignores SIGHUP.
pub(super) async fn watch(
    path: Option<&Path>,
    commands: mpsc::Sender<Command>,
    reporter: Arc<Reporter>,
) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            tracing::error!(%error, "Cannot wait for SIGHUP.");
            return pending().await;
        }
    };
    let Some(path) = path else {
        while hangup.recv().await.is_some() {}
        return pending().await;
    };
    let directory = Directory::watch(path)
        .inspect_err(|error| {
            tracing::warn!(%error, path = %path.display(), "Only SIGHUP reloads the configuration.");
        })
        .ok();
    let mut last = std::fs::read(path).ok();
    loop {
        let asked = tokio::select! {
            _ = hangup.recv() => true,
            () = changed(directory.as_ref()) => false,
        };
        sleep(SETTLE).await;
        let now = std::fs::read(path).ok();
        if !asked && now == last {
            continue;
        }
        last = now;
        reload(path, &commands, &reporter).await;
    }
}

async fn reload(path: &Path, commands: &mpsc::Sender<Command>, reporter: &Reporter) {
    match Config::load(path) {
        Ok(config) => {
            let policy = Box::new(Policy::new(config));
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
