//! Cgroups that a runtime is yet to finish, and crun's two for one container.

use super::*;

const SCOPE: &str = "/x.scope";
const INNER: &str = "/x.scope/container";

/// A cgroup without the memory controller.
fn make_bare(fake: &Fake, path: &str) {
    let directory = fake.directory(path);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("cgroup.procs"), "").unwrap();
}

fn not_enforceable(fake: &mut Fake) -> Option<String> {
    fake.metric(r#"herder_not_enforceable{reason="no-memory-controller"}"#)
}

#[test]
fn what_is_being_built_is_no_alarm() {
    let built_within = Duration::from_secs(5);
    let mut fake = Fake::new("built", |options| options.built_within = built_within);
    for path in ["/quick", "/never"] {
        make_bare(&fake, path);
        fake.govern(path, false);
    }
    fake.resync();
    let states = fake.enforcer.states(None, usize::MAX).states;
    assert!(states.iter().all(|state| state.obstacle.is_none() && state.effective.is_none()));
    fake.make("/quick", "1");
    fake.enforcer.changed();
    assert_eq!(fake.value("/quick"), "0", "at once");
    let due = fake.enforcer.due().unwrap();
    fake.clock.advance(built_within - Duration::from_nanos(1));
    fake.enforcer.correct_due();
    assert_eq!(fake.enforcer.due(), Some(due));
    fake.clock.advance(Duration::from_nanos(1));
    fake.enforcer.correct_due();
    assert_eq!(fake.enforcer.due(), None);
    let obstacles: Vec<_> =
        fake.enforcer.states(None, usize::MAX).states.iter().map(|state| state.obstacle).collect();
    assert_eq!(obstacles, [Some(Obstacle::NoMemoryController), None], "/never, /quick");
    assert_eq!(not_enforceable(&mut fake).as_deref(), Some("1"));
    fake.make("/never", "1");
    fake.enforcer.changed();
    fake.resync();
    assert_eq!(
        (fake.value("/never").as_str(), not_enforceable(&mut fake).as_deref()),
        ("0", Some("0"))
    );
    // It may be taken away again.
    fs::remove_file(fake.directory("/never").join(OOM_GROUP)).unwrap();
    fake.resync();
    assert_eq!(not_enforceable(&mut fake).as_deref(), Some("0"));
    assert_eq!(fake.metric(r#"herder_host_oom_group{cgroup="/never"}"#), None);
}

/// crun makes the scope, then the cgroup in it, and then gives that the memory controller.
#[test]
fn a_container_of_crun_is_one() {
    for inner_first in [false, true] {
        let mut fake = Fake::new("crun", |_| {});
        fake.make(SCOPE, "0");
        make_bare(&fake, INNER);
        let govern_inner =
            |fake: &mut Fake| fake.govern_in(Some(SCOPE), Origin::Made, INNER, false);
        if inner_first {
            govern_inner(&mut fake);
        }
        fake.govern(SCOPE, false);
        let inner = govern_inner(&mut fake);
        fake.resync();
        assert_eq!(fake.enforcer.states(None, usize::MAX).states.len(), 1);
        assert_eq!((fake.state().obstacle, fake.state().inner_cgroup), (None, None));
        assert_eq!(not_enforceable(&mut fake).as_deref(), Some("0"), "the scope has one");

        fake.make(INNER, "1");
        fake.enforcer.changed();
        let state = fake.state();
        assert_eq!(
            (fake.enforcer.states(None, usize::MAX).states.len(), state.cgroup.as_str()),
            (1, SCOPE)
        );
        assert_eq!(state.inner_cgroup.as_ref().map(CgroupPath::as_str), Some(INNER));
        assert_eq!((state.effective, state.first, state.writes), (Some(0), Some(1), 1));
        assert_eq!(fake.value(INNER), "0");
        fake.resync();
        fake.write(INNER, "1");
        fake.write(SCOPE, "1");
        fake.enforcer.changed();
        assert_eq!((fake.value(SCOPE), fake.value(INNER)), ("0".into(), "0".into()));
        assert_eq!(fake.metric(r#"herder_host_oom_group{cgroup="/x.scope/container"}"#), None);
        let shown = |fake: &mut Fake| fake.metric(r#"herder_host_oom_group{cgroup="/x.scope"}"#);
        assert_eq!(shown(&mut fake).as_deref(), Some("0"));
        fake.enforcer.removed(inner);
        assert_eq!(shown(&mut fake).as_deref(), Some("0"), "the scope shows its own again");
        fake.enforcer.removed(fake.id(SCOPE));
        assert_eq!(shown(&mut fake), None);
    }
}

/// What counts is where the processes are.
#[test]
fn the_value_inside_is_the_one_that_is_shown() {
    for inner_first in [false, true] {
        let mut fake = Fake::new("shown", |options| options.dry_run = true);
        fake.make(SCOPE, "0");
        fake.make(INNER, "1");
        for at in [inner_first, !inner_first] {
            if at {
                fake.govern_in(Some(SCOPE), Origin::Existing, INNER, false);
            } else {
                fake.govern_as(Origin::Existing, SCOPE, false);
            }
        }
        let shown = |fake: &mut Fake| fake.metric(r#"herder_host_oom_group{cgroup="/x.scope"}"#);
        assert_eq!((shown(&mut fake).as_deref(), fake.state().effective), (Some("1"), Some(1)));
        // It has the controller no more: the kernel goes by the scope's.
        fs::remove_file(fake.directory(INNER).join(OOM_GROUP)).unwrap();
        fake.resync();
        assert_eq!((shown(&mut fake).as_deref(), fake.state().effective), (Some("0"), Some(0)));
        assert_eq!(fake.state().obstacle, None);
    }
}

/// systemd's policy for a scope is reported once, and so is a missing controller.
#[test]
fn what_is_in_the_way_of_both_is_counted_once() {
    let mut fake = Fake::new("once", |_| {});
    fake.make(SCOPE, "1");
    fake.make(INNER, "1");
    fs::create_dir(fake.root.join("transient")).unwrap();
    fs::write(fake.root.join("transient/x.scope"), "[Scope]\nOOMPolicy=kill\n").unwrap();
    fake.govern(SCOPE, false);
    fake.govern_in(Some(SCOPE), Origin::Made, INNER, false);
    fake.resync();
    let counted = fake.metric(r#"herder_not_enforceable{reason="systemd-oom-policy"}"#);
    assert_eq!(counted.as_deref(), Some("1"));
    for path in [SCOPE, INNER] {
        fs::remove_file(fake.directory(path).join(OOM_GROUP)).unwrap();
    }
    fake.resync();
    assert_eq!(not_enforceable(&mut fake).as_deref(), Some("1"));
    assert_eq!(fake.state().obstacle, Some(Obstacle::NoMemoryController));
}
