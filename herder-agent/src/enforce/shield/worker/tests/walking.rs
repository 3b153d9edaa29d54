//! The walk over all processes.

use super::*;

const C2: &str = "/matched/c2";

/// With the inits of two containers exempt, and so many processes that belong to none.
fn two(name: &str, others: u32) -> Node {
    let mut node = Node::new(name);
    node.process(10, 5, "10\t1", C1, 300);
    node.process(20, 5, "20\t1", C2, 500);
    for pid in 0..others {
        node.process(1000 + pid, 5, &format!("{}", 1000 + pid), "/shim", 0);
    }
    let mut wanted = node.wanted(C1, None);
    wanted.containers.append(&mut node.wanted(C2, None).containers);
    node.worker.take_wanted(wanted.into());
    let version = node.turn().version;
    node.worker.saved(version);
    node.worker.news();
    assert_eq!([10, 20].map(|pid| node.score(pid)), ["-1000", "-1000"]);
    node
}

#[test]
fn forks_have_their_turn_while_a_walk_goes_on() {
    let mut node = two("turns", 200);
    node.kernel.0.borrow_mut().lost = 1;
    node.worker.tick();
    assert!(node.worker.walk_some());
    node.process(11, 10, "11\t2", C1, -1000);
    node.forks(11, 100);
    assert_eq!((node.score(11), node.worker.is_walking()), ("300".into(), true));
    node.walk();
    assert!(!node.worker.is_walking());
}

#[test]
fn one_walk_is_for_all_containers() {
    let mut node = two("all", 0);
    node.process(11, 10, "11\t2", C1, -1000);
    node.process(21, 20, "21\t2", C2, -1000);
    node.kernel.0.borrow_mut().lost = 1;
    node.worker.tick();
    // There are fewer processes than it looks at in one turn.
    assert!(!node.worker.walk_some());
    assert_eq!([11, 21].map(|pid| node.score(pid)), ["300", "500"]);
}

/// Records are lost again before another walk may begin.
#[test]
fn what_is_put_off_is_not_forgotten() {
    let mut node = two("put-off", 0);
    for pid in [11, 12] {
        node.process(pid, 10, &format!("{pid}\t2"), C1, -1000);
        node.kernel.0.borrow_mut().lost = 1;
        node.turn();
    }
    assert_eq!([11, 12].map(|pid| node.score(pid)), ["300", "-1000"]);
    node.worker.swept = None;
    node.turn();
    assert_eq!([11, 12].map(|pid| node.score(pid)), ["300", "300"]);
}

/// The child is found later than its init may have had its own value for.
#[test]
fn a_container_is_not_forgotten_before_it_is_swept() {
    let mut node = two("slow", 0);
    node.process(11, 10, "11\t2", C1, -1000);
    node.worker.take_wanted(node.wanted(C2, None).into());
    let late = |node: &mut Node| {
        node.worker.leaving.values_mut().for_each(|it| it.until = Instant::now());
        node.worker.tick();
    };
    node.kernel.0.borrow_mut().lost = 1;
    node.worker.swept = Some(Instant::now());
    late(&mut node);
    assert!(!node.worker.is_walking(), "the walk is put off");
    node.worker.swept = None;
    late(&mut node);
    assert!(node.worker.is_walking());
    late(&mut node);
    node.walk();
    assert_eq!(node.score(11), "300");
    late(&mut node);
    assert_eq!(node.kernel.0.borrow().watched, [node.id(C2)]);
}

/// Each takes a descriptor.
#[test]
fn no_more_inits_are_known_than_there_is_room_for() {
    let mut node = Node::new("room");
    node.worker.tools.most = 1;
    node.process(10, 5, "10\t1", C1, 300);
    node.process(20, 5, "20\t1", C2, 500);
    let mut wanted = node.wanted(C1, None);
    wanted.containers.append(&mut node.wanted(C2, None).containers);
    node.worker.take_wanted(wanted.into());
    node.turn();
    let found = node.turn();
    let reasons: Vec<_> = found.states.values().flatten().collect();
    assert_eq!(reasons.len(), 2);
    assert!(reasons.contains(&&Unprotected::TooMany) && reasons.contains(&&Unprotected::Pending));
    assert_eq!(found.inits.len(), 1);
}
