//! How much memory the pods of a busy node take, that those that are gone take none, and
//! what clients that do not read can make the server take. A program of its own, whose tests
//! wait for each other, so that nothing else allocates meanwhile.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test says what it found"
)]

#[path = "footprint/clients.rs"]
mod clients;
#[path = "footprint/pods.rs"]
mod pods;
#[path = "footprint/tls.rs"]
mod tls;

use herder_agent::inside::{
    enforce::{ContainerState, States},
    kernel::clock::Clock,
    report::{Reporter, heartbeat::Heartbeat, requests::StatesRequest},
    serve::{self, Access, Readiness},
};
use herder_model::{
    cgroup::{
        CgroupId, CgroupPath,
        tree::{CgroupTree, Role},
    },
    clock::Monotonic,
    kill::{KEPT, KillReport},
    oom::{Kind, Limit, OomKill, Victim},
    owner::{ContainerNames, Owner},
    pods::{
        Event,
        store::{GRACE, PodStore},
        wire::PodObject,
    },
    reconcile::Reconciler,
};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    future::pending,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};
use tokio::{
    net::TcpSocket,
    runtime::Builder,
    sync::{mpsc, watch},
};

/// Pods of a node with a raised limit; 110 is the kubelet's own.
const PODS: usize = 250;

/// Rounds in each of which [`COMING`] pods come, have a container killed, and go.
const ROUNDS: usize = 100;

/// Few, so that a hash table that doubles takes less than what is looked for.
const COMING: usize = 50;

/// Each table of some bytes doubles once, when its places have been used often enough.
const MOST_GROWN: usize = 64 * 1024;

/// What may be known of cgroups, however many there are.
const MOST_OF_CGROUPS: usize = 6 << 20;

/// Nanoseconds between two of them.
const ROUND: u64 = 600_000_000_000;

/// One test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// The system's allocator, which counts.
struct Counting;

thread_local! {
    /// Whether what this thread allocates is the server's, and not that of its clients.
    static COUNTED: Cell<bool> = const { Cell::new(true) };
}

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTED.get() {
            let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
            MOST.fetch_max(now, Relaxed);
        }
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if COUNTED.get() {
            NOW.fetch_sub(layout.size(), Relaxed);
        }
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(serde::Deserialize)]
struct List {
    items: Vec<serde_json::Value>,
}

/// The recorded pods again and again, each with a uid and IDs of its own.
fn texts() -> Vec<String> {
    let raw = include_str!("fixtures/k8s-wire/list-pods-node-1-mixed.body");
    let items = serde_json::from_str::<List>(raw).unwrap().items;
    let uid = |item: &serde_json::Value| item["metadata"]["uid"].as_str().unwrap().to_owned();
    let text = |number: usize, item: &serde_json::Value| {
        let own = format!("00000000-0000-0000-0000-{number:012x}");
        let text = item.to_string().replace(&uid(item), &own);
        // An ID has 64 digits: four of its own, and 60 of those that it had.
        let (first, rest) = text.split_once("containerd://").unwrap_or((&text, ""));
        let parts = rest.split("containerd://").map(|part| part.get(4..).unwrap_or_default());
        let ids = parts.filter(|part| !part.is_empty());
        ids.fold(first.to_owned(), |text, part| format!("{text}containerd://{number:04x}{part}"))
    };
    (0..PODS).map(|number| text(number, &items[number % items.len()])).collect()
}

#[test]
fn a_node_full_of_pods_takes_little() {
    let _alone = ALONE.lock();
    let texts = texts();
    let listed: usize = texts.iter().map(String::len).sum();
    let now = Monotonic::ZERO;
    let before = NOW.load(Relaxed);
    MOST.store(before, Relaxed);
    let mut store = PodStore::default();
    store.apply(Event::ListStarted, now);
    for text in &texts {
        let object: PodObject = serde_json::from_str(text).unwrap();
        store.apply(Event::Applied(Box::new(object.trim().unwrap())), now);
    }
    store.apply(Event::Listed, now);
    let kept = NOW.load(Relaxed) - before;
    assert_eq!(store.live().count(), PODS);
    let each = kept / PODS;
    println!(
        "{PODS} pods: {each} bytes kept of {} for each in the LIST; {} KiB at most while they are read",
        listed / PODS,
        (MOST.load(Relaxed) - before) / 1024
    );
    assert!(each < 2048, "{each} bytes for each pod");
}

/// All that remembers pods, containers or cgroups, as one after the other goes. What is
/// left does not grow with how many there have been.
#[test]
fn pods_that_are_gone_take_nothing() {
    let _alone = ALONE.lock();
    let texts = texts();
    let (mut store, mut tree) = (PodStore::default(), CgroupTree::default());
    let (reporter, mut reconciler) =
        (Reporter::new(Duration::ZERO, Clock::System), Reconciler::new(Duration::from_nanos(1)));
    let mut now = Monotonic::ZERO;
    let mut kept = Vec::new();
    for round in 0..ROUNDS {
        for (pod, text) in texts.iter().take(COMING).enumerate() {
            let number = round * COMING + pod;
            let uid = format!("00000000-0000-0000-0000-{pod:012x}");
            let own = format!("00000000-0000-0000-0000-{number:012x}");
            let object: PodObject = serde_json::from_str(&text.replace(&uid, &own)).unwrap();
            let object = object.trim().unwrap();
            let uid = object.uid;
            store.apply(Event::Applied(Box::new(object)), now);
            one_kill(number, &own, &reporter, &mut tree, &mut reconciler);
            store.apply(Event::Deleted(uid), now);
        }
        // A scrape has what is new, then the series of what is gone are removed.
        assert!(!reporter.metrics().exposition().0.is_empty());
        reporter.expire(|_| false);
        now = now + GRACE;
        assert_eq!(store.expire(now).len(), COMING);
        tree.forget(Monotonic((round as u64 + 1) * ROUND));
        kept.push(NOW.load(Relaxed));
    }
    // The journal fills up first.
    let full = KEPT / COMING + 1;
    let grown = kept[ROUNDS - 1].saturating_sub(kept[full]);
    let gone = (ROUNDS - 1 - full) * COMING;
    println!("{grown} bytes more of {} after {gone} more pods", kept[full]);
    assert!(grown < MOST_GROWN, "{grown} bytes more after {gone} pods: {kept:?}");
}

/// A user with a delegated subtree makes cgroups without end, long names, short names, and
/// such as are gone again at once.
#[test]
fn cgroups_without_end_take_no_more_than_their_share() {
    let _alone = ALONE.lock();
    for (count, length, removed_every) in [
        (16_000, 3_700, 0),
        (40_000, 960, 0),
        (100_000, 40, 0),
        (100_000, 250, 1),
        (100_000, 900, 3),
    ] {
        let before = NOW.load(Relaxed);
        let mut tree = CgroupTree::default();
        for id in 1..=count {
            let path = format!("/{id:0>length$}");
            let path = CgroupPath::parse(path.as_bytes()).unwrap();
            let role = if id % 2 == 0 { Role::Container } else { Role::Other };
            tree.made(CgroupId(id), path, role, Monotonic(id));
            if removed_every > 0 && id % removed_every == 0 {
                tree.removed(CgroupId(id), Monotonic(id));
            }
            tree.lies_below(CgroupId(id + count), &[CgroupId(id)]);
        }
        let kept = NOW.load(Relaxed) - before;
        println!("{count} cgroups with paths of {length} bytes: {} KiB", kept >> 10);
        assert!(kept < MOST_OF_CGROUPS, "{kept} bytes for {count} cgroups of {length} bytes");
    }
}

/// A container is made, loses a process, and is gone.
fn one_kill(
    number: usize,
    uid: &str,
    reporter: &Reporter,
    tree: &mut CgroupTree,
    reconciler: &mut Reconciler,
) {
    let time = Monotonic((number / COMING) as u64 * ROUND);
    let id = CgroupId(number as u64 + 1);
    let path = format!("/kubepods/pod{uid}/{number:064x}");
    let cgroup = CgroupPath::parse(path.as_bytes()).unwrap();
    let owner = Owner::Container(ContainerNames {
        namespace: "shop".into(),
        pod: format!("web-{number:06}"),
        container: "worker".into(),
    });
    tree.made(id, cgroup.clone(), Role::Container, time);
    reconciler.read(id, 0, time);
    reporter.oom_group_effective(&owner, Some(false), false);
    let victim = Victim::nameless(id, time);
    let kill = OomKill { victims: vec![victim], ..OomKill::default() };
    reporter.kill(&KillReport {
        cgroup: Some(cgroup),
        rule: Some("web".into()),
        ..KillReport::new(owner.clone(), Kind::Subprocess, Limit::Container, kill)
    });
    reconciler.reported(id, false, time, time);
    reconciler.read(id, 1, time);
    reconciler.settle(time + Duration::from_nanos(2));
    reconciler.removed(id);
    reporter.oom_group_effective(&owner, None, false);
    reporter.owner_left(&owner);
    tree.removed(id, time);
}
