//! The thread, and what passes between it and the core.

use super::{
    Found, Listener, Wanted,
    paths::Paths,
    search,
    unable::{NoForks, Unable},
    worker::{Tools, Worker},
};
use crate::kernel::{
    cgroupfs::{CgroupFs, walk},
    host_proc::{self, HostProc, HostProcError},
    probe::forks::{ForkLoader, ForkSource, Forks},
    readable::Readable,
};
use herder_model::{cgroup::CgroupId, shield::SavedInits};
use std::{
    future::pending,
    io,
    ops::ControlFlow,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};
use tokio::{
    runtime::Builder,
    sync::{oneshot, watch},
    task::yield_now,
    time::{Instant, sleep_until},
};

/// How long the thread may take to end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// What the thread is made of.
pub struct Parts {
    pub proc_root: PathBuf,
    pub cgroup_root: PathBuf,
    /// The cgroup that the mount begins at.
    pub begins_at: CgroupId,
    /// The programs; none without eBPF.
    pub loader: Option<ForkLoader>,
    pub has_state: bool,
    /// Inits that may be protected at once; each takes a descriptor.
    pub most: usize,
    pub dry_run: bool,
    /// What an earlier agent left.
    pub left: SavedInits,
    pub listener: Arc<dyn Listener>,
}

/// The core's end.
pub struct Link {
    wanted: watch::Sender<Arc<Wanted>>,
    found: watch::Receiver<Arc<Found>>,
    saved: watch::Sender<u64>,
    stop: Option<oneshot::Sender<()>>,
    ended: mpsc::Receiver<()>,
}

impl Link {
    pub fn start(parts: Parts, wanted: Wanted) -> io::Result<Self> {
        let (wanted, wants) = watch::channel(Arc::new(wanted));
        // What was left is known, until the thread finds that it is not so.
        let first = Found { inits: parts.left.clone(), ..Found::default() };
        let (find, found) = watch::channel(Arc::new(first));
        let (saved, saves) = watch::channel(0);
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = mpsc::channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let end_of = End { wants, find, saves, stopped };
        thread::Builder::new().name("shield".into()).spawn(move || {
            runtime.block_on(run(parts, end_of));
            // The core may have stopped waiting.
            let _ = end.send(());
        })?;
        Ok(Link { wanted, found, saved, stop: Some(stop), ended })
    }

    pub fn want(&self, wanted: Wanted) {
        self.wanted.send_replace(Arc::new(wanted));
    }

    /// What was handed over last.
    #[cfg(test)]
    pub fn wanted(&self) -> Arc<Wanted> {
        self.wanted.borrow().clone()
    }

    pub fn found(&self) -> Arc<Found> {
        self.found.borrow().clone()
    }

    /// Waits until something else is so.
    pub async fn changed(&mut self) {
        if self.found.changed().await.is_err() {
            // The thread has ended, which it does only when that was ordered.
            pending::<()>().await;
        }
    }

    /// This version is in the state file.
    pub fn saved(&self, version: u64) {
        self.saved.send_replace(version);
    }

    /// Restores all, and ends the thread.
    pub fn end(&mut self) {
        self.stop.take();
        if self.ended.recv_timeout(END_WITHIN).is_err() {
            tracing::warn!("Not all protected inits were restored in time.");
        }
    }
}

/// The thread's end.
struct End {
    wants: watch::Receiver<Arc<Wanted>>,
    find: watch::Sender<Arc<Found>>,
    saves: watch::Receiver<u64>,
    stopped: oneshot::Receiver<()>,
}

async fn run(mut parts: Parts, end: End) {
    if parts.dry_run {
        if !parts.left.is_empty() {
            let inits = parts.left.len();
            tracing::warn!(
                inits,
                "Inits that an earlier agent exempted from OOM kills are not restored in a dry run."
            );
        }
        return idle(Unable::dry_run(), &parts, end).await;
    }
    let left = std::mem::take(&mut parts.left);
    let loader = parts.loader.take();
    let unable = match tools(&parts, loader).and_then(|tools| {
        let records = Readable::register(tools.forks.descriptor());
        Ok((records.map_err(|error| error.to_string())?, tools))
    }) {
        Ok((records, tools)) => {
            host_proc::drop_right();
            let mut worker = Worker::new(tools);
            worker.inherit(left);
            return work(worker, Some(&records), end).await;
        }
        Err(why) => Unable::missing(why),
    };
    match restoring_tools(&parts) {
        Ok(tools) if !left.is_empty() => {
            host_proc::drop_right();
            let mut worker = Worker::restoring(tools, unable);
            worker.inherit(left);
            work(worker, None, end).await;
        }
        could_restore => {
            if let Err(error) = could_restore
                && !left.is_empty()
            {
                tracing::error!(
                    inits = left.len(),
                    %error,
                    "Inits that an earlier agent exempted from OOM kills cannot be restored. The state file keeps them for the next agent."
                );
            }
            parts.left = left;
            idle(unable, &parts, end).await;
        }
    }
}

/// Nothing can be done but to say so. What an earlier agent left is left to the next.
async fn idle(mut unable: Unable, parts: &Parts, mut end: End) {
    loop {
        let wanted = end.wants.borrow_and_update().clone();
        let states = unable.states(&wanted, &*parts.listener);
        parts.listener.protections(parts.left.len(), &unable.counts(&wanted));
        let inits = parts.left.clone();
        end.find.send_replace(Arc::new(Found { inits, states, ..Found::default() }));
        tokio::select! {
            _ = &mut end.stopped => return,
            Ok(()) = end.wants.changed() => {}
        }
    }
}

fn tools(parts: &Parts, loader: Option<ForkLoader>) -> Result<Tools<Forks>, String> {
    if !parts.has_state {
        return Err("without --state-file an agent that is killed would leave inits exempt that no other agent could restore".into());
    }
    if parts.begins_at != CgroupId::HIERARCHY_ROOT {
        return Err("--cgroup-root shows only a part of the hierarchy".into());
    }
    let loader = loader.ok_or("it takes the eBPF programs and the kernel's BTF")?;
    let processes = HostProc::open(&parts.proc_root).map_err(|error| error.to_string())?;
    let files = CgroupFs::new(parts.cgroup_root.clone());
    let paths = paths(&processes, &files)
        .ok_or("this process's cgroup is not known, so those of others are not")?;
    let forks = loader.attach().map_err(|error| error.to_string())?;
    let (listener, most) = (parts.listener.clone(), parts.most);
    Ok(Tools { processes, paths, files, forks, listener, most })
}

/// What it takes to restore what an earlier agent left: neither the programs nor the right to lower
/// a score.
fn restoring_tools(parts: &Parts) -> Result<Tools<NoForks>, HostProcError> {
    let processes = HostProc::of_the_node(&parts.proc_root)?;
    let files = CgroupFs::new(parts.cgroup_root.clone());
    // Else what the inits have started meanwhile is not found.
    let paths = paths(&processes, &files).unwrap_or(Paths::Unknown);
    let (listener, most) = (parts.listener.clone(), parts.most);
    Ok(Tools { processes, paths, files, forks: NoForks, listener, most })
}

/// Where this process's cgroup namespace begins.
fn paths(processes: &HostProc, files: &CgroupFs) -> Option<Paths> {
    let first = processes.process(1).ok()?.cgroup().ok()??;
    if !Paths::is_relative(&first) {
        return Some(Paths::of_the_node());
    }
    let own = CgroupId(host_proc::own_cgroup_mount()?);
    let mut path = None;
    let walked = walk::walk(files.root(), |part| {
        path = part.into_iter().find_map(|(id, path)| (id == own).then_some(path));
        if path.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    walked.ok()?;
    let paths = Paths::BeginAt(path?);
    // The first process is outside of it all, so the way there must lead somewhere.
    let first = search::cgroup(&processes.process(1).ok()?, &paths)?;
    files.id(&first).map(|_| paths)
}

async fn work<F: ForkSource>(mut worker: Worker<F>, records: Option<&Readable>, mut end: End) {
    let mut next = Instant::now();
    let mut more = false;
    let first = end.wants.borrow_and_update().clone();
    worker.take_wanted(first);
    loop {
        if let Some(found) = worker.news() {
            end.find.send_replace(Arc::new(found));
        }
        // Whichever has much to do, the others have their turn: the choice is random.
        tokio::select! {
            _ = &mut end.stopped => break,
            () = readable(records), if !more => more = true,
            () = yield_now(), if more || worker.is_walking() => {}
            Ok(()) = end.saves.changed() => {
                let version = *end.saves.borrow_and_update();
                // What is not wanted any more must not be exempted for a moment: the core relies on
                // that, where it has seen that the init is not exempt.
                if end.wants.has_changed().unwrap_or(false) {
                    let wanted = end.wants.borrow_and_update().clone();
                    worker.take_wanted(wanted);
                }
                worker.saved(version);
            }
            Ok(()) = end.wants.changed() => {
                let wanted = end.wants.borrow_and_update().clone();
                worker.take_wanted(wanted);
                next = next.min(Instant::now() + worker.pause());
            }
            () = sleep_until(next) => {
                worker.tick();
                next = Instant::now() + worker.pause();
            }
        }
        // Also between the steps of a walk: what was forked must have its value before it grows.
        if more || worker.is_walking() {
            more = !worker.take_records();
        }
        worker.walk_some();
    }
    worker.end();
    if let Some(found) = worker.news() {
        end.find.send_replace(Arc::new(found));
    }
}

/// Waits until the programs have reported something; for ever if there are none.
async fn readable(records: Option<&Readable>) {
    match records {
        Some(records) if records.ready().await.is_ok() => {}
        _ => pending().await,
    }
}
