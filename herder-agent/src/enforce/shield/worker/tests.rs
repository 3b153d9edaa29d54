//! A directory that looks like a procfs, and one that looks like a cgroup mount.

mod children;
mod failing;
mod saving;
mod walking;

use super::{super::Protect, *};
use crate::report::Reporter;
use herder_model::{
    clock::Monotonic,
    shield::{SavedInit, Unprotected},
};
use std::{
    cell::RefCell,
    collections::VecDeque,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    rc::Rc,
};

/// The programs.
#[derive(Clone, Default)]
struct Kernel(Rc<RefCell<KernelState>>);

#[derive(Default)]
struct KernelState {
    watched: Vec<CgroupId>,
    /// A directory that is removed when a container is watched: its process ends then.
    ends: Option<PathBuf>,
    records: VecDeque<ForkEvent>,
    lost: u64,
}

impl ForkSource for Kernel {
    fn watch(&mut self, container: CgroupId) -> bool {
        let mut kernel = self.0.borrow_mut();
        kernel.watched.push(container);
        if let Some(directory) = kernel.ends.take() {
            fs::remove_dir_all(directory).unwrap();
        }
        true
    }

    fn forget(&mut self, container: CgroupId) {
        self.0.borrow_mut().watched.retain(|id| *id != container);
    }

    fn take(&mut self) -> Option<ForkEvent> {
        self.0.borrow_mut().records.pop_front()
    }

    fn new_losses(&mut self) -> u64 {
        std::mem::take(&mut self.0.borrow_mut().lost)
    }
}

struct Node {
    root: PathBuf,
    kernel: Kernel,
    worker: Worker<Kernel>,
}

const C1: &str = "/matched/c1";

fn tools<F>(root: &Path, forks: F) -> Tools<F> {
    Tools {
        processes: HostProc::unchecked(&root.join("proc")).unwrap(),
        paths: Paths::of_the_node(),
        files: CgroupFs::new(root.join("cgroup")),
        forks,
        listener: Arc::new(Reporter::default()),
        most: 8,
    }
}

impl Node {
    fn new(name: &str) -> Self {
        let root =
            std::env::temp_dir().join(format!("herder-shield-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("proc")).unwrap();
        for cgroup in ["shim", "matched/c1/sub", "matched/c2"] {
            fs::create_dir_all(root.join("cgroup").join(cgroup)).unwrap();
        }
        let kernel = Kernel::default();
        let worker = Worker::new(tools(&root, kernel.clone()));
        let node = Node { worker, root, kernel };
        node.process(5, 1, "5", "/shim", 0);
        node
    }

    fn id(&self, path: &str) -> CgroupId {
        let directory = self.root.join("cgroup").join(path.trim_start_matches('/'));
        CgroupId(fs::metadata(directory).unwrap().ino())
    }

    /// A process that began at tick 100.
    fn process(&self, pid: u32, parent: u32, ids: &str, cgroup: &str, score: i16) {
        let directory = self.root.join(format!("proc/{pid}"));
        fs::create_dir_all(&directory).unwrap();
        let stat = format!("{pid} (x) S {parent} 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 100 0");
        fs::write(directory.join("stat"), stat).unwrap();
        fs::write(directory.join("status"), format!("PPid:\t{parent}\nNSpid:\t{ids}\n")).unwrap();
        fs::write(directory.join("cgroup"), format!("0::{cgroup}\n")).unwrap();
        fs::write(directory.join("oom_score_adj"), format!("{score}\n")).unwrap();
    }

    fn score(&self, pid: u32) -> String {
        let file = self.root.join(format!("proc/{pid}/oom_score_adj"));
        fs::read_to_string(file).unwrap().trim().to_owned()
    }

    fn wanted(&self, path: &str, init: Option<u32>) -> Wanted {
        let protect =
            Protect { path: CgroupPath::parse(path.as_bytes()).unwrap(), rule: "r".into(), init };
        let containers = BTreeMap::from([(self.id(path), protect)]);
        Wanted { containers, ..Wanted::default() }
    }

    /// What is found after so much was seen.
    fn turn(&mut self) -> Found {
        self.worker.tick();
        self.walk();
        self.worker.news();
        self.worker.found.clone()
    }

    fn walk(&mut self) {
        while self.worker.walk_some() {}
    }

    /// With the container's init, process 10, exempt.
    fn protected(name: &str) -> Self {
        let mut node = Self::new(name);
        node.process(10, 5, "10\t1", C1, 300);
        node.worker.take_wanted(node.wanted(C1, None).into());
        let found = node.turn();
        node.worker.saved(found.version);
        node.worker.news();
        assert_eq!(node.score(10), "-1000");
        node
    }

    /// What an earlier agent has saved of process 10.
    fn left(&self, start: u64) -> SavedInits {
        let path = CgroupPath::parse(C1.as_bytes()).unwrap();
        SavedInits::from([(self.id(C1), SavedInit { path, pid: 10, start, score: 300 })])
    }

    fn forks(&mut self, pid: u32, start: u64) {
        self.forks_sharing(pid, start, false);
    }

    fn forks_sharing(&mut self, pid: u32, start: u64, shares_memory: bool) {
        let record = ForkEvent::Forked {
            container: self.id(C1),
            pid,
            start_boottime: start * 1_000_000_000 / rustix::param::clock_ticks_per_second(),
            shares_memory,
        };
        self.kernel.0.borrow_mut().records.push_back(record);
        assert!(self.worker.take_records());
    }

    fn state(&self) -> Option<Option<Unprotected>> {
        self.worker.found.states.get(&self.id(C1)).copied()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

#[test]
fn nothing_is_written_before_it_is_saved() {
    let mut node = Node::new("saved");
    node.process(10, 5, "10\t1", C1, 300);
    node.worker.take_wanted(node.wanted(C1, None).into());
    let found = node.turn();
    let saved = SavedInit {
        path: CgroupPath::parse(C1.as_bytes()).unwrap(),
        pid: 10,
        start: 100,
        score: 300,
    };
    assert_eq!((found.version, found.inits.get(&node.id(C1))), (1, Some(&saved)));
    assert_eq!((node.score(10), node.state()), ("300".into(), Some(Some(Unprotected::Pending))));
    node.worker.saved(found.version - 1);
    assert_eq!(node.score(10), "300", "an older state has been saved");
    node.worker.saved(found.version);
    assert_eq!(node.kernel.0.borrow().watched, [node.id(C1)]);
    node.worker.news();
    assert_eq!((node.score(10), node.state()), ("-1000".into(), Some(None)));
}

#[test]
fn what_is_forked_gets_the_inits_own_score() {
    let mut node = Node::protected("forks");
    for (pid, score) in [(11, -1000), (12, 700), (13, -1000)] {
        node.process(pid, 10, &format!("{pid}\t{}", pid - 9), C1, score);
    }
    node.forks(11, 100);
    node.forks(12, 100);
    // Its id was another process's.
    node.forks(13, 99);
    node.forks(14, 100);
    let scores = [10, 11, 12, 13].map(|pid| node.score(pid));
    assert_eq!(scores, ["-1000", "300", "700", "-1000"]);
    // Records were lost: all of the container are looked at, and nothing else is.
    node.process(15, 10, "15\t6", "/matched/c1/sub", -1000);
    node.process(16, 5, "16", "/matched/c2", -1000);
    node.kernel.0.borrow_mut().lost = 3;
    node.turn();
    let scores = [10, 13, 15, 16].map(|pid| node.score(pid));
    assert_eq!(scores, ["-1000", "300", "300", "-1000"]);
}

#[test]
fn it_is_restored_when_no_rule_wants_it_and_at_the_end() {
    let mut node = Node::protected("released");
    node.worker.take_wanted(Arc::default());
    assert_eq!(node.score(10), "300");
    assert_eq!(node.worker.news().unwrap().inits, SavedInits::new());
    node.process(11, 10, "11\t2", C1, -1000);
    node.forks(11, 100);
    assert_eq!(node.score(11), "300", "it was being forked meanwhile");
    let mut node = Node::protected("ended");
    node.process(11, 10, "11\t2", C1, -1000);
    node.worker.end();
    assert_eq!([10, 11].map(|pid| node.score(pid)), ["300", "300"]);
}

#[test]
fn what_the_workload_has_set_is_left_alone() {
    let mut node = Node::protected("own");
    node.process(10, 5, "10\t1", C1, 5);
    node.worker.look_again(node.id(C1));
    node.worker.news();
    assert_eq!(node.state(), Some(Some(Unprotected::Changed)));
    node.worker.take_wanted(Arc::default());
    assert_eq!(node.score(10), "5");
    let mut node = Node::new("exempt");
    node.process(10, 5, "10\t1", C1, -1000);
    node.worker.take_wanted(node.wanted(C1, None).into());
    node.turn();
    assert_eq!(node.state(), Some(Some(Unprotected::OwnScore)));
    node.worker.end();
    assert_eq!(node.score(10), "-1000");
}

/// As a kill's kind is found: process 1 of a namespace whose parent is outside.
#[test]
fn an_init_that_is_not_certain_is_not_touched() {
    let inits = |name: &str, more: &[(u32, u32, &str)], reported| {
        let mut node = Node::new(name);
        for (pid, parent, ids) in more {
            node.process(*pid, *parent, ids, C1, 0);
        }
        node.worker.take_wanted(node.wanted(C1, reported).into());
        node.turn().inits.values().map(|init| init.pid).collect::<Vec<_>>()
    };
    let none: [u32; 0] = [];
    assert_eq!(inits("nested", &[(10, 5, "10\t1"), (11, 10, "11\t2\t1")], None), [10]);
    assert_eq!(inits("two", &[(10, 5, "10\t1"), (11, 5, "11\t1")], None), none);
    assert_eq!(inits("shared", &[(10, 5, "10\t7")], None), none, "shareProcessNamespace");
    assert_eq!(inits("reported", &[(10, 5, "10\t7"), (11, 10, "11\t8")], Some(10)), [10]);
    assert_eq!(inits("host", &[(10, 5, "10")], None), none, "hostPID");
    assert_eq!(inits("orphan", &[(10, 99, "10\t1")], None), none, "its parent is not known");
}

#[test]
fn what_an_earlier_agent_left_is_taken_over_or_restored() {
    let mut node = Node::new("left");
    node.process(10, 5, "10\t1", C1, -1000);
    node.process(11, 10, "11\t2", C1, -1000);
    node.worker.inherit(node.left(100));
    node.walk();
    assert_eq!([10, 11].map(|pid| node.score(pid)), ["-1000", "300"]);
    let keep = [node.id(C1)].into();
    node.worker.take_wanted(Wanted { keep, ..Wanted::default() }.into());
    assert_eq!(node.score(10), "-1000", "it is not known whether a rule wants it");
    node.worker.take_wanted(node.wanted(C1, None).into());
    node.turn();
    assert_eq!((node.score(10), node.state()), ("-1000".into(), Some(None)));
    node.worker.take_wanted(Arc::default());
    assert_eq!(node.score(10), "300");
    let mut node = Node::new("another");
    node.process(10, 5, "10\t1", C1, -1000);
    node.worker.inherit(node.left(99));
    node.worker.end();
    assert_eq!(node.score(10), "-1000", "another process has its id");
}

#[test]
fn when_nothing_else_can_be_killed_it_is_restored() {
    let mut node = Node::protected("emergency");
    node.process(11, 10, "11\t2", C1, -1000);
    let start = Monotonic(5);
    for (second, score) in [(0, "-1000"), (1, "-1000"), (2, "300")] {
        let time = start + Duration::from_secs(second);
        let domain = node.id("/matched");
        node.kernel.0.borrow_mut().records.push_back(ForkEvent::NoVictim { time, domain });
        node.worker.take_records();
        node.walk();
        assert_eq!(node.score(10), score, "{second}");
        assert_eq!(node.score(11), "300", "whose fork was not seen");
    }
    node.worker.news();
    assert_eq!(node.state(), Some(Some(Unprotected::NoOtherVictim)));
    let mut node = Node::protected("elsewhere");
    for second in 0..9 {
        let (time, domain) = (start + Duration::from_secs(second), node.id("/matched/c2"));
        node.kernel.0.borrow_mut().records.push_back(ForkEvent::NoVictim { time, domain });
        node.worker.take_records();
    }
    assert_eq!(node.score(10), "-1000");
}
