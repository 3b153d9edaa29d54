mod restored;

use super::*;

const ENFORCE: Action = Action::Write(false, Cause::Enforce);
const REVERT: Action = Action::Write(false, Cause::Revert);
const RESTORE_1: Action = Action::Write(true, Cause::Restore);

fn value(value: bool) -> Seen {
    Seen::Value(value)
}

fn written(cause: Cause) -> Seen {
    Seen::Written { cause, watched: true }
}

fn released(value: bool) -> Seen {
    Seen::Released { value: Some(value), every_write_seen: true }
}

/// Takes a rule for 0 through what is seen, and holds each answer against the expected one.
fn walk(name: &str, origin: Origin, steps: &[(Seen, Action)]) -> OomGroupState {
    walk_as(name, OomGroupState::new(false, origin, false), steps)
}

fn walk_as(name: &str, mut state: OomGroupState, steps: &[(Seen, Action)]) -> OomGroupState {
    for (number, (seen, expected)) in steps.iter().enumerate() {
        let before = format!("{state:?}");
        assert_eq!(state.step(*seen), *expected, "{name}, step {number}: {seen:?} in {before}");
    }
    state
}

const FRESH: [Provenance; 2] =
    [Provenance::Fresh { had_1: false }, Provenance::Fresh { had_1: true }];

fn provenances() -> Vec<Provenance> {
    let preexisting = [None, Some(false), Some(true)].map(Provenance::Preexisting);
    let pairs = [(false, false), (false, true), (true, false), (true, true)];
    let inherited =
        pairs.map(|(original, was_there)| Provenance::Inherited { original, was_there });
    FRESH.into_iter().chain(preexisting).chain(inherited).collect()
}

/// All states that there are, but for the counters.
fn states() -> Vec<OomGroupState> {
    let phases = [
        Phase::Settling,
        Phase::Holding,
        Phase::BackedOff { held: false },
        Phase::BackedOff { held: true },
    ];
    let mut states = Vec::new();
    for provenance in provenances() {
        for phase in phases {
            for echo in [Echo::None, Echo::OwnWrite] {
                for bits in 0..16u8 {
                    let [wanted, dry_run, written_by_us, dry_run_reported] =
                        [1, 2, 4, 8].map(|bit| bits & bit != 0);
                    for (writes, last_written) in [(0, None), (3, Some(false)), (3, Some(true))] {
                        states.push(OomGroupState {
                            wanted,
                            dry_run,
                            provenance,
                            phase,
                            echo,
                            written_by_us,
                            last_written,
                            dry_run_reported,
                            writes,
                            reverts: 0,
                        });
                    }
                }
            }
        }
    }
    states
}

fn seen() -> Vec<Seen> {
    let mut seen = vec![Seen::EchoLost, Seen::TooFast, Seen::Resumed, Seen::Changed(None)];
    seen.push(Seen::Restored);
    for bit in [false, true] {
        seen.extend([Seen::Value(bit), Seen::Writable(bit), Seen::Changed(Some(bit))]);
        seen.push(Seen::Wanted(bit));
        for cause in [Cause::Enforce, Cause::Revert] {
            seen.push(Seen::Written { cause, watched: bit });
        }
        for value in [None, Some(false), Some(true)] {
            seen.push(Seen::Released { value, every_write_seen: bit });
        }
    }
    seen
}

/// What holds of each transition, whatever came before.
#[test]
fn what_holds_of_every_transition() {
    let mut walked = 0;
    for before in states() {
        for seen in seen() {
            let mut after = OomGroupState { ..clone(&before) };
            let action = after.step(seen);
            let at = format!("{seen:?} in {before:?} gives {action:?} and {after:?}");
            walked += 1;
            // Of writes.
            if let Action::Write(value, cause) = action {
                assert!(!before.dry_run, "a dry run writes nothing: {at}");
                match cause {
                    Cause::Restore => {
                        assert!(before.written_by_us, "only our own value is undone: {at}");
                        let there = |every_write_seen| {
                            seen == Seen::Released { value: Some(!value), every_write_seen }
                        };
                        assert!(there(true) || there(false), "{at}");
                        if value == before.wanted {
                            assert!(before.last_written != Some(value), "{at}");
                            assert!(!before.is_held(), "it was restored since: {at}");
                        }
                    }
                    Cause::Enforce | Cause::Revert => {
                        assert_eq!(
                            (value, seen),
                            (before.wanted, Seen::Value(!before.wanted)),
                            "{at}"
                        );
                        assert_eq!(cause == Cause::Revert, before.is_held(), "{at}");
                    }
                }
            }
            let reads_another = seen == Seen::Value(!before.wanted) && !before.dry_run;
            assert_eq!(
                reads_another,
                matches!(action, Action::Write(_, Cause::Enforce | Cause::Revert)),
                "{at}"
            );
            // Of what is remembered.
            if let Some(original) = before.original_value() {
                assert_eq!(after.original_value(), Some(original), "an original stays: {at}");
            }
            match seen {
                Seen::Restored => assert!(!after.written_by_us, "{at}"),
                // Until it is restored, or another's, it is an agent's own.
                Seen::Released { every_write_seen, .. } => {
                    let is_over = before.value_to_restore(every_write_seen).is_some()
                        && action == Action::None;
                    assert_eq!(after.written_by_us, before.written_by_us && !is_over, "{at}");
                }
                _ => assert!(after.written_by_us >= before.written_by_us, "{at}"),
            }
            let keeps = action == Action::Keep;
            assert!(!keeps || after.value_to_restore(true).is_some(), "{at}");
            let saves = !before.written_by_us && matches!(seen, Seen::Written { .. });
            assert_eq!(action == Action::Save, saves, "{at}");
            // Of the echo.
            match seen {
                Seen::Written { watched, .. } => assert_eq!(after.expects_echo(), watched, "{at}"),
                Seen::Changed(_) | Seen::EchoLost | Seen::TooFast => {
                    assert!(!after.expects_echo(), "{at}");
                }
                _ => assert_eq!(after.echo, before.echo, "{at}"),
            }
            if before.expects_echo() && matches!(seen, Seen::Changed(_)) {
                assert_eq!(
                    (after.phase, after.provenance),
                    (before.phase, before.provenance),
                    "an echo says nothing: {at}"
                );
            }
            // Of the phases.
            match seen {
                Seen::TooFast => assert!(after.is_backed_off(), "{at}"),
                Seen::Resumed => assert!(!after.is_backed_off(), "{at}"),
                _ => assert_eq!(after.is_backed_off(), before.is_backed_off(), "{at}"),
            }
            match seen {
                Seen::Wanted(wanted) if wanted != before.wanted => {
                    assert!(!after.is_held(), "{at}");
                }
                Seen::Written { .. } => assert!(after.is_held(), "{at}"),
                _ => assert!(after.is_held() >= before.is_held(), "{at}"),
            }
        }
    }
    assert_eq!(walked, states().len() * 23);
}

fn clone(state: &OomGroupState) -> OomGroupState {
    OomGroupState { ..*state }
}

/// The kernel's 0 says nothing, systemd's neither; the runtime's 1 does.
#[test]
fn a_new_container_settles() {
    let state = walk(
        "made",
        Origin::Made,
        &[
            (value(false), Action::TryOpen),
            (Seen::Writable(false), Action::None),
            (Seen::Changed(Some(false)), Action::None),
            (value(false), Action::TryOpen),
            (Seen::Changed(Some(true)), Action::None),
            (value(true), ENFORCE),
            (written(Cause::Enforce), Action::Save),
            (Seen::Changed(Some(false)), Action::None),
            (value(false), Action::None),
            (Seen::Changed(Some(true)), Action::None),
            (value(true), REVERT),
            (written(Cause::Revert), Action::None),
            (released(false), RESTORE_1),
        ],
    );
    assert_eq!((state.writes(), state.reverts(), state.original_value()), (2, 1, Some(true)));
}

/// c2bc365: the rule changed its mind, and nothing else wrote.
#[test]
fn another_rule_is_no_revert() {
    walk(
        "rule",
        Origin::Made,
        &[
            (value(true), ENFORCE),
            (written(Cause::Enforce), Action::Save),
            (Seen::Changed(Some(false)), Action::None),
            (Seen::Wanted(true), Action::None),
            (value(false), Action::Write(true, Cause::Enforce)),
            (written(Cause::Enforce), Action::None),
            (Seen::Wanted(true), Action::None),
            (value(false), Action::Write(true, Cause::Revert)),
        ],
    );
}

/// 094d048: a new container gets back what its runtime wanted, also where the rule wants that.
#[test]
fn the_runtimes_1_is_remembered_where_the_rule_wants_1() {
    for (name, other, restored) in [
        ("the runtime wrote before the agent looked", Seen::Value(true), Some(true)),
        ("it wrote after our own write", Seen::Changed(Some(true)), Some(true)),
        ("it wrote nothing", Seen::EchoLost, None),
    ] {
        let mut state = OomGroupState::new(true, Origin::Made, false);
        if other == Seen::Value(true) {
            state.step(other);
        } else {
            state = walk_as(
                name,
                state,
                &[
                    (value(false), Action::Write(true, Cause::Enforce)),
                    (written(Cause::Enforce), Action::Save),
                    (Seen::Changed(Some(true)), Action::None),
                    // The agent's own 1, read again, is not the runtime's.
                    (value(true), Action::None),
                    (other, Action::None),
                ],
            );
        }
        assert_eq!(state.original_value(), restored, "{name}");
    }
}

/// 9700614: the runtime wrote what it was asked for through NRI; another value is a revert.
#[test]
fn what_the_runtime_was_asked_for_is_held() {
    let state = walk(
        "adjusted",
        Origin::Adjusted(true),
        &[
            (value(false), Action::TryOpen),
            (Seen::Writable(false), Action::None),
            (Seen::Changed(Some(false)), Action::None),
            (value(true), REVERT),
            (written(Cause::Revert), Action::None),
            (released(false), RESTORE_1),
        ],
    );
    assert_eq!(state.reverts(), 1);
    walk("systemd first", Origin::Adjusted(true), &[(value(true), ENFORCE)]);
}

/// 40d94f5: a dry run over an earlier agent's state wrote its value back.
#[test]
fn a_dry_run_writes_nothing_and_reports_once() {
    let mut state = OomGroupState::new(false, Origin::Existing, true);
    state.inherit(true);
    walk_as(
        "dry run",
        state,
        &[
            (value(true), Action::TryOpen),
            (Seen::Writable(true), Action::ReportDryRun),
            (value(true), Action::TryOpen),
            (Seen::Writable(true), Action::None),
            (Seen::Wanted(false), Action::None),
            (Seen::Writable(true), Action::ReportDryRun),
            (released(false), Action::Keep),
        ],
    );
}

/// 68498eb, 49af762: what an earlier agent wrote is tried too; what this one wrote is known.
#[test]
fn a_right_value_is_tried_until_it_was_written() {
    let mut state = OomGroupState::new(false, Origin::Existing, false);
    state.inherit(true);
    let state = walk_as(
        "inherited",
        state,
        &[
            (value(false), Action::TryOpen),
            (value(false), Action::TryOpen),
            (value(true), REVERT),
            (written(Cause::Revert), Action::None),
            (value(false), Action::None),
        ],
    );
    assert_eq!(state.original_value(), Some(true), "not the value found later");
}

/// What was right before the agent came is held; that of one in the making is the kernel's.
#[test]
fn a_value_that_was_right_is_held_only_where_it_was_there() {
    for (origin, then) in [(Origin::Existing, REVERT), (Origin::Made, ENFORCE)] {
        walk("right", origin, &[(value(false), Action::TryOpen), (value(true), then)]);
    }
}

/// d1cbf6a: what a replaced watch, or a full queue, was about to report is not waited for.
#[test]
fn an_echo_that_is_lost_hides_no_other_write() {
    for lost in [Seen::EchoLost, Seen::TooFast] {
        let mut state = OomGroupState::new(true, Origin::Made, false);
        state.step(value(false));
        state.step(written(Cause::Enforce));
        state.step(lost);
        state.step(Seen::Changed(Some(true)));
        assert_eq!(state.original_value(), Some(true), "{lost:?}");
    }
    let mut unwatched = OomGroupState::new(true, Origin::Made, false);
    unwatched.step(Seen::Written { cause: Cause::Enforce, watched: false });
    unwatched.step(Seen::Changed(Some(true)));
    assert_eq!(unwatched.original_value(), Some(true), "without a watch there is no echo");
}

/// bcf317b: a pause between corrections ends as it began.
#[test]
fn a_pause_keeps_what_was_held() {
    let mut state = OomGroupState::new(false, Origin::Made, false);
    for (held, then) in [(false, ENFORCE), (true, REVERT)] {
        state.step(Seen::TooFast);
        state.step(Seen::Resumed);
        assert_eq!(state.step(value(true)), then, "{held}");
        state.step(written(Cause::Enforce));
    }
}
