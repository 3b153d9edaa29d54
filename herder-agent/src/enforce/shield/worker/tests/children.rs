use super::*;
use crate::enforce::tests::modes::bound_by_modes;
use std::os::unix::fs::PermissionsExt;

/// A child that has become another user's, whom the agent cannot write to.
fn of_another_user(node: &Node) {
    node.process(11, 10, "11\t2", C1, -1000);
    let file = node.root.join("proc/11/oom_score_adj");
    fs::set_permissions(file, fs::Permissions::from_mode(0o444)).unwrap();
}

#[test]
fn a_child_that_cannot_be_restored_ends_the_protection() {
    bound_by_modes(|| {
        let mut node = Node::protected("refused-fork");
        of_another_user(&node);
        node.forks(11, 100);
        assert_eq!([10, 11].map(|pid| node.score(pid)), ["300", "-1000"], "by its fork");

        let mut node = Node::protected("refused-walk");
        of_another_user(&node);
        node.kernel.0.borrow_mut().lost = 1;
        let found = node.turn();
        assert_eq!([10, 11].map(|pid| node.score(pid)), ["300", "-1000"], "by a walk");
        assert_eq!(
            (node.state(), found.inits),
            (Some(Some(Unprotected::Refused)), SavedInits::new())
        );
    });
}

/// The pod's limit is hit, for which the kernel kills in another container.
#[test]
fn kills_for_the_same_limit_are_none_of_an_emergency() {
    for (name, kills, score) in [("others-die", 1, "-1000"), ("none-dies", 0, "300")] {
        let mut node = Node::protected(name);
        let domain = node.id("/matched");
        for second in 0..9 {
            let events = format!("oom 9\noom_kill {}\n", kills * second);
            fs::write(node.root.join("cgroup/matched/memory.events"), events).unwrap();
            let time = Monotonic(second * 1_000_000_000);
            node.kernel.0.borrow_mut().records.push_back(ForkEvent::NoVictim { time, domain });
            node.worker.take_records();
        }
        assert_eq!(node.score(10), score, "{name}");
    }
}
