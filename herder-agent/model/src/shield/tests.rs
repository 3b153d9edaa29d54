use super::*;

/// Its name, how it begins, what is seen and done, and why it is not protected in the end.
type Way = (&'static str, Shield, &'static [(Seen, Action)], Option<Unprotected>);

fn at(milliseconds: u64) -> Monotonic {
    Monotonic(9) + Duration::from_millis(milliseconds)
}

/// Walks a new one through steps and gives why it is not protected in the end.
fn walk(name: &str, shield: &mut Shield, steps: &[(Seen, Action)]) -> Option<Unprotected> {
    for (number, (seen, action)) in steps.iter().enumerate() {
        assert_eq!(shield.step(*seen), *action, "{name}, step {number}: {seen:?}");
    }
    shield.unprotected()
}

fn held(own: i16) -> Shield {
    let mut shield = Shield::new();
    let steps = [
        (Seen::Score(own), Action::Save),
        (Seen::Saved(own), Action::Exempt),
        (Seen::Written, Action::None),
    ];
    assert_eq!(walk("held", &mut shield, &steps), None);
    shield
}

#[test]
fn each_way_that_an_init_can_go() {
    use Unprotected::{Changed, OwnScore, Pending, Refused};
    let table: &[Way] = &[
        ("exempt by itself", Shield::new(), &[(Seen::Score(EXEMPT), Action::None)], Some(OwnScore)),
        ("being saved", Shield::new(), &[(Seen::Score(5), Action::Save)], Some(Pending)),
        (
            "its runtime writes its value late",
            Shield::new(),
            &[
                (Seen::Score(-998), Action::Save),
                (Seen::Saved(3), Action::Save),
                (Seen::Saved(3), Action::Exempt),
                (Seen::Written, Action::None),
                (Seen::Released, Action::Restore(3)),
            ],
            Some(Pending),
        ),
        (
            "it makes itself exempt meanwhile",
            Shield::new(),
            &[(Seen::Score(0), Action::Save), (Seen::Saved(EXEMPT), Action::None)],
            Some(OwnScore),
        ),
        (
            "the write is refused",
            Shield::new(),
            &[
                (Seen::Score(0), Action::Save),
                (Seen::Saved(0), Action::Exempt),
                (Seen::Refused, Action::None),
                (Seen::Released, Action::None),
            ],
            Some(Pending),
        ),
        ("refused", held(0), &[(Seen::Refused, Action::None)], Some(Refused)),
        (
            "released before it was exempt",
            Shield::new(),
            &[(Seen::Score(0), Action::Save), (Seen::Released, Action::None)],
            Some(Pending),
        ),
        (
            "it sets a score of its own",
            held(0),
            &[
                (Seen::Score(EXEMPT), Action::None),
                (Seen::Score(500), Action::None),
                (Seen::Released, Action::None),
            ],
            Some(Pending),
        ),
        ("changed", held(0), &[(Seen::Score(-5), Action::None)], Some(Changed)),
        (
            "it has its own value again, again and again",
            held(7),
            &[
                (Seen::Score(7), Action::Exempt),
                (Seen::Score(7), Action::Exempt),
                (Seen::Score(7), Action::Exempt),
                (Seen::Score(7), Action::None),
            ],
            Some(Changed),
        ),
        (
            "an earlier agent had only saved it",
            Shield::inherited(2),
            &[(Seen::Score(2), Action::Exempt), (Seen::Written, Action::None)],
            None,
        ),
        (
            "an earlier agent left it, and no rule asks for it",
            Shield::inherited(2),
            &[(Seen::Score(EXEMPT), Action::None), (Seen::Released, Action::Restore(2))],
            Some(Pending),
        ),
        (
            "it cannot be restored at once",
            held(2),
            &[
                (Seen::Released, Action::Restore(2)),
                (Seen::Score(EXEMPT), Action::Restore(2)),
                (Seen::Released, Action::Restore(2)),
                (Seen::Restored, Action::None),
                (Seen::Score(EXEMPT), Action::None),
            ],
            Some(Pending),
        ),
        (
            "it sets a score of its own before it is restored",
            held(2),
            &[
                (Seen::Released, Action::Restore(2)),
                (Seen::Score(7), Action::None),
                (Seen::Score(EXEMPT), Action::None),
            ],
            Some(Pending),
        ),
    ];
    for (name, shield, steps, end) in table {
        assert_eq!(walk(name, &mut shield.clone(), steps), *end, "{name}");
    }
}

#[test]
fn its_own_value_is_known_exactly_while_it_may_be_exempt() {
    assert_eq!(Shield::new().own(), None);
    let mut shield = held(3);
    assert_eq!((shield.own(), Shield::inherited(4).own()), (Some(3), Some(4)));
    shield.step(Seen::Released);
    assert_eq!((shield.own(), shield.exempt_own()), (Some(3), Some(3)), "the write may fail");
    shield.step(Seen::Restored);
    assert_eq!((shield.own(), shield.exempt_own()), (None, None));
    let mut shield = Shield::new();
    shield.step(Seen::Score(3));
    assert_eq!((shield.own(), shield.exempt_own()), (Some(3), None));
}

fn no_victim(milliseconds: u64, domain: u64, kills: u64) -> Seen {
    Seen::NoVictim(Attempt { at: at(milliseconds), domain: CgroupId(domain), kills })
}

/// When the init gets its own value back; none if it stays exempt.
fn gives_way(attempts: impl IntoIterator<Item = (u64, u64, u64)>) -> Option<u64> {
    let mut shield = held(3);
    attempts.into_iter().find_map(|(time, domain, kills)| {
        match shield.step(no_victim(time, domain, kills)) {
            Action::None => None,
            action => {
                assert_eq!(action, Action::Restore(3));
                Some(time)
            }
        }
    })
}

#[test]
fn an_emergency_that_does_not_end_takes_the_protection() {
    let mut shield = held(3);
    for time in [0, 500, 1000, 1500] {
        assert_eq!(shield.step(no_victim(time, 7, 4)), Action::None, "{time}");
    }
    assert_eq!(shield.step(no_victim(2000, 7, 4)), Action::Restore(3));
    assert_eq!(shield.unprotected(), Some(Unprotected::NoOtherVictim));
    assert_eq!(shield.step(no_victim(2100, 7, 4)), Action::None);
    assert_eq!(shield.own(), Some(3), "until it is restored");
    assert_eq!(shield.step(Seen::Restored), Action::None);
    assert_eq!((shield.own(), shield.unprotected()), (None, Some(Unprotected::NoOtherVictim)));
    assert_eq!(shield.step(Seen::Released), Action::None);
}

/// A full tmpfs, and a supervisor that waits longer before each further fork.
#[test]
fn attempts_with_pauses_between_them_are_an_emergency_too() {
    assert_eq!(gives_way((0..9).map(|number| (number * 1100, 7, 0))), Some(2200));
    let pauses = [0, 1, 3, 6, 10].map(|second| (second * 1000, 7, 12));
    assert_eq!(gives_way(pauses), Some(3000));
    assert_eq!(gives_way([(0, 7, 0), (59_000, 7, 0)]), None, "two moments");
    let retried = [0, 20, 40, 59_000, 59_020].map(|time| (time, 7, 0));
    assert_eq!(gives_way(retried), None, "two moments in which it is tried again and again");
    assert_eq!(gives_way((0..200).map(|number| (number * 20, 7, 0))), Some(2000), "without end");
    assert_eq!(gives_way((0..9).map(|number| (number * 61_000, 7, 0))), None, "too far apart");
}

/// Its children die, and between two of them there is none to kill.
#[test]
fn moments_between_kills_are_no_emergency() {
    assert_eq!(gives_way((0..100).map(|number| (number * 300, 7, number / 4))), None);
    assert_eq!(gives_way((0..100).map(|number| (number * 1100, 7, number))), None);
}

/// The pod's limit is hit, and the children of another container are killed for it.
#[test]
fn kills_for_the_same_limit_count_wherever_they_are() {
    assert_eq!(gives_way((0..100).map(|number| (number * 500, 8, number / 2))), None);
    // Its own limit is hit meanwhile, for which nothing is killed.
    let both = (0..100).map(|number| (number * 500, 7 + number % 2, number / 2 * (number % 2)));
    assert_eq!(gives_way(both), Some(2000));
}

#[test]
fn what_cannot_be_given_its_value_back_ends_the_protection() {
    let mut shield = held(3);
    assert_eq!(shield.step(Seen::ChildRefused), Action::Restore(3));
    assert_eq!(shield.step(Seen::ChildRefused), Action::None);
    assert_eq!(shield.step(Seen::Restored), Action::None);
    assert_eq!(shield.unprotected(), Some(Unprotected::Refused));
    assert_eq!(Shield::new().step(Seen::ChildRefused), Action::None);
}

#[test]
fn names_are_closed_and_distinct() {
    let names: std::collections::BTreeSet<_> = Unprotected::ALL.map(Unprotected::as_str).into();
    assert_eq!(names.len(), Unprotected::ALL.len());
    for reason in Unprotected::ALL {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
    }
}
