use super::*;

const PAUSE: Duration = Duration::from_secs(10);

fn at(seconds: u64) -> Monotonic {
    Monotonic::ZERO + Duration::from_secs(1000 + seconds)
}

fn subject(number: u64, escalate: &str) -> Subject {
    Subject {
        id: CgroupId(number),
        path: CgroupPath::parse(format!("/c{number}").as_bytes()).unwrap(),
        rule: "web".into(),
        escalate: Escalate::parse(escalate).unwrap(),
    }
}

fn kill(all: &mut Escalations, number: u64, escalate: &str, seconds: u64) -> Option<What> {
    let now = at(seconds);
    let order = all.kill(subject(number, escalate), now, true, now)?;
    assert_eq!(order.of.id, CgroupId(number));
    Some(order.what)
}

fn due(all: &mut Escalations, seconds: u64) -> Vec<(u64, What)> {
    all.due(at(seconds)).into_iter().map(|order| (order.of.id.0, order.what)).collect()
}

fn all(pause: Duration) -> Escalations {
    Escalations::new(pause, HashMap::new())
}

/// It is decided anew, under this rule, and is to be 1.
fn wanted(all: &mut Escalations, number: u64, escalate: &str, seconds: u64) -> bool {
    let of = subject(number, escalate);
    let (rule, escalate) = (of.rule.clone(), of.escalate);
    all.governs(of, Monotonic::ZERO, at(seconds));
    all.is_raised(CgroupId(number), &rule, escalate, at(seconds))
}

fn raised(rule: &str, seconds: u64) -> Raised {
    Raised { rule: rule.into(), last: at(seconds) }
}

#[test]
fn one_restart_in_each_pause_and_those_that_wait_in_their_order() {
    let mut all = all(PAUSE);
    let once = "1/1m=restart";
    assert_eq!(kill(&mut all, 1, once, 0), Some(What::Restart));
    for number in [2, 3] {
        assert_eq!(kill(&mut all, number, once, 1), Some(What::PutOff));
    }
    assert_eq!(kill(&mut all, 2, once, 2), None, "said once");
    assert_eq!(all.deadline(), Some(at(61)), "what is written now is waited for");
    assert_eq!(due(&mut all, 20), [], "however long it takes");
    all.written(CgroupId(1), Seen::Restarted(at(20)), at(20));
    assert_eq!(all.deadline(), Some(at(10)));
    assert_eq!(due(&mut all, 20), [(2, What::Restart)]);
    all.written(CgroupId(2), Seen::Restarted(at(21)), at(21));
    assert_eq!(due(&mut all, 29), []);
    assert_eq!(all.deadline(), Some(at(30)));
    assert_eq!(due(&mut all, 30), [(3, What::Restart)]);
}

#[test]
fn what_waits_goes_when_it_is_not_due_any_more() {
    let mut all = all(PAUSE * 100);
    let once = "1/1m=restart";
    assert_eq!(kill(&mut all, 1, once, 0), Some(What::Restart));
    all.written(CgroupId(1), Seen::Restarted(at(0)), at(0));
    for number in [2, 3, 4, 5] {
        assert_eq!(kill(&mut all, number, once, 1), Some(What::PutOff));
    }
    assert_eq!(all.ended(CgroupId(2), at(2)), None);
    all.forget(CgroupId(3));
    assert_eq!(kill(&mut all, 4, once, 50), None);
    assert_eq!(due(&mut all, 61), [(5, What::Lapsed)]);
    assert_eq!(due(&mut all, 110), [(4, What::Lapsed)]);
    assert_eq!(due(&mut all, 2000), []);
    assert_eq!((all.waiting.len(), all.quiet.len()), (0, 0));
}

#[test]
fn a_restart_is_leased_only_as_long_as_its_container_is_under_the_rule() {
    let mut all = all(PAUSE);
    let once = "1/1m=restart";
    kill(&mut all, 1, once, 0);
    let lease = all.lease(CgroupId(1)).unwrap();
    assert!(!wanted(&mut all, 1, once, 0));
    assert!(lease.holds());
    assert!(!wanted(&mut all, 1, "2/1m=restart", 0));
    assert!(!lease.holds());
    assert_eq!(due(&mut all, 900), [], "and others wait for the thread");
    all.written(CgroupId(1), Seen::Failed, at(5));
    assert_eq!(kill(&mut all, 2, once, 12), Some(What::Restart));
    let lease = all.lease(CgroupId(2)).unwrap();
    drop(all);
    assert!(!lease.holds(), "the agent has ended");
}

/// What the kernel kills is made anew in the same cgroup, while the thread that writes has to wait.
#[test]
fn a_container_that_ended_by_itself_is_not_killed_again() {
    let mut all = all(PAUSE);
    let twice = "2/1m=restart";
    for seconds in [0, 1] {
        kill(&mut all, 1, twice, seconds);
    }
    let lease = all.lease(CgroupId(1)).unwrap();
    all.ended(CgroupId(1), at(2));
    assert!(!lease.holds());
    kill(&mut all, 1, twice, 3);
    assert_eq!(all.written(CgroupId(1), Seen::Failed, at(4)), None);
    assert_eq!(kill(&mut all, 1, twice, 12), Some(What::Restart), "the one of before counts");
    assert!(all.lease(CgroupId(1)).unwrap().holds());
}

/// The rule changes while a write hangs, and the container is soon raised by another one.
#[test]
fn what_came_of_a_restart_concerns_the_entry_that_ordered_it() {
    let group = What::Group { instead: false };
    for (seen, raised, order) in
        [(Seen::Failed, true, None), (Seen::Restarted(at(5)), false, Some(What::Back))]
    {
        let mut all = all(PAUSE);
        let once = "1/1m=group";
        assert_eq!(kill(&mut all, 1, "1/1m=restart", 0), Some(What::Restart));
        assert_eq!(kill(&mut all, 1, once, 2), Some(group));
        assert_eq!(kill(&mut all, 2, "1/1m=restart", 20), Some(What::PutOff), "one at a time");
        let done = all.written(CgroupId(1), seen, at(20)).map(|order| order.what);
        assert_eq!(done, order, "{seen:?}");
        assert_eq!(wanted(&mut all, 1, once, 20), raised, "{seen:?}");
        assert_eq!(due(&mut all, 20), [(2, What::Restart)]);
    }
}

/// Nothing is done about what is no container; meanwhile the write of before may still hang.
#[test]
fn a_refusal_ends_its_own_restart_only() {
    let mut all = all(PAUSE);
    assert_eq!(kill(&mut all, 1, "1/1m=restart", 0), Some(What::Restart));
    kill(&mut all, 1, "1/1m=group", 2);
    all.refuse(CgroupId(1), at(2));
    assert_eq!(kill(&mut all, 2, "1/1m=restart", 20), Some(What::PutOff));
    all.written(CgroupId(1), Seen::Failed, at(21));
    assert_eq!(due(&mut all, 21), [(2, What::Restart)]);
    all.refuse(CgroupId(2), at(21));
    assert_eq!(kill(&mut all, 3, "1/1m=restart", 21), Some(What::Restart), "nothing was restarted");
}

#[test]
fn a_raised_value_lasts_until_it_was_quiet_and_is_the_rules_own() {
    let (mut all, once) = (all(PAUSE), "1/1m=group");
    assert!(!wanted(&mut all, 1, once, 0));
    assert_eq!(kill(&mut all, 1, once, 0), Some(What::Group { instead: false }));
    assert!(wanted(&mut all, 1, once, 0));
    assert_eq!(due(&mut all, 60), [(1, What::Back)]);
    assert!(!wanted(&mut all, 1, once, 60));
    assert_eq!(all.deadline(), None);
    kill(&mut all, 1, once, 100);
    all.forget(CgroupId(1));
    assert_eq!((all.entries.len(), all.deadline()), (0, None), "no rule escalates it");
}

/// crun's cgroup and the scope around it are decided one after the other, in any order.
#[test]
fn inside_of_a_scope_the_same_is_wanted_only_by_the_rule_that_raised_it() {
    let (mut all, once) = (all(PAUSE), "1/1m=group");
    kill(&mut all, 1, once, 0);
    let wanted = |rule: &str, escalate| {
        let escalate = Escalate::parse(escalate).unwrap();
        all.is_raised(CgroupId(1), &rule.into(), escalate, at(0))
    };
    assert!(wanted("web", once));
    assert!(!wanted("other", once));
    assert!(!wanted("web", "2/1m=group"));
}

#[test]
fn kills_before_the_container_came_under_the_rule_do_not_count() {
    let (mut all, once) = (all(PAUSE), "1/1m=group");
    all.governs(subject(1, once), at(5), at(5));
    // Decided anew, it is still under it.
    all.governs(subject(1, once), at(50), at(50));
    assert_eq!(kill(&mut all, 1, once, 4), None);
    assert_eq!(all.shown(CgroupId(1)), (Phase::Counting, 0));
    assert_eq!(kill(&mut all, 1, once, 6), Some(What::Group { instead: false }));
    assert!(!wanted(&mut all, 1, "1/2m=group", 60));
}

#[test]
fn what_an_earlier_agent_raised_goes_on_until_it_is_quiet() {
    let once = "3/1m=group";
    let left = [(1, "web", 0), (2, "web", 0), (3, "other", 50), (4, "web", 50)];
    let left = left.map(|(id, rule, last)| (CgroupId(id), raised(rule, last)));
    let mut all = Escalations::new(PAUSE, left.into());
    assert_eq!(all.saved(CgroupId(1)), Some(raised("web", 0)), "also before its rule is known");
    assert!(all.is_raised(CgroupId(1), &"web".into(), Escalate::parse(once).unwrap(), at(59)));
    assert!(wanted(&mut all, 1, once, 59));
    assert!(!wanted(&mut all, 2, once, 60), "it was quiet");
    assert!(!wanted(&mut all, 3, once, 59), "another rule");
    all.retain_left(|id| id != CgroupId(4));
    assert!(!wanted(&mut all, 4, once, 59), "it was gone for a moment");
    assert_eq!([1, 2].map(|id| all.saved(CgroupId(id))), [Some(raised("web", 0)), None]);
    assert_eq!(due(&mut all, 60), [(1, What::Back)]);
    assert!(all.left.is_empty());
}

#[test]
fn what_is_kept_of_many_containers_goes_with_them() {
    let mut all = all(PAUSE);
    for number in 0..1000 {
        kill(&mut all, number, "2/1m=restart", 0);
    }
    assert_eq!(all.entries.len(), 1000);
    assert_eq!(due(&mut all, 60), []);
    assert!((0..1000).all(|number| all.shown(CgroupId(number)) == (Phase::Counting, 0)));
    assert_eq!(all.quiet.len(), 0);
    (0..1000).for_each(|number| all.forget(CgroupId(number)));
    assert_eq!(all.entries.len(), 0);
}
