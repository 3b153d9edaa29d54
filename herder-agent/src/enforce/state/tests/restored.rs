//! What is restored, and what is kept to be restored.

use super::*;

/// f70a387: what comes back, and when nothing does.
#[test]
fn what_is_restored() {
    let inherited = |original| Provenance::Inherited { original, was_there: true };
    let table = [
        ("the runtime's 1", Provenance::Fresh { had_1: true }, true, true, Some(true)),
        ("the kernel's 0", Provenance::Fresh { had_1: false }, true, true, Some(false)),
        ("perhaps a 1 that was not seen", Provenance::Fresh { had_1: false }, true, false, None),
        ("what was there", Provenance::Preexisting(Some(true)), true, false, Some(true)),
        ("never written by us", Provenance::Preexisting(Some(true)), false, true, None),
        ("an earlier agent's", inherited(true), true, false, Some(true)),
    ];
    for (name, provenance, written_by_us, every_write_seen, restored) in table {
        for wanted in [false, true] {
            for now in [None, Some(false), Some(true)] {
                let mut state = OomGroupState::new(wanted, Origin::Made, false);
                (state.provenance, state.written_by_us) = (provenance, written_by_us);
                assert_eq!(state.value_to_restore(every_write_seen), restored, "{name}");
                let action = state.step(Seen::Released { value: now, every_write_seen });
                // Nothing was written that this rule wants: another value is an earlier agent's.
                let expected = match (restored, now) {
                    (Some(_), None) => Action::Keep,
                    (Some(value), Some(now)) if value != now => {
                        Action::Write(value, Cause::Restore)
                    }
                    _ => Action::None,
                };
                assert_eq!(action, expected, "{name}, wanted {wanted}, now {now:?}");
            }
        }
    }
}

/// The rule wants the original value by now. What else is there is an agent's own only as long as
/// none has written what the rule wants.
#[test]
fn what_could_not_be_written_is_still_to_be_restored() {
    let [write, keep, none] = [Action::Write(true, Cause::Restore), Action::Keep, Action::None];
    let table = [
        ("never written by this one", None, false, Some(false), write),
        ("perhaps never written", None, false, None, keep),
        ("its own of another rule", Some(false), false, Some(false), write),
        ("restored already", None, false, Some(true), none),
        ("another's since it was right", None, true, Some(false), none),
        ("another's since it was written", Some(true), true, Some(false), none),
        ("right when it was last read", Some(true), true, None, none),
    ];
    for (name, last_written, held, value, expected) in table {
        for dry_run in [false, true] {
            let mut state = OomGroupState::new(true, Origin::Existing, dry_run);
            state.inherit(true);
            state.last_written = last_written;
            state.phase = if held { Phase::Holding } else { Phase::Settling };
            let action = state.step(Seen::Released { value, every_write_seen: true });
            let expected = if dry_run && expected == write { keep } else { expected };
            assert_eq!(action, expected, "{name}, dry run: {dry_run}");
            assert_eq!(state.value_to_restore(true).is_none(), expected == none, "{name}");
        }
    }
}

/// At the end of the agent: what was restored is no longer its own, and is not saved as that.
#[test]
fn what_was_restored_is_not_to_be_restored_again() {
    let mut state = OomGroupState::new(false, Origin::Existing, false);
    state.step(value(true));
    state.step(written(Cause::Enforce));
    assert_eq!(state.value_to_restore(true), Some(true));
    assert_eq!(state.step(released(false)), RESTORE_1);
    assert_eq!(state.value_to_restore(true), Some(true), "the write may fail");
    state.step(Seen::Restored);
    assert_eq!(state.value_to_restore(true), None);
}
