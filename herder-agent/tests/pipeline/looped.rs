//! The loop itself, as the agent runs it.

use super::{
    node::{GROUP, Node},
    records::Kernel,
};
use herder_agent::inside::{
    core::{Core, Inbox},
    kernel::source::{ContainerOf, Descriptors, Polled, Queue, Source},
    report::Reporter,
    state::StateFile,
};
use herder_model::{
    clock::Monotonic,
    oom::event::{Event, Traced},
};
use std::{
    cell::Cell,
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{sleep, timeout},
};

/// Runs a core until `stop` is done, or it ends by itself.
pub(crate) async fn run(
    core: Core,
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let (_policy, policy) = watch::channel(Arc::default());
    let (_pods, pods) = mpsc::channel(1);
    let (_learnt, learnt) = mpsc::channel(1);
    let (_roles, roles) = mpsc::channel(1);
    let (_restarts, restarts) = mpsc::channel(1);
    let (_states, states) = mpsc::channel(1);
    let (_connects, connected) = mpsc::channel(1);
    let (end, stopped) = oneshot::channel();
    let inbox = Inbox { policy, pods, learnt, roles, restarts, states, connected, stop: stopped };
    let stop = async {
        stop.await;
        drop(end);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = core.run(inbox, ready) => ended,
        () = stop => Ok(()),
    }
}

/// The processes that were reported as killed.
fn killed(reporter: &Reporter) -> Vec<Option<u32>> {
    reporter.kills(9).iter().map(|kill| kill.victim.pid).collect()
}

/// Nothing becomes readable here: what is reported is what the end has found.
#[tokio::test]
async fn it_ends_at_the_signal_and_reports_what_there_is() {
    let mut node = Node::new("loop", GROUP);
    node.pods_are('a');
    node.subprocess_dies(5);
    let is_ready = Cell::new(false);
    let reporter = node.reporter.clone();
    run(node.core, || is_ready.set(true), async {}).await.unwrap();
    assert!(is_ready.get());
    assert_eq!(killed(&reporter), [Some(100)]);
}

fn made_again(root: &Path) {
    let aside = root.with_extension("aside");
    fs::rename(root, &aside).unwrap();
    fs::create_dir(root).unwrap();
    fs::remove_dir_all(aside).unwrap();
}

/// The directory where the mount begins is another one, at the first walk or at a later one: the
/// agent cannot go on. What it knows is as much worth as at any other end.
#[tokio::test(start_paused = true)]
async fn what_there_is_is_reported_and_saved_whatever_ends_it() {
    for (name, at_start) in [("lost-at-start", true), ("lost-later", false)] {
        let place = std::env::temp_dir().join(format!("herder-{name}-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        let file = StateFile::new(place.join("state")).unwrap();
        let mut node = Node::with_state(name, GROUP, file.clone());
        node.pods_are('a');
        node.subprocess_dies(5);
        let (reporter, root) = (node.reporter.clone(), node.directory("/"));
        if at_start {
            made_again(&root);
        }
        let ready = || made_again(&root);
        let error = run(node.core, ready, sleep(Duration::from_secs(600))).await.unwrap_err();
        assert!(error.to_string().contains("another cgroup than at the start"), "{error}");
        assert_eq!(killed(&reporter), [Some(100)], "{name}");
        // Nothing is saved before the clock moves, but at the end.
        assert!(place.join("state").exists(), "{name}: no state is left");
        // What is gone has no value to restore.
        assert_eq!(file.load().unwrap().cgroups.len(), usize::from(at_start), "{name}");
        fs::remove_dir_all(&place).unwrap();
    }
}

/// A full disk for a second, or a directory that is made late, must not cost what the state has.
#[tokio::test(start_paused = true)]
async fn a_state_that_could_not_be_saved_is_saved_although_nothing_changes_any_more() {
    let place = std::env::temp_dir().join(format!("herder-unsaved-{}", std::process::id()));
    let file = place.join("state");
    let node = Node::with_state("unsaved", GROUP, StateFile::new(file.clone()).unwrap());
    let clock = node.clock.clone();
    let saved = async {
        clock.advance(Duration::from_secs(1));
        // Tokio's clock moves only while nothing is being written.
        sleep(Duration::from_secs(2)).await;
        fs::create_dir(&place).unwrap();
        sleep(Duration::from_secs(2)).await;
        assert!(!file.exists(), "a disk that refuses is not asked without a pause");
        clock.advance(Duration::from_secs(10));
        while !file.exists() {
            sleep(Duration::from_secs(1)).await;
        }
    };
    // The agent is killed: what it saves at its end does not count here.
    tokio::select! {
        ended = run(node.core, || (), std::future::pending()) => panic!("{ended:?}"),
        saved = timeout(Duration::from_secs(30), saved) => saved.unwrap(),
    }
    fs::remove_dir_all(&place).unwrap();
}

/// One that from some moment on has always something to do, and always says that cgroups were made
/// unseen.
struct Unseeing(Arc<AtomicBool>);

impl Source for Unseeing {
    fn name(&self) -> &'static str {
        "ebpf"
    }

    fn descriptors(&self) -> Descriptors<'_> {
        Descriptors::default()
    }

    fn poll(&mut self, _: Queue, _: Monotonic, _: ContainerOf<'_>) -> Polled {
        Polled { cgroups_unseen: self.0.load(Ordering::Relaxed), ..Polled::default() }
    }

    fn deadline(&self) -> Option<Monotonic> {
        self.0.load(Ordering::Relaxed).then_some(Monotonic::ZERO)
    }
}

/// A process that makes cgroups in a loop puts the walk that finds them off by a second, not for
/// as long as it likes.
#[tokio::test]
async fn a_walk_comes_while_cgroups_are_made_unseen_in_each_turn() {
    let rules = "rules: [{ name: late, cgroups: [\"/late\"], oomGroup: group }]";
    let begins = Arc::<AtomicBool>::default();
    let node = Node::with_source("always-unseen", rules, |_| Box::new(Unseeing(begins.clone())));
    let late = node.directory("/late");
    let value = late.join("memory.oom.group");
    let ready = || {
        fs::create_dir(&late).unwrap();
        for (file, text) in [("cgroup.procs", ""), ("cgroup.events", "populated 1\n")] {
            fs::write(late.join(file), text).unwrap();
        }
        fs::write(&value, "0\n").unwrap();
        begins.store(true, Ordering::Relaxed);
    };
    let governed = async {
        while !fs::read_to_string(&value).is_ok_and(|value| value.trim() == "1") {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let governed = async { timeout(Duration::from_secs(30), governed).await.unwrap() };
    run(node.core, ready, governed).await.unwrap();
}

/// One that from some moment on has always so many more cgroups to report, and counts them.
struct Endless {
    source: Box<dyn Source>,
    begins: Arc<AtomicBool>,
    at_once: usize,
    given: Arc<AtomicUsize>,
}

impl Source for Endless {
    fn name(&self) -> &'static str {
        "ebpf"
    }

    fn traced(&self) -> Traced {
        self.source.traced()
    }

    fn descriptors(&self) -> Descriptors<'_> {
        Descriptors::default()
    }

    fn poll(&mut self, queue: Queue, now: Monotonic, container_of: ContainerOf<'_>) -> Polled {
        if queue == Queue::Cgroups && self.begins.load(Ordering::Relaxed) {
            self.given.fetch_add(self.at_once, Ordering::Relaxed);
            let events = vec![Event::CgroupOutside; self.at_once];
            return Polled { events, more: true, ..Polled::default() };
        }
        self.source.poll(queue, now, container_of)
    }
}

/// Nor does what is still to be read wait for a notification: that of the first has been taken.
#[test]
fn a_kill_is_reported_while_cgroups_are_made_without_end() {
    for at_once in [1, 1024] {
        let (kernel, begins) = (Kernel::default(), Arc::<AtomicBool>::default());
        let given = Arc::<AtomicUsize>::default();
        let source = Endless {
            source: kernel.source(),
            begins: begins.clone(),
            at_once,
            given: given.clone(),
        };
        let mut node = Node::with_source("endless", GROUP, |_| Box::new(source));
        node.kernel = kernel;
        node.pods_are('a');
        begins.store(true, Ordering::Relaxed);
        node.subprocess_dies(5);
        node.core.turn(None, true);
        assert_eq!(node.kill().victim.pid, Some(100));
        // What the longest queue of inotify holds.
        assert!(given.load(Ordering::Relaxed) <= 16 << 10, "{given:?} in one turn");
        assert!(node.core.next_deadline().is_some_and(|due| due <= node.clock.now()));
        begins.store(false, Ordering::Relaxed);
        node.turn();
        assert!(node.core.next_deadline().is_none_or(|due| due > node.clock.now()));
    }
}
