//! What is restored when a rule goes, or the agent stops.

use super::*;
use herder_model::saved::SavedCgroup;

/// The runtime writes our value, since we changed its spec; it is not what it wanted.
#[test]
fn what_the_runtime_was_asked_for_is_restored_as_it_was() {
    let mut fake = Fake::new("adjusted", |_| {});
    fake.make("/c", "0");
    let id = fake.govern_as(Origin::Adjusted(true), "/c", false);
    fake.write("/c", "0");
    fake.enforcer.changed();
    assert_eq!((fake.state().writes, fake.state().first), (0, Some(1)));
    fake.enforcer.release(id);
    assert_eq!(fake.value("/c"), "1");
}

#[test]
fn the_first_value_comes_back_when_the_rule_goes() {
    let mut fake = Fake::new("release", |_| {});
    for path in ["/was1", "/was0", "/changed"] {
        fake.make(path, if path == "/was0" { "0" } else { "1" });
    }
    let ids = ["/was1", "/was0", "/changed"].map(|path| fake.govern(path, false));
    assert_eq!(fake.value("/was1"), "0");
    fs::write(fake.directory("/changed").join(OOM_GROUP), "1").unwrap();
    for id in ids {
        fake.enforcer.release(id);
    }
    assert_eq!(["/was1", "/was0", "/changed"].map(|path| fake.value(path)), ["1", "0", "1"]);
    assert!(!fake.enforcer.governs(ids[0]));
    fake.write("/was1", "1");
    fake.enforcer.changed();
    assert_eq!(fake.value("/was1"), "1", "no rule holds for it any more");
}

/// The runtime writes 1 too, which changes nothing, and is what the container is to
/// have when no rule wants it any more.
#[test]
fn a_new_group_gets_back_what_its_runtime_wanted() {
    let mut fake = Fake::new("group", |_| {});
    for (path, runtime, first, back) in
        [("/kubelet", Some("1"), Some(1), "1"), ("/docker", None, None, "0")]
    {
        fake.make(path, "0");
        let id = fake.govern(path, true);
        fake.enforcer.changed();
        assert_eq!(fake.value(path), "1");
        if let Some(value) = runtime {
            fake.write(path, value);
            fake.enforcer.changed();
        }
        assert_eq!(fake.state().first, first, "{path}");
        fake.enforcer.release(id);
        assert_eq!(fake.value(path), back, "{path}");
    }
}

/// With the systemd driver the scope's 0 is written before the kubelet's 1.
#[test]
fn a_new_container_gets_back_the_1_that_came_after_a_0() {
    let mut fake = Fake::new("systemd", |_| {});
    fake.make("/c", "0");
    let id = fake.govern("/c", false);
    for value in ["0", "1"] {
        fake.write("/c", value);
        fake.enforcer.changed();
    }
    assert_eq!((fake.value("/c").as_str(), fake.state().first), ("0", Some(1)));
    fake.enforcer.release(id);
    assert_eq!(fake.value("/c"), "1");
}

#[test]
fn an_existing_container_gets_back_what_it_had_whatever_wrote_meanwhile() {
    let mut fake = Fake::new("existing", |_| {});
    fake.make("/c", "0");
    let id = fake.govern_as(Origin::Existing, "/c", false);
    fake.write("/c", "1");
    fake.enforcer.changed();
    assert_eq!((fake.value("/c").as_str(), fake.state().first), ("0", Some(0)));
    fake.enforcer.release(id);
    assert_eq!(fake.value("/c"), "0");
}

#[test]
fn another_rule_keeps_the_first_value() {
    let mut fake = Fake::new("rules", |_| {});
    fake.make("/c", "1");
    fake.govern("/c", false);
    fake.govern("/c", true);
    assert_eq!((fake.value("/c").as_str(), fake.state().first), ("1", Some(1)));
    assert_eq!((fake.state().writes, fake.state().reverts), (2, 0), "nothing interfered");
}

/// What is restored is not left to the next agent, which may find another's value there.
#[test]
fn values_are_restored_at_the_end_only_if_asked() {
    for (restore, expected, left) in [(false, "0", Some(true)), (true, "1", None)] {
        for meanwhile in [None, Some("1")] {
            let mut fake = Fake::new("exit", |options| options.restore_on_exit = restore);
            fake.make("/c", "1");
            let id = fake.govern("/c", false);
            meanwhile.inspect(|value| fake.write("/c", value));
            fake.enforcer.shutdown();
            assert_eq!(fake.value("/c"), meanwhile.unwrap_or(expected));
            assert_eq!(fake.enforcer.leaves()[&id].original_value, left, "{meanwhile:?}");
        }
    }
}

/// What an earlier agent wrote is restored, but not by one that only watches.
#[test]
fn what_an_earlier_agent_left_is_restored() {
    for (dry_run, back) in [(false, "1"), (true, "0")] {
        let mut fake = Fake::new("left", |options| options.dry_run = dry_run);
        fake.make("/c", "0");
        let left = SavedCgroup {
            path: None,
            oom_kills: None,
            original_value: Some(true),
            rule: None,
            escalated: None,
        };
        fake.enforcer.left = SavedCgroups::from([(fake.id("/c"), left)]);
        let id = fake.govern_as(Origin::Existing, "/c", false);
        fake.enforcer.release(id);
        assert_eq!(fake.value("/c"), back, "dry run: {dry_run}");
        let left = fake.enforcer.leaves();
        let kept = left.get(&id).and_then(|left| left.original_value);
        assert_eq!(kept, dry_run.then_some(true), "what is not restored is kept");
    }
}

/// The agent's own 1 is still there when the rule wants 0 again: it is not the runtime's.
#[test]
fn what_the_agent_wrote_for_an_earlier_target_is_its_own() {
    for (runtimes, back) in [("0", "0"), ("1", "1")] {
        let mut fake = Fake::new("own", |_| {});
        fake.make("/c", runtimes);
        let id = fake.govern("/c", false);
        for value in [true, false] {
            fake.govern("/c", value);
            assert_eq!(fake.value("/c"), u8::from(value).to_string());
        }
        fake.enforcer.release(id);
        assert_eq!(fake.value("/c"), back, "the runtime wrote {runtimes}");
    }
}

/// The agent came late: its rule and the runtime want the same, and systemd another value.
#[test]
fn a_1_that_was_there_first_is_the_runtimes() {
    let mut fake = Fake::new("late", |_| {});
    fake.make("/c", "1");
    let id = fake.govern("/c", true);
    fake.write("/c", "0");
    fake.enforcer.changed();
    assert_eq!((fake.value("/c").as_str(), fake.state().writes), ("1", 1));
    fake.enforcer.release(id);
    assert_eq!(fake.value("/c"), "1");
}

/// The rule went while no agent was running.
#[test]
fn what_no_rule_matches_any_more_is_restored_once_that_is_sure() {
    for (dry_run, value) in [(false, "1"), (true, "0")] {
        let mut fake = Fake::new("left-over", |options| options.dry_run = dry_run);
        let left = |path: &str, original_value| SavedCgroup {
            path: CgroupPath::parse(path.as_bytes()).ok(),
            oom_kills: None,
            original_value,
            rule: Some("gone".into()),
            escalated: None,
        };
        for path in ["/over", "/changed", "/unwritten", "/unsure", "/other"] {
            fake.make(path, if path == "/changed" { "1" } else { "0" });
        }
        let ids = ["/over", "/changed", "/unwritten", "/unsure"].map(|path| fake.id(path));
        let [over, changed, unwritten, unsure] = ids;
        fake.enforcer.left = SavedCgroups::from([
            (over, left("/over", Some(true))),
            (changed, left("/changed", Some(true))),
            (unwritten, left("/unwritten", None)),
            (unsure, left("/unsure", Some(true))),
            // Another cgroup has its path by now.
            (CgroupId(1), left("/other", Some(true))),
        ]);
        fake.enforcer.restore_left(|id| id != unsure);
        assert_eq!(fake.value("/over"), value, "dry run: {dry_run}");
        let untouched = ["/changed", "/unwritten", "/unsure", "/other"];
        assert_eq!(untouched.map(|path| fake.value(path)), ["1", "0", "0", "0"]);
        assert!(fake.effects().contains(&Effect::Saved));
        let left = |fake: &Fake| fake.enforcer.leaves().into_keys().collect::<HashSet<_>>();
        let kept = |sure: &[CgroupId]| -> HashSet<_> {
            sure.iter().chain(dry_run.then_some(&over)).copied().collect()
        };
        assert_eq!(left(&fake), kept(&[unsure]));
        fake.enforcer.restore_left(|_| true);
        assert_eq!(fake.value("/unsure"), value, "now it is sure");
        assert_eq!(left(&fake), kept(&[unsure][usize::from(!dry_run)..]));
    }
}
