//! The thread, and what passes between it and the core.

use super::{
    Found, Listener, Wanted,
    paths::Paths,
    search,
    worker::{Tools, Worker},
};
use crate::kernel::{
    cgroupfs::{CgroupFs, walk},
    host_proc::{self, HostProc},
    probe::forks::{ForkLoader, Forks},
    readable::Readable,
};
use herder_model::{
    cgroup::CgroupId,
    shield::{SavedInits, Unprotected},
};
use std::{
    collections::BTreeMap,
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
    /// Where the node's processes are.
    pub proc_root: PathBuf,
    /// Where the cgroups are.
    pub cgroup_root: PathBuf,
    /// The cgroup that the mount begins at.
    pub begins_at: CgroupId,
    /// The programs; none without eBPF.
    pub loader: Option<ForkLoader>,
    /// There is a state file.
    pub has_state: bool,
    /// Nothing is to be written.
    pub dry_run: bool,
    /// What an earlier agent left.
    pub left: SavedInits,
    /// Who is told.
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
    /// Starts the thread.
    ///
    /// # Errors
    /// When it cannot be started.
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

    /// From now on this is wanted.
    pub fn want(&self, wanted: Wanted) {
        self.wanted.send_replace(Arc::new(wanted));
    }

    /// What is so.
    pub fn found(&self) -> Arc<Found> {
        self.found.borrow().clone()
    }

    /// Waits until something else is so.
    pub async fn changed(&mut self) {
        if self.found.changed().await.is_err() {
            // The thread has ended, which it does only when it is told to.
            std::future::pending::<()>().await;
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
        return idle(Unprotected::DryRun, &parts, end).await;
    }
    let left = std::mem::take(&mut parts.left);
    let loader = parts.loader.take();
    match tools(&parts, loader).and_then(|tools| {
        let records = Readable::register(tools.forks.descriptor());
        Ok((records.map_err(|error| error.to_string())?, tools))
    }) {
        Ok((records, tools)) => {
            host_proc::drop_right();
            let mut worker = Worker::new(tools);
            worker.inherit(left);
            work(worker, &records, end).await;
        }
        Err(why) => {
            parts.listener.unavailable(&why);
            parts.left = left;
            idle(Unprotected::Unavailable, &parts, end).await;
        }
    }
}

/// Nothing can be done but to say so. What an earlier agent left is left to the next.
async fn idle(reason: Unprotected, parts: &Parts, mut end: End) {
    loop {
        let wanted = end.wants.borrow_and_update().clone();
        let states: BTreeMap<_, _> =
            wanted.containers.keys().map(|id| (*id, Some(reason))).collect();
        parts.listener.protections(0, &BTreeMap::from([(reason, states.len())]));
        end.find.send_replace(Arc::new(Found { version: 0, inits: parts.left.clone(), states }));
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
    Ok(Tools { processes, paths, files, forks, listener: parts.listener.clone() })
}

/// Where this process's cgroup namespace begins.
fn paths(processes: &HostProc, files: &CgroupFs) -> Option<Paths> {
    let first = processes.process(1).ok()?.cgroup()?;
    if !Paths::is_relative(&first) {
        return Some(Paths::default());
    }
    let own = CgroupId(host_proc::own_cgroup_mount()?);
    let mut path = None;
    let walked = walk::walk(files.root(), |part| {
        path = part.into_iter().find_map(|(id, path)| (id == own).then_some(path));
        if path.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    walked.ok()?;
    let paths = Paths::beginning_at(path?);
    // The first process is outside of it all, so the way there must lead somewhere.
    let first = search::cgroup(&processes.process(1).ok()?, &paths)?;
    files.id(&first).map(|_| paths)
}

async fn work(mut worker: Worker<Forks>, records: &Readable, mut end: End) {
    let mut next = Instant::now();
    let mut more = false;
    let first = end.wants.borrow_and_update().clone();
    worker.take_wanted(&first);
    loop {
        if let Some(found) = worker.news() {
            end.find.send_replace(Arc::new(found));
        }
        // Whichever has much to do, the others have their turn: the choice is random.
        tokio::select! {
            _ = &mut end.stopped => break,
            Ok(guard) = records.readable(), if !more => {
                guard.drained();
                more = true;
            }
            () = yield_now(), if more => {}
            Ok(()) = end.saves.changed() => {
                let version = *end.saves.borrow_and_update();
                worker.saved(version);
            }
            Ok(()) = end.wants.changed() => {
                let wanted = end.wants.borrow_and_update().clone();
                worker.take_wanted(&wanted);
                next = next.min(Instant::now() + worker.pause());
            }
            () = sleep_until(next) => {
                worker.tick();
                next = Instant::now() + worker.pause();
            }
        }
        if more {
            more = !worker.take_records();
        }
    }
    worker.end();
    if let Some(found) = worker.news() {
        end.find.send_replace(Arc::new(found));
    }
}
