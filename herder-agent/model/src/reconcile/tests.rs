use super::*;

const ONE: CgroupId = CgroupId(1);
const TWO: CgroupId = CgroupId(2);

fn begun() -> Reconciler {
    let mut reconciler = Reconciler::new(Duration::from_nanos(10));
    reconciler.read(ONE, 5, Monotonic(0));
    reconciler
}

#[test]
fn what_is_reported_is_seen_in_whatever_order() {
    let mut reconciler = begun();
    reconciler.reported(ONE, false, Monotonic(1), Monotonic(1));
    reconciler.read(ONE, 6, Monotonic(2));
    reconciler.read(ONE, 7, Monotonic(3));
    assert_eq!(reconciler.deadline(), Some(Monotonic(12)));
    reconciler.reported(ONE, false, Monotonic(11), Monotonic(11));
    assert_eq!(reconciler.settle(Monotonic(12)), []);
    assert_eq!(reconciler.deadline(), Some(Monotonic(22)), "the second is compared later");
    assert_eq!(reconciler.settle(Monotonic(22)), []);
    assert_eq!(reconciler.deadline(), None);
}

#[test]
fn what_is_not_reported_is_unseen_once() {
    let mut reconciler = begun();
    reconciler.read(ONE, 8, Monotonic(0));
    reconciler.reported(ONE, false, Monotonic(1), Monotonic(1));
    assert_eq!(reconciler.settle(Monotonic(9)), [], "not yet");
    assert_eq!(reconciler.settle(Monotonic(10)), [(Some(ONE), 2)]);
    assert_eq!(reconciler.settle(Monotonic(30)), []);
    reconciler.read(ONE, 9, Monotonic(30));
    assert_eq!(
        reconciler.settle(Monotonic(40)),
        [(Some(ONE), 1)],
        "what was reported before accounts for nothing"
    );
}

#[test]
fn a_group_may_count_its_chosen_victim_twice() {
    for counted in [8, 9] {
        let mut reconciler = begun();
        reconciler.reported(ONE, true, Monotonic(0), Monotonic(0));
        reconciler.reported(ONE, false, Monotonic(0), Monotonic(0));
        reconciler.reported(ONE, false, Monotonic(0), Monotonic(0));
        reconciler.read(ONE, counted, Monotonic(0));
        assert_eq!(reconciler.settle(Monotonic(10)), [], "{counted}");
        reconciler.settle(Monotonic(100));
        reconciler.read(ONE, counted + 1, Monotonic(100));
        assert_eq!(
            reconciler.settle(Monotonic(110)),
            [(Some(ONE), 1)],
            "{counted}: the allowance is gone"
        );
    }
}

#[test]
fn a_removed_cgroup_is_compared_and_forgotten() {
    let mut reconciler = begun();
    reconciler.read(ONE, 6, Monotonic(0));
    reconciler.removed(ONE);
    assert_eq!(reconciler.settle(Monotonic(5)), []);
    assert_eq!(reconciler.settle(Monotonic(10)), [(Some(ONE), 1)]);
    assert_eq!(reconciler.count(ONE), None);
}

#[test]
fn nothing_is_kept_of_a_cgroup_without_kills_and_it_may_begin_anew() {
    let mut reconciler = begun();
    reconciler.removed(ONE);
    assert_eq!(reconciler.count(ONE), None);
    reconciler.read(ONE, 9, Monotonic(50));
    assert_eq!(reconciler.settle(Monotonic(100)), []);
}

/// A count may be read long after a kill was reported, where no watch notifies of it.
#[test]
fn what_was_reported_before_it_is_read_explains_it() {
    let mut reconciler = begun();
    reconciler.read(TWO, 0, Monotonic(0));
    reconciler.reported(ONE, false, Monotonic(1), Monotonic(1));
    reconciler.read(TWO, 1, Monotonic(2));
    assert_eq!(reconciler.settle(Monotonic(12)), [(Some(TWO), 1)]);
    reconciler.read(ONE, 6, Monotonic(30));
    assert_eq!(reconciler.settle(Monotonic(40)), []);
    reconciler.read(ONE, 7, Monotonic(50));
    assert_eq!(reconciler.settle(Monotonic(60)), [(Some(ONE), 1)]);
}

#[test]
fn what_no_cgroup_can_count_shows_in_the_count_of_the_node() {
    let mut reconciler = begun();
    reconciler.begin_node(100, 100, Monotonic(0));
    reconciler.reported(ONE, false, Monotonic(1), Monotonic(1));
    reconciler.reported(TWO, false, Monotonic(1), Monotonic(1));
    reconciler.reported(TWO, false, Monotonic(1), Monotonic(1));
    reconciler.read(ONE, 8, Monotonic(2));
    // Two of these are seen by the cgroup's count, one by none.
    reconciler.read_node(106, Monotonic(2));
    assert_eq!(reconciler.settle(Monotonic(12)), [(Some(ONE), 2)]);
    assert_eq!(reconciler.settle(Monotonic(21)), []);
    assert_eq!(reconciler.deadline(), Some(Monotonic(22)));
    assert_eq!(reconciler.settle(Monotonic(22)), [(None, 1)]);
    reconciler.read_node(106, Monotonic(50));
    assert_eq!((reconciler.deadline(), reconciler.settle(Monotonic(99))), (None, vec![]));
}

#[test]
fn what_was_killed_while_the_agent_began_is_reported_or_unheard() {
    let mut reconciler = begun();
    reconciler.begin_node(100, 105, Monotonic(50));
    reconciler.reported(ONE, true, Monotonic(49), Monotonic(60));
    reconciler.reported(ONE, false, Monotonic(51), Monotonic(60));
    reconciler.read_node(107, Monotonic(61));
    assert_eq!(reconciler.deadline(), Some(Monotonic(70)));
    // Until this agent reports that, the next one has to.
    assert_eq!(reconciler.node_accounted(), Some(103));
    assert_eq!(
        (reconciler.settle_starting(Monotonic(69)), reconciler.settle_starting(Monotonic(70))),
        (0, 3)
    );
    assert_eq!(reconciler.settle_starting(Monotonic(99)), 0);
    assert_eq!(reconciler.node_accounted(), Some(106));
    assert_eq!(reconciler.settle(Monotonic(81)), [(None, 1)]);
}

#[test]
fn the_next_agent_begins_where_all_is_reported() {
    let mut reconciler = begun();
    reconciler.begin_node(100, 100, Monotonic(0));
    assert_eq!((reconciler.accounted(ONE), reconciler.node_accounted()), (Some(5), Some(100)));
    reconciler.read(ONE, 8, Monotonic(1));
    reconciler.read_node(103, Monotonic(1));
    reconciler.reported(ONE, true, Monotonic(2), Monotonic(2));
    let both = |reconciler: &Reconciler| (reconciler.accounted(ONE), reconciler.node_accounted());
    assert_eq!(both(&reconciler), (Some(7), Some(102)));
    reconciler.reported(ONE, false, Monotonic(3), Monotonic(3));
    reconciler.reported(ONE, false, Monotonic(3), Monotonic(3));
    assert_eq!(both(&reconciler), (Some(8), Some(103)));
}
