//! How much memory the pods of a busy node take. The only test of its program,
//! so that nobody else allocates meanwhile.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test says what it found"
)]

use herder_agent::pods::{Event, store::PodStore, wire::PodObject};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};
use tokio::time::Instant;

/// Pods of a node with a raised limit; 110 is the kubelet's own.
const PODS: usize = 250;

/// The system's allocator, which counts.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(now, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
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
    let texts = texts();
    let listed: usize = texts.iter().map(String::len).sum();
    let now = Instant::now();
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
