//! What cannot be restored is kept, and tried again.

use super::*;
use herder_model::{enforcement::WriteResult, saved::SavedCgroup};
use std::os::unix::fs::PermissionsExt;

const ERRORS: &str = r#"herder_oom_group_writes_total{result="error",rule="rule"}"#;

fn not_restored(fake: &mut Fake) -> Option<String> {
    fake.metric("herder_cgroups_not_restored")
}

/// What becomes of the way to a value: it can be read only, not even that, or the cgroup cannot be
/// opened.
const REFUSALS: [(&str, u32); 3] =
    [("/above/c/memory.oom.group", 0o444), ("/above/c/memory.oom.group", 0o000), ("/above", 0o000)];

fn refuse(fake: &Fake, (path, mode): (&str, u32)) {
    fs::set_permissions(fake.directory(path), fs::Permissions::from_mode(mode)).unwrap();
}

fn allow(fake: &Fake, (path, _): (&str, u32)) {
    refuse(fake, (path, if path == "/above" { 0o755 } else { 0o644 }));
}

fn left(path: &str) -> SavedCgroup {
    SavedCgroup {
        path: CgroupPath::parse(path.as_bytes()).ok(),
        oom_kills: None,
        original_value: Some(true),
        rule: Some("rule".into()),
        escalated: None,
    }
}

/// How many writes failed, and of how many of them that is to be logged.
fn failures(effects: &[Effect]) -> (usize, usize) {
    let (mut all, mut logged) = (0, 0);
    for effect in effects {
        let failed = matches!(effect, Effect::Wrote(write) | Effect::FailedAgain(write)
            if matches!(write.result, WriteResult::Error(_)));
        all += usize::from(failed);
        logged += usize::from(failed && matches!(effect, Effect::Wrote(_)));
    }
    (all, logged)
}

#[test]
fn what_cannot_be_restored_is_kept_and_each_walk_tries_it_again() {
    bound_by_modes(|| {
        for refusal in REFUSALS {
            for is_left in [false, true] {
                let mut fake = Fake::new("unrestored", |_| {});
                fake.make("/above/c", "0");
                let id = fake.id("/above/c");
                fake.enforcer.left = SavedCgroups::from([(id, left("/above/c"))]);
                if !is_left {
                    fake.govern_as(Origin::Existing, "/above/c", false);
                    // One that was open could still be written.
                    if refusal.0 == "/above" {
                        fake.enforcer.containers.get_mut(&id).unwrap().close();
                    }
                }
                fake.effects();
                refuse(&fake, refusal);
                let at = format!("{refusal:?}, left: {is_left}");
                if is_left {
                    fake.enforcer.restore_left(|_| true);
                } else {
                    fake.enforcer.release(id);
                    assert!(!fake.enforcer.governs(id));
                }
                assert_eq!(failures(&fake.effects()), (1, 1), "{at}");
                assert_eq!(fake.enforcer.leaves(), [(id, left("/above/c"))].into(), "{at}");
                fake.enforcer.restore_left(|_| false);
                assert_eq!(failures(&fake.effects()), (0, 0), "{at}");
                fake.enforcer.restore_left(|_| true);
                assert_eq!(failures(&fake.effects()), (1, 0), "it is logged once: {at}");
                assert_eq!(fake.metric(ERRORS).as_deref(), Some("2"), "{at}");
                assert_eq!(not_restored(&mut fake).as_deref(), Some("1"), "{at}");
                assert_eq!(fake.enforcer.leaves(), [(id, left("/above/c"))].into(), "{at}");

                allow(&fake, refusal);
                fake.enforcer.restore_left(|_| true);
                let effects = fake.effects();
                assert_eq!((failures(&effects), fake.value("/above/c").as_str()), ((0, 0), "1"));
                assert!(effects.contains(&Effect::Saved), "{at}");
                assert_eq!(not_restored(&mut fake).as_deref(), Some("0"), "{at}");
                assert!(fake.enforcer.leaves().is_empty(), "{at}");
            }
        }
    });
}

/// The rule comes back before that.
#[test]
fn what_was_kept_is_still_the_original_value_for_the_next_rule() {
    bound_by_modes(|| {
        let mut fake = Fake::new("kept", |_| {});
        fake.make("/above/c", "1");
        let id = fake.govern_as(Origin::Existing, "/above/c", false);
        refuse(&fake, REFUSALS[0]);
        fake.enforcer.release(id);
        assert_eq!(not_restored(&mut fake).as_deref(), Some("1"));
        fake.govern_as(Origin::Existing, "/above/c", false);
        assert_eq!(not_restored(&mut fake).as_deref(), Some("0"), "its rule is back");
        assert_eq!(fake.state().first, Some(1), "not the agent's own 0");
        allow(&fake, REFUSALS[0]);
        fake.enforcer.release(id);
        assert_eq!((fake.value("/above/c").as_str(), fake.enforcer.leaves().len()), ("1", 0));
    });
}

/// It could never be opened, so this agent has written nothing; the one before has.
#[test]
fn what_no_descriptor_was_left_for_is_kept() {
    let mut fake = Fake::new("descriptors", |options| options.descriptors = 0);
    fake.make("/c", "0");
    let id = fake.id("/c");
    fake.enforcer.left = SavedCgroups::from([(id, left("/c"))]);
    fake.govern_as(Origin::Existing, "/c", false);
    fake.effects();
    fake.enforcer.release(id);
    assert_eq!(failures(&fake.effects()), (1, 1));
    assert_eq!(fake.enforcer.leaves(), [(id, left("/c"))].into());
    assert_eq!(not_restored(&mut fake).as_deref(), Some("1"));
    fake.enforcer.restore_left(|_| true);
    assert_eq!((fake.value("/c").as_str(), fake.enforcer.leaves().len()), ("1", 0));
}

#[test]
fn what_is_gone_or_removed_is_not_kept() {
    let mut fake = Fake::new("removed", |_| {});
    fake.make("/gone", "0");
    fake.make("/removed", "0");
    let ids = ["/gone", "/removed"].map(|path| fake.id(path));
    let all = ids.into_iter().zip([left("/gone"), left("/removed")]);
    fake.enforcer.left = all.collect();
    fs::remove_dir_all(fake.directory("/gone")).unwrap();
    fake.enforcer.restore_left(|_| true);
    assert_eq!(fake.enforcer.leaves().len(), 0);
    fake.enforcer.left = SavedCgroups::from([(ids[1], left("/removed"))]);
    fake.enforcer.removed(ids[1]);
    assert_eq!(fake.enforcer.leaves().len(), 0);
}

/// What crun makes inside of a scope has no file of its own: the runtime was asked for a value, and
/// none was written. That is no failure, and each such container would be one.
#[test]
fn where_there_is_no_file_nothing_fails() {
    let mut fake = Fake::new("no-file", |_| {});
    fake.make("/c", "0");
    fs::remove_file(fake.directory("/c").join(OOM_GROUP)).unwrap();
    let id = fake.govern_as(Origin::Adjusted(true), "/c", false);
    fake.effects();
    fake.enforcer.release(id);
    fake.enforcer.restore_left(|_| true);
    assert_eq!(failures(&fake.effects()), (0, 0));
    assert_eq!(not_restored(&mut fake).as_deref(), Some("0"));
    assert_eq!(fake.enforcer.leaves()[&id].original_value, Some(true), "it may come back");
}

/// Else thousands of them would keep corrections waiting at each walk.
#[test]
fn a_walk_tries_some_of_many_again_and_each_comes_in_turn() {
    let mut fake = Fake::new("many", |_| {});
    let paths: Vec<_> = (0..150).map(|number| format!("/{number}")).collect();
    for path in &paths {
        // Neither read nor written.
        fs::create_dir_all(fake.directory(path).join(OOM_GROUP)).unwrap();
    }
    fake.enforcer.left = paths.iter().map(|path| (fake.id(path), left(path))).collect();
    let mut tried = Vec::new();
    for _ in 0..4 {
        fake.clock.advance(Duration::from_secs(30));
        fake.enforcer.restore_left(|_| true);
        tried.push(failures(&fake.effects()));
    }
    assert_eq!(tried, [(150, 150), (64, 0), (64, 0), (64, 0)]);
    let began = Monotonic(7) + Duration::from_secs(30);
    assert!(fake.enforcer.unrestored.values().all(|it| it.is_after(began)), "each has its turn");
    assert_eq!(fake.enforcer.leaves().len(), 150);
    assert_eq!(not_restored(&mut fake).as_deref(), Some("150"));
    fake.enforcer.removed(fake.id(&paths[0]));
    assert_eq!(not_restored(&mut fake).as_deref(), Some("149"), "one is gone");
}

/// `--restore-on-exit`: what fails is the next agent's to restore.
#[test]
fn what_cannot_be_restored_at_the_end_is_left_to_the_next_agent() {
    bound_by_modes(|| {
        for dry_run in [false, true] {
            let mut fake = Fake::new("end", |options| {
                (options.restore_on_exit, options.dry_run) = (true, dry_run);
            });
            fake.make("/above/c", "0");
            let id = fake.id("/above/c");
            fake.enforcer.left = SavedCgroups::from([(id, left("/above/c"))]);
            fake.govern_as(Origin::Existing, "/above/c", false);
            fake.effects();
            refuse(&fake, REFUSALS[0]);
            fake.enforcer.shutdown();
            let expected = if dry_run { (0, 0) } else { (1, 1) };
            assert_eq!(failures(&fake.effects()), expected, "dry run: {dry_run}");
            assert_eq!(fake.enforcer.leaves(), [(id, left("/above/c"))].into());
        }
    });
}
