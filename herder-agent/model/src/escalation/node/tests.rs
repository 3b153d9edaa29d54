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

fn wanted(all: &mut Escalations, number: u64, escalate: Option<&str>) -> bool {
    let Subject { id, path, rule, .. } = subject(number, "1/1m=group");
    let escalate = escalate.map(|text| Escalate::parse(text).unwrap());
    all.is_raised((id, &path), None, &rule, escalate)
}

#[test]
fn one_restart_in_each_pause_and_those_that_wait_in_their_order() {
    let mut all = Escalations::new(PAUSE);
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
    let mut all = Escalations::new(PAUSE * 100);
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
    assert_eq!((all.waiting.len(), all.entries.len(), all.quiet.len()), (0, 2, 0));
}

#[test]
fn a_restart_is_leased_only_as_long_as_its_container_is_under_the_rule() {
    let mut all = Escalations::new(PAUSE);
    let once = "1/1m=restart";
    kill(&mut all, 1, once, 0);
    let lease = all.lease(CgroupId(1)).unwrap();
    assert!(!wanted(&mut all, 1, Some(once)));
    assert!(lease.holds());
    assert!(!wanted(&mut all, 1, Some("2/1m=restart")));
    assert!(!lease.holds());
    assert_eq!(due(&mut all, 900), [], "and others wait for the thread");
    all.written(CgroupId(1), Seen::Failed, at(5));
    assert_eq!(kill(&mut all, 2, once, 12), Some(What::Restart));
    let lease = all.lease(CgroupId(2)).unwrap();
    drop(all);
    assert!(!lease.holds(), "the agent has ended");
}

#[test]
fn a_raised_value_lasts_until_it_was_quiet_and_is_the_rules_own() {
    let (mut all, once) = (Escalations::new(PAUSE), "1/1m=group");
    assert!(!wanted(&mut all, 1, Some(once)));
    assert_eq!(kill(&mut all, 1, once, 0), Some(What::Group { instead: false }));
    assert!(wanted(&mut all, 1, Some(once)));
    let inner = CgroupPath::parse(b"/c1/container").unwrap();
    let scope = CgroupPath::parse(b"/c1").unwrap();
    let (rule, escalate) = ("web".into(), Escalate::parse(once).ok());
    assert!(all.is_raised((CgroupId(9), &inner), Some(&scope), &rule, escalate));
    assert!(!all.is_raised((CgroupId(9), &scope), None, &rule, escalate), "of the same name");
    assert_eq!(due(&mut all, 60), [(1, What::Back)]);
    assert!(!wanted(&mut all, 1, Some(once)));
    assert_eq!((all.entries.len(), all.raised.len(), all.deadline()), (0, 0, None));
    kill(&mut all, 1, once, 100);
    assert!(!wanted(&mut all, 1, None), "the rule has changed");
    assert_eq!((all.entries.len(), all.raised.len(), all.deadline()), (0, 0, None));
}

#[test]
fn what_an_earlier_agent_raised_goes_on_until_it_is_quiet() {
    let (mut all, once) = (Escalations::new(PAUSE), "3/1m=group");
    all.resume(subject(1, once), at(0), at(59));
    all.resume(subject(2, once), at(0), at(60));
    assert!(wanted(&mut all, 1, Some(once)));
    assert!(!wanted(&mut all, 2, Some(once)));
    assert_eq!((all.saved(CgroupId(1)), all.saved(CgroupId(2))), (Some(at(0)), None));
    assert_eq!(due(&mut all, 60), [(1, What::Back)]);
}

#[test]
fn what_is_kept_of_many_containers_goes_with_them() {
    let mut all = Escalations::new(PAUSE);
    for number in 0..1000 {
        kill(&mut all, number, "2/1m=restart", 0);
    }
    assert_eq!(all.entries.len(), 1000);
    assert_eq!(due(&mut all, 60), []);
    assert_eq!((all.entries.len(), all.quiet.len()), (0, 0));
}
