//! A table: what is known, and what is to be said of it.

use super::*;
use crate::{
    oom::candidates::{Footprint, Usage},
    scene::{
        NodeContainer,
        figures::{Figures, Stat},
    },
};

const MIB: u64 = 1 << 20;

fn process(pid: u32, comm: &str, mebibytes: u64) -> Process {
    let footprint = Footprint { anon_rss: mebibytes * MIB, ..Footprint::default() };
    Process {
        pid,
        comm: comm.to_owned(),
        killed: false,
        oom_score_adj: Some(0),
        size: Some(footprint.total()),
        footprint: Some(footprint),
        cgroup_id: Some(9),
        cgroup: None,
        owner: Some("shop/web-0/worker".to_owned()),
    }
}

fn killed(process: Process) -> Process {
    Process { killed: true, ..process }
}

fn spared(process: Process) -> Process {
    Process { oom_score_adj: Some(-998), ..process }
}

fn of(process: Process, owner: &str) -> Process {
    Process { owner: Some(owner.to_owned()), ..process }
}

/// A limit of 500 MiB that is used up, and these processes.
fn scene(candidates: Vec<Process>) -> Scene {
    Scene {
        memory: Some(Usage { usage: 500 * MIB, limit: Some(500 * MIB) }),
        looked_at: u32::try_from(candidates.len()).ok(),
        candidates,
        ..Scene::default()
    }
}

fn with_stat(stat: Stat, scene: Scene) -> Scene {
    let cgroup = CgroupPath::root();
    let figures = Figures { cgroup, current: None, peak: None, swap: None, pids: None, stat };
    Scene { container: Some(figures), ..scene }
}

fn said(scene: &Scene, limit: Limit) -> (String, Vec<Rule>) {
    let domain = CgroupPath::parse(b"/kubepods.slice").unwrap();
    let about = About {
        limit,
        domain: Some(&domain),
        is_pod: true,
        owner: Some("shop/web-0/worker"),
        node: Some(2000 * MIB),
    };
    find(scene, &about).map_or_else(Default::default, |it| (it.text, it.rules))
}

#[test]
fn each_rule_says_its_sentence_and_no_rule_the_figures() {
    let workers = |count: u32, mebibytes| {
        (1..=count).map(|it| process(it, &format!("worker-{it}"), mebibytes)).collect::<Vec<_>>()
    };
    let small = || vec![killed(process(5, "sh", 40)), process(6, "awk", 30)];
    let cache = Stat {
        file: Some(310 * MIB),
        shmem: Some(10 * MIB),
        file_dirty: Some(200 * MIB),
        file_writeback: Some(50 * MIB),
        ..Stat::default()
    };
    let table = [
        (
            scene(vec![killed(process(7, "gunicorn", 412)), process(1, "sh", 2)]),
            "One process has most of the memory: gunicorn (pid 7), 412 MiB of 500 MiB.",
            &[Rule::OneProcess][..],
        ),
        (
            scene([workers(8, 60), vec![process(99, "worker", 1)]].concat()),
            "8 processes named worker have about 60 MiB each, 480 MiB of 500 MiB together: too many for this limit.",
            &[Rule::LikeProcesses],
        ),
        (
            Scene { looked_at: Some(40), ..scene(workers(16, 30)) },
            "At least 16 processes named worker have about 30 MiB each, 480 MiB of 500 MiB together: too many for this limit.",
            &[Rule::LikeProcesses],
        ),
        (
            with_stat(Stat { shmem: Some(350 * MIB), ..Stat::default() }, scene(small())),
            "Shared memory or tmpfs (/dev/shm, an emptyDir in memory) takes 70 %, 350 MiB of 500 MiB.",
            &[Rule::SharedMemory],
        ),
        (
            with_stat(Stat { kernel: Some(300 * MIB), ..Stat::default() }, scene(small())),
            "Kernel memory (slab, page tables, stacks) takes 60 %, 300 MiB of 500 MiB.",
            &[Rule::KernelMemory],
        ),
        (
            with_stat(cache, scene(small())),
            "Page cache takes 60 %, 300 MiB of 500 MiB, and the kernel could not free it; 250 MiB was dirty or under writeback.",
            &[Rule::PageCache],
        ),
        (
            scene(vec![spared(process(3, "postgres", 300)), killed(process(4, "job", 120))]),
            "One process has most of the memory: postgres (pid 3), 300 MiB of 500 MiB. The victim was not the largest process: postgres (pid 3) with 300 MiB has oom_score_adj -998, the victim 0.",
            &[Rule::OneProcess, Rule::ScoreAdj],
        ),
        (
            Scene {
                swap: Some(Usage { usage: 64 * MIB, limit: Some(64 * MIB) }),
                ..scene(small())
            },
            "Swap is full, 64 MiB of 64 MiB.",
            &[Rule::SwapFull],
        ),
        (
            scene(small()),
            "500 MiB of 500 MiB were in use; the largest of 2 processes is sh (pid 5) with 40 MiB.",
            &[Rule::Figures],
        ),
        (
            Scene { memory: None, looked_at: None, ..scene(small()) },
            "The largest process is sh (pid 5) with 40 MiB.",
            &[Rule::Figures],
        ),
        (Scene::default(), "", &[]),
    ];
    for (scene, text, rules) in table {
        assert_eq!(said(&scene, Limit::Container), (text.to_owned(), rules.to_vec()));
    }
}

#[test]
fn whose_limit_it_was_comes_first() {
    let side = |it| of(it, "shop/web-0/side");
    let both = || vec![side(process(2, "cache", 300)), killed(process(3, "app", 150))];
    let (text, rules) = said(&scene(both()), Limit::Pod);
    assert_eq!(
        text,
        "The pod's limit of 500 MiB was hit, not the container's; the processes of shop/web-0/side use the most, 300 MiB. One process has most of the memory: cache (pid 2), 300 MiB of 500 MiB."
    );
    assert_eq!(rules, [Rule::PodLimit, Rule::OneProcess]);
    let own = scene(vec![killed(process(3, "app", 150)), side(process(2, "cache", 90))]);
    let text = said(&own, Limit::Pod).0;
    assert!(
        text.ends_with(
            "container's; the processes of the victim's container use the most, 150 MiB."
        ),
        "{text}"
    );
    let more = Scene { looked_at: Some(60), ..scene(both()) };
    assert!(said(&more, Limit::Pod).0.contains("use the most, at least 300 MiB."));
    let container = |owner: &str, request| NodeContainer {
        owner: owner.to_owned(),
        memory: 1500 * MIB,
        request,
        limit: None,
    };
    let node = Scene {
        memory: None,
        containers: vec![container("shop/db-0/db", Some(512 * MIB)), container("/b", None)],
        ..scene(vec![killed(process(3, "db", 1200))])
    };
    assert_eq!(
        said(&node, Limit::Node).0,
        "The node ran out of memory; the container that uses the most is shop/db-0/db with 1.4 GiB (it requests 512 MiB). One process has most of the memory: db (pid 3), 1.1 GiB of 1.9 GiB of the node's memory."
    );
    assert_eq!(said(&Scene::default(), Limit::Node).0, "The node ran out of memory.");
}

/// What looks like a reason and is none.
#[test]
fn a_rule_is_silent_where_it_would_guess() {
    let rules = |scene: &Scene| said(scene, Limit::Container).1;
    // The largest has the same score: the kernel had another reason, such as that it is dying.
    let dying = scene(vec![process(3, "a", 200), killed(process(4, "b", 100))]);
    assert_eq!(rules(&dying), [Rule::Figures]);
    // Each has mapped the same file, which is charged once, and perhaps to another cgroup.
    let mapped = |mut process: Process| {
        process.footprint = process.footprint.map(|it| Footprint { shmem_rss: 190 * MIB, ..it });
        process
    };
    let sharing = scene((1..6).map(|pid| mapped(process(pid, "a", 80))).collect());
    assert_eq!(rules(&sharing), [Rule::LikeProcesses], "400 MiB are their own");
    let alone = scene(vec![mapped(killed(process(1, "a", 240)))]);
    assert_eq!(rules(&alone), [Rule::Figures], "38 % shared");
    // Two are no crowd.
    let two = scene(vec![killed(process(3, "a", 200)), process(4, "a", 200)]);
    assert_eq!(rules(&two), [Rule::Figures]);
    // Without the usage at the decision nothing is a part of it.
    let unknown = Scene { memory: None, ..scene(vec![killed(process(3, "a", 400))]) };
    assert_eq!(rules(&unknown), [Rule::Figures]);
    // No swap is allowed, or it has no limit of its own.
    for limit in [Some(0), None] {
        let swap = Some(Usage { usage: 0, limit });
        assert_eq!(rules(&Scene { swap, ..two.clone() }), [Rule::Figures]);
    }
    // A process of the workload chooses its name.
    let named = scene(vec![killed(process(3, "\u{1b}[2J a\u{202e}", 400))]);
    assert!(
        said(&named, Limit::Container).0.contains("?[2J?a? (pid 3)".replace('[', "?").as_str())
    );
}

#[test]
fn a_finding_can_be_printed_without_process_ids() {
    let two =
        "The largest process is sh (pid 5) with 40 MiB. gunicorn (pid 4711), 1 MiB, was killed.";
    let finding = Finding { text: two.into(), rules: Vec::new() };
    let expected = "The largest process is sh with 40 MiB. gunicorn, 1 MiB, was killed.";
    assert_eq!(finding.text_without_ids(), expected);
}

#[test]
fn a_finding_has_a_bound() {
    let owner = format!("/{}", "ü/".repeat(500));
    let name = "x".repeat(16);
    let pid = u32::MAX;
    let long = scene(vec![
        spared(of(process(pid, &name, 300), &owner)),
        killed(of(process(pid - 1, &name, 100), "/other")),
    ]);
    let about = About {
        limit: Limit::Pod,
        domain: Some(&CgroupPath::parse(owner.trim_end_matches('/').as_bytes()).unwrap()),
        is_pod: false,
        owner: None,
        node: None,
    };
    let found = find(&long, &about).unwrap();
    assert!(found.text.len() < 800, "{}: {}", found.text.len(), found.text);
}
