//! Reads and writes that fail for a while: a value that only this agent knows is not lost.

use super::{super::super::unable::NoForks, *};

impl Node {
    /// From now on a file of a process can be neither read nor written.
    fn breaks(&self, pid: u32, file: &str) {
        let file = self.root.join(format!("proc/{pid}/{file}"));
        let _ = fs::remove_file(&file);
        fs::create_dir(file).unwrap();
    }

    /// And again it can.
    fn mends(&self, pid: u32, file: &str, text: &str) {
        let file = self.root.join(format!("proc/{pid}/{file}"));
        fs::remove_dir(&file).unwrap();
        fs::write(file, text).unwrap();
    }

    fn saved(&mut self) -> SavedInits {
        self.worker.news();
        self.worker.found.inits.clone()
    }

    fn watched(&self) -> Vec<CgroupId> {
        self.kernel.0.borrow().watched.clone()
    }
}

#[test]
fn an_init_that_cannot_be_read_has_not_ended() {
    let mut node = Node::protected("unread");
    node.breaks(10, "oom_score_adj");
    node.worker.look_at_all();
    assert_eq!((node.saved(), node.state()), (node.left(100), Some(None)));
    node.mends(10, "oom_score_adj", "-1000");
    node.turn();
    node.worker.take_wanted(Arc::default());
    assert_eq!((node.score(10), node.saved()), ("300".into(), SavedInits::new()));
}

#[test]
fn an_init_that_cannot_be_read_when_it_was_saved_is_exempted_later() {
    let mut node = Node::new("unread-saved");
    node.process(10, 5, "10\t1", C1, 300);
    node.worker.take_wanted(node.wanted(C1, None).into());
    let version = node.turn().version;
    node.breaks(10, "oom_score_adj");
    node.worker.saved(version);
    node.turn();
    assert_eq!((node.saved(), node.watched()), (node.left(100), vec![]));
    node.mends(10, "oom_score_adj", "300");
    node.turn();
    assert_eq!((node.score(10), node.state()), ("-1000".into(), Some(None)));
}

#[test]
fn what_cannot_be_restored_stays_saved_and_is_tried_again() {
    let mut node = Node::protected("unrestored");
    node.breaks(10, "oom_score_adj");
    node.worker.take_wanted(Arc::default());
    assert_eq!((node.saved(), node.state()), (node.left(100), None));
    assert!(node.worker.found.unrestored[&node.id(C1)].contains("directory"));
    assert_eq!(node.watched(), [node.id(C1)]);
    node.process(11, 10, "11\t2", C1, -1000);
    node.forks(11, 100);
    assert_eq!(node.score(11), "300", "what it starts meanwhile");
    node.mends(10, "oom_score_adj", "-1000");
    node.worker.look_at_all();
    assert_eq!((node.score(10), node.saved()), ("300".into(), SavedInits::new()));
    assert!(node.worker.found.unrestored.is_empty());

    let mut node = Node::protected("unrestored-end");
    node.breaks(10, "oom_score_adj");
    node.worker.end();
    assert_eq!(node.saved(), node.left(100), "the next agent finds it");

    let mut node = Node::protected("unrestored-gone");
    node.breaks(10, "oom_score_adj");
    node.worker.take_wanted(Arc::default());
    fs::remove_dir_all(node.root.join("proc/10")).unwrap();
    node.worker.look_at_all();
    assert_eq!(node.saved(), SavedInits::new());

    let mut node = Node::protected("unrestored-own");
    node.breaks(10, "oom_score_adj");
    node.worker.take_wanted(Arc::default());
    node.mends(10, "oom_score_adj", "7");
    node.worker.look_at_all();
    assert_eq!((node.score(10), node.saved()), ("7".into(), SavedInits::new()));
}

/// Else it would be taken for one that was exempt by itself.
#[test]
fn what_is_wanted_again_before_it_was_restored_stays_protected() {
    let mut node = Node::protected("again");
    node.breaks(10, "oom_score_adj");
    node.worker.take_wanted(Arc::default());
    node.mends(10, "oom_score_adj", "-1000");
    node.worker.take_wanted(node.wanted(C1, None).into());
    node.turn();
    assert_eq!((node.score(10), node.state()), ("-1000".into(), Some(None)));
    node.worker.take_wanted(Arc::default());
    assert_eq!(node.score(10), "300");
}

/// No rule asks for it.
#[test]
fn the_successor_of_an_init_that_was_not_restored_is_not_exempted() {
    let released = |name| {
        let mut node = Node::protected(name);
        node.breaks(10, "oom_score_adj");
        node.worker.take_wanted(Arc::default());
        fs::remove_dir_all(node.root.join("proc/10")).unwrap();
        node.process(30, 5, "30\t1", C1, 300);
        node
    };
    let mut node = released("successor");
    node.worker.look_again(node.id(C1));
    let version = node.turn().version;
    node.worker.saved(version);
    assert_eq!((node.score(30), node.saved()), ("300".into(), SavedInits::new()));

    let mut node = released("successor-forks");
    node.forks_sharing(31, 100, true);
    assert!(node.worker.inits.is_empty());
}

#[test]
fn what_is_wanted_again_after_it_was_restored_is_protected_again() {
    let mut node = Node::protected("restored-again");
    node.breaks(10, "oom_score_adj");
    node.worker.take_wanted(Arc::default());
    node.mends(10, "oom_score_adj", "-1000");
    node.worker.look_again(node.id(C1));
    assert_eq!((node.score(10), node.saved()), ("300".into(), SavedInits::new()));
    node.worker.take_wanted(node.wanted(C1, None).into());
    let version = node.turn().version;
    node.worker.saved(version);
    node.worker.news();
    assert_eq!((node.score(10), node.state()), ("-1000".into(), Some(None)));
}

#[test]
fn an_emergency_is_not_over_before_it_is_restored() {
    let mut node = Node::protected("unrestored-emergency");
    node.breaks(10, "oom_score_adj");
    for second in 0..3 {
        let (time, domain) = (Monotonic(second * 1_000_000_000), node.id("/matched"));
        node.kernel.0.borrow_mut().records.push_back(ForkEvent::NoVictim { time, domain });
        node.worker.take_records();
    }
    assert_eq!(node.saved(), node.left(100));
    node.mends(10, "oom_score_adj", "-1000");
    node.worker.look_at_all();
    assert_eq!((node.score(10), node.saved()), ("300".into(), SavedInits::new()));
    assert_eq!(node.state(), Some(Some(Unprotected::NoOtherVictim)));
}

#[test]
fn what_was_left_and_cannot_be_read_yet_is_not_forgotten() {
    let stat = |node: &Node| fs::read_to_string(node.root.join("proc/10/stat")).unwrap();
    for (name, file) in [("left-score", "oom_score_adj"), ("left-process", "stat")] {
        for is_wanted in [true, false] {
            let mut node = Node::new(&format!("{name}-{is_wanted}"));
            node.process(10, 5, "10\t1", C1, -1000);
            node.process(11, 10, "11\t2", C1, -1000);
            let text = if file == "stat" { stat(&node) } else { "-1000".to_owned() };
            node.breaks(10, file);
            node.worker.inherit(node.left(100));
            let wanted = if is_wanted { node.wanted(C1, None) } else { Wanted::default() };
            node.worker.take_wanted(wanted.into());
            node.turn();
            assert_eq!(node.saved(), node.left(100), "{name}");
            node.mends(10, file, &text);
            node.worker.look_at_all();
            node.walk();
            let expected = if is_wanted { "-1000" } else { "300" };
            assert_eq!([10, 11].map(|pid| node.score(pid)), [expected, "300"], "{name}");
            let saved = if is_wanted { node.left(100) } else { SavedInits::new() };
            assert_eq!(node.saved(), saved, "{name}");
        }
    }
}

#[test]
fn a_child_that_a_walk_cannot_read_is_looked_at_again() {
    for (file, text) in [
        ("stat", "11 (x) S 10 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 100 0"),
        ("cgroup", "0::/matched/c1"),
        ("oom_score_adj", "-1000"),
    ] {
        let mut node = Node::protected(&format!("unread-child-{file}"));
        node.process(11, 10, "11\t2", C1, -1000);
        node.breaks(11, file);
        node.kernel.0.borrow_mut().lost = 1;
        node.turn();
        node.mends(11, file, text);
        node.worker.swept = None;
        node.turn();
        assert_eq!(node.score(11), "300", "{file}");
        assert!(node.worker.to_sweep.is_empty());
    }
}

/// Process 10 is the init, and 11 entered from outside with a pid namespace of its own.
#[test]
fn what_is_left_when_the_init_cannot_be_read_is_not_taken_for_it() {
    let stat = "10 (x) S 5 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 100 0";
    for (pid, file, text) in [
        (10, "stat", stat),
        (10, "status", "PPid:\t5\nNSpid:\t10\t1\n"),
        (10, "cgroup", "0::/matched/c1"),
        (6, "cgroup", "0::/shim"),
    ] {
        let mut node = Node::new(&format!("unread-{pid}-{file}"));
        node.process(6, 1, "6", "/shim", 0);
        node.process(10, 6, "10\t1", C1, 300);
        node.process(11, 5, "11\t1", C1, 500);
        node.breaks(pid, file);
        node.worker.take_wanted(node.wanted(C1, None).into());
        let version = node.turn().version;
        node.worker.saved(version);
        assert_eq!(node.score(11), "500", "{pid} {file}");
        node.worker.news();
        assert_eq!(node.state(), Some(Some(Unprotected::NoInit)), "{pid} {file}");
        // What the runtime has reported is certain all the same.
        node.worker.take_wanted(node.wanted(C1, Some(11)).into());
        assert_eq!(node.turn().inits.values().map(|init| init.pid).collect::<Vec<_>>(), [11]);
        // Once it can be read, it is known to be one of two.
        node.mends(pid, file, text);
        fs::remove_dir_all(node.root.join("proc/11")).unwrap();
        node.worker.take_wanted(Arc::default());
        node.worker.take_wanted(node.wanted(C1, None).into());
        let inits = node.turn().inits;
        assert_eq!(inits.values().map(|init| init.pid).collect::<Vec<_>>(), [10], "{pid} {file}");
    }
}

/// It was reparented right after its parent was read.
#[test]
fn what_is_left_when_the_parent_of_the_init_has_ended_is_not_taken_for_it() {
    let mut node = Node::new("parent-ended");
    node.process(10, 6, "10\t1", C1, 300);
    node.process(11, 5, "11\t1", C1, 500);
    node.worker.take_wanted(node.wanted(C1, None).into());
    assert_eq!(node.turn().inits, SavedInits::new());
}

#[test]
fn a_child_that_cannot_be_read_when_it_is_forked_is_looked_at_again() {
    let mut node = Node::protected("unread-fork");
    node.process(11, 10, "11\t2", C1, -1000);
    node.breaks(11, "oom_score_adj");
    node.forks(11, 100);
    node.mends(11, "oom_score_adj", "-1000");
    node.turn();
    assert_eq!(node.score(11), "300");
}

#[test]
fn an_init_that_is_not_exempted_takes_no_room_among_those_that_are() {
    let mut node = Node::new("refused");
    node.process(10, 5, "10\t1", C1, 300);
    node.breaks(10, "oom_adj");
    node.worker.take_wanted(node.wanted(C1, None).into());
    let version = node.turn().version;
    node.worker.saved(version);
    node.worker.news();
    assert_eq!(node.state(), Some(Some(Unprotected::Refused)));
    assert_eq!(node.watched(), []);

    let mut node = Node::new("gone");
    node.process(10, 5, "10\t1", C1, 300);
    node.kernel.0.borrow_mut().ends = Some(node.root.join("proc/10"));
    node.worker.take_wanted(node.wanted(C1, None).into());
    let version = node.turn().version;
    node.worker.saved(version);
    assert_eq!((node.kernel.0.borrow().ends.is_none(), node.watched()), (true, vec![]));
}

/// Its successor has no component any more, or no eBPF.
#[test]
fn an_agent_that_can_protect_nothing_restores_what_was_left() {
    let node = Node::new("unable");
    node.process(10, 5, "10\t1", C1, -1000);
    node.process(11, 10, "11\t2", C1, -1000);
    let unable = Unable::missing("no programs".to_owned());
    let mut worker = Worker::restoring(tools(&node.root, NoForks), unable);
    worker.inherit(node.left(100));
    worker.take_wanted(node.wanted(C1, None).into());
    while worker.walk_some() {}
    let found = worker.news().unwrap();
    assert_eq!([10, 11].map(|pid| node.score(pid)), ["300", "300"]);
    let states = BTreeMap::from([(node.id(C1), Some(Unprotected::Unavailable))]);
    assert_eq!((found.inits, found.states), (SavedInits::new(), states));
    worker.tick();
    assert_eq!(node.score(10), "300");
}

#[test]
fn what_was_left_is_counted_also_by_an_agent_that_cannot_restore_it() {
    let node = Node::new("unable-unread");
    node.process(10, 5, "10\t1", C1, -1000);
    node.breaks(10, "oom_score_adj");
    let reporter = Arc::new(Reporter::default());
    let tools = Tools { listener: reporter.clone(), ..tools(&node.root, NoForks) };
    let mut worker = Worker::restoring(tools, Unable::missing("no programs".to_owned()));
    worker.inherit(node.left(100));
    worker.take_wanted(Arc::default());
    worker.news();
    let text = String::from_utf8(reporter.metrics().exposition().0).unwrap();
    assert!(text.contains("\nherder_inits_protected 1\n"), "{text}");
    assert_eq!(worker.news(), None);
}
