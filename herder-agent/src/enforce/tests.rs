mod backed_off;
mod inner;
pub(super) mod modes;
mod removed;
mod restored;
mod unrestored;

use super::*;
use crate::{kernel::cgroupfs::dir::EVENTS, report::Reporter};
use herder_model::cgroup::OOM_GROUP;
use modes::bound_by_modes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    fs,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// A directory that looks like a cgroup mount; inotify on it is real.
struct Fake {
    root: PathBuf,
    enforcer: Enforcer,
    clock: Clock,
    reporter: Reporter,
}

impl Fake {
    fn new(name: &str, change: impl FnOnce(&mut Options)) -> Self {
        let root =
            std::env::temp_dir().join(format!("herder-enforce-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        let mut options = Options {
            dry_run: false,
            restore_on_exit: false,
            descriptors: i32::MAX,
            systemd_transient: root.join("transient"),
            built_within: Duration::ZERO,
        };
        change(&mut options);
        let opened = Some(CgroupRoot::unchecked(&root).unwrap());
        let (reporter, clock) = (Reporter::default(), Clock::manual(Monotonic(7)));
        Fake { enforcer: Enforcer::new(opened, options, clock.clone()), clock, root, reporter }
    }

    fn make(&self, path: &str, value: &str) {
        let directory = self.directory(path);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("cgroup.procs"), "").unwrap();
        fs::write(directory.join(EVENTS), "oom_kill 0").unwrap();
        fs::write(directory.join(OOM_GROUP), value).unwrap();
    }

    fn directory(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn id(&self, path: &str) -> CgroupId {
        CgroupId(fs::metadata(self.directory(path)).unwrap().ino())
    }

    fn govern(&mut self, path: &str, value: bool) -> CgroupId {
        self.govern_as(Origin::Made, path, value)
    }

    fn govern_as(&mut self, origin: Origin, path: &str, value: bool) -> CgroupId {
        self.govern_in(None, origin, path, value)
    }

    fn govern_in(
        &mut self,
        scope: Option<&str>,
        origin: Origin,
        path: &str,
        value: bool,
    ) -> CgroupId {
        let id = self.id(path);
        let cgroup = |path: &str| CgroupPath::parse(path.as_bytes()).unwrap();
        let (path, scope) = (cgroup(path), scope.map(cgroup));
        let owner = Owner::Host { cgroup: scope.clone().unwrap_or(path.clone()) };
        let target = Target::new("rule".into(), value);
        self.enforcer.govern(id, Place { path: &path, scope }, origin, target, owner);
        id
    }

    /// What was done since the last call; each effect is reported.
    fn effects(&mut self) -> Vec<Effect> {
        let effects = self.enforcer.take_effects();
        effects.iter().for_each(|effect| self.reporter.enforcement(effect));
        effects
    }

    fn metric(&mut self, series: &str) -> Option<String> {
        self.effects();
        let text = String::from_utf8(self.reporter.metrics().exposition().0).unwrap();
        text.lines().find_map(|line| Some(line.strip_prefix(series)?.trim().to_owned()))
    }

    fn write(&self, path: &str, value: &str) {
        fs::write(self.directory(path).join(OOM_GROUP), value).unwrap();
    }

    fn value(&self, path: &str) -> String {
        fs::read_to_string(self.directory(path).join(OOM_GROUP)).unwrap().trim().into()
    }

    /// Whether inotify has an event.
    fn is_notified(&self) -> bool {
        let inotify = self.enforcer.inotify().unwrap();
        let mut polled = [PollFd::new(&inotify, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec::default())).unwrap() > 0
    }

    /// How many watches the kernel has for it.
    fn watches(&self) -> usize {
        let inotify = self.enforcer.inotify().unwrap();
        let path = format!("/proc/self/fdinfo/{}", inotify.as_raw_fd());
        fs::read_to_string(path).unwrap().matches("inotify wd:").count()
    }

    fn resync(&mut self) {
        self.enforcer.resync();
        self.survey();
    }

    fn survey(&mut self) {
        while self.enforcer.surveying() {
            self.enforcer.survey_some();
        }
    }

    fn state(&self) -> ContainerState {
        self.enforcer.states(None, 1).states.remove(0)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

#[test]
fn states_come_some_at_a_time_each_once() {
    let mut fake = Fake::new("states", |_| {});
    let paths: Vec<_> = (0..10).map(|number| format!("/c{number}")).collect();
    for path in paths.iter().rev() {
        fake.make(path, "0");
        fake.govern(path, false);
    }
    for most in [1, 3, 5, 10, 11] {
        let (mut all, mut after, mut asked) = (Vec::new(), None, 0);
        loop {
            let states = fake.enforcer.states(after.as_ref(), most);
            assert!(states.states.len() <= most);
            all.extend(states.states.iter().map(|state| state.cgroup.as_str().to_owned()));
            asked += 1;
            after = states.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((all, asked), (paths.clone(), paths.len().div_ceil(most)), "{most} at a time");
    }
}

#[test]
fn a_value_is_brought_and_kept() {
    let mut fake = Fake::new("keep", |_| {});
    fake.make("/c", "0");
    fake.govern("/c", false);
    assert_eq!((fake.state().writes, fake.state().first), (0, None), "a new cgroup has 0");
    fake.write("/c", "1");
    fake.enforcer.changed();
    assert_eq!(fake.value("/c"), "0");
    assert_eq!((fake.state().writes, fake.state().reverts), (1, 0), "the runtime's own value");
    for count in 1..=3 {
        fake.write("/c", "1");
        fake.enforcer.changed();
        assert_eq!((fake.value("/c").as_str(), fake.state().reverts), ("0", count));
    }
    let writes = fake.state().writes;
    fake.enforcer.changed();
    assert_eq!(fake.state().writes, writes, "inotify reports the agent's own writes too");
}

/// A change of a value that was right when the agent came is a revert, too.
#[test]
fn what_was_right_before_is_reverted() {
    let mut fake = Fake::new("right", |_| {});
    fake.make("/c", "0");
    fake.govern_as(Origin::Existing, "/c", false);
    fake.write("/c", "1");
    fake.enforcer.changed();
    assert_eq!((fake.value("/c").as_str(), fake.state().reverts), ("0", 1));
}

/// The runtime writes what it was asked for, which is no revert; a resize that undoes it is.
#[test]
fn what_the_runtime_was_asked_for_is_reverted() {
    let mut fake = Fake::new("asked", |_| {});
    fake.make("/c", "0");
    fake.govern_as(Origin::Adjusted(true), "/c", false);
    for (written, reverts) in [("0", 0), ("1", 1)] {
        fake.write("/c", written);
        fake.enforcer.changed();
        assert_eq!((fake.value("/c").as_str(), fake.state().reverts), ("0", reverts));
    }
}

/// A runtime writes to many files of a new container, and any process may do so in a loop.
#[test]
fn what_is_written_to_other_files_wakes_nothing() {
    let mut fake = Fake::new("others", |_| {});
    fake.make("/c", "1");
    let id = fake.govern("/c", false);
    fake.resync();
    fake.enforcer.changed();
    for name in ["cgroup.procs", "memory.max"] {
        fs::write(fake.directory("/c").join(name), "1").unwrap();
    }
    assert!(!fake.is_notified());
    fs::write(fake.directory("/c").join(EVENTS), "oom_kill 1").unwrap();
    assert!(fake.is_notified());
    fake.enforcer.changed();
    let counted = Effect::Counted(Counted { id, oom_kills: 1 });
    assert_eq!(fake.effects().iter().rfind(|it| matches!(it, Effect::Counted(_))), Some(&counted));
    assert_eq!(fake.watches(), 2);
    fake.enforcer.release(id);
    assert_eq!(fake.watches(), 0);
}

/// The files come with the memory controller, go with it, and are others when it comes again.
#[test]
fn files_that_come_later_are_watched() {
    let mut fake = Fake::new("later", |_| {});
    let directory = fake.directory("/c");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("cgroup.procs"), "").unwrap();
    let id = fake.govern("/c", false);
    assert_eq!(fake.state().obstacle, Some(Obstacle::NoMemoryController));
    assert_eq!(fake.watches(), 1, "on the directory");
    // One file is there before the other: the other still needs the directory.
    fs::write(directory.join(EVENTS), "oom_kill 0").unwrap();
    fake.resync();
    fs::write(directory.join(OOM_GROUP), "1").unwrap();
    fake.enforcer.changed();
    assert_eq!(fake.value("/c"), "0");
    for _ in 0..2 {
        fake.resync();
        // The event of the agent's own last write may be gone.
        fake.write("/c", "1");
        fake.enforcer.changed();
        assert_eq!((fake.value("/c").as_str(), fake.state().obstacle), ("0", None));
        assert_eq!((fake.watches(), fake.state().first), (2, Some(1)));
        fs::remove_file(directory.join(OOM_GROUP)).unwrap();
        fs::write(directory.join(OOM_GROUP), "1").unwrap();
        fake.enforcer.changed();
        fake.survey();
        assert_eq!(fake.value("/c"), "0", "without a resync");
    }
    fake.enforcer.release(id);
    assert_eq!(fake.watches(), 0);
}

/// The memory controller comes later. The watch on the directory goes before it has reported the
/// agent's own write. The runtime's write must not be taken for that one.
#[test]
fn a_watch_that_is_replaced_reports_no_write_any_more() {
    let mut fake = Fake::new("replaced", |_| {});
    fake.make("/c", "0");
    for name in [OOM_GROUP, EVENTS] {
        fs::remove_file(fake.directory("/c").join(name)).unwrap();
    }
    let id = fake.govern("/c", true);
    fake.make("/c", "0");
    fake.enforcer.changed();
    assert_eq!(fake.value("/c"), "1");
    fake.resync();
    fake.write("/c", "1");
    fake.enforcer.changed();
    assert_eq!(fake.state().first, Some(1), "the runtime's own");
    fake.enforcer.release(id);
    assert_eq!(fake.value("/c"), "1");
}

#[test]
fn only_matched_cgroups_are_written() {
    let mut fake = Fake::new("only", |_| {});
    for path in ["/a", "/b", "/a/below"] {
        fake.make(path, "1");
    }
    fake.govern("/a", false);
    fake.write("/b", "1");
    fake.enforcer.changed();
    fake.resync();
    let values = ["/a", "/b", "/a/below"].map(|path| fake.value(path));
    assert_eq!(values, ["0", "1", "1"]);
}

#[test]
fn a_dry_run_writes_nothing() {
    let mut fake = Fake::new("dry", |options| options.dry_run = true);
    fake.make("/c", "1");
    let id = fake.govern("/c", false);
    fake.write("/c", "1");
    fake.enforcer.changed();
    fake.resync();
    fake.enforcer.release(id);
    assert_eq!(fake.value("/c"), "1");
}

#[test]
fn the_resync_finds_what_was_not_reported() {
    let mut fake = Fake::new("resync", |_| {});
    fake.make("/c", "1");
    fake.govern("/c", false);
    fake.write("/c", "1");
    fake.resync();
    assert_eq!(fake.value("/c"), "0");
}

#[test]
fn a_removed_cgroup_is_forgotten_and_its_name_is_no_cgroups() {
    let mut fake = Fake::new("gone", |_| {});
    fake.make("/c", "1");
    let id = fake.govern("/c", false);
    fs::remove_dir_all(fake.directory("/c")).unwrap();
    fake.make("/other", "1");
    fs::rename(fake.directory("/other"), fake.directory("/c")).unwrap();
    fake.enforcer.changed();
    fake.resync();
    assert!(!fake.enforcer.governs(id));
    assert_eq!(fake.value("/c"), "1", "the cgroup that has the name now was never matched");
}

#[test]
fn obstacles_are_explained_and_go_away() {
    let mut fake = Fake::new("obstacle", |_| {});
    fake.make("/pod", "1");
    fake.make("/pod/c.scope", "1");
    fake.govern("/pod/c.scope", false);
    assert_eq!(fake.value("/pod/c.scope"), "0", "right as soon as the ancestor is");
    assert_eq!(fake.value("/pod"), "1", "never written");
    fake.survey();
    assert_eq!(fake.state().obstacle, Some(Obstacle::Ancestor));
    assert!(fake.state().explanation.unwrap().starts_with("/pod "));
    fake.write("/pod", "0");
    fs::create_dir(fake.root.join("transient")).unwrap();
    fs::write(fake.root.join("transient/c.scope"), "[Scope]\nOOMPolicy=kill\n").unwrap();
    fake.resync();
    assert_eq!(fake.state().obstacle, Some(Obstacle::SystemdOomPolicy));
    fs::remove_file(fake.directory("/pod/c.scope").join(OOM_GROUP)).unwrap();
    fake.resync();
    assert_eq!(fake.state().obstacle, Some(Obstacle::NoMemoryController));
    fake.write("/pod/c.scope", "0");
    fs::remove_file(fake.root.join("transient/c.scope")).unwrap();
    fake.resync();
    assert_eq!(fake.state().obstacle, None);
}

#[test]
fn what_cannot_be_opened_is_reported_and_tried_again() {
    let mut fake = Fake::new("open", |_| {});
    fake.make("/real/c", "1");
    std::os::unix::fs::symlink("real", fake.directory("/link")).unwrap();
    fake.govern("/link/c", false);
    assert_eq!(fake.state().obstacle, Some(Obstacle::Error));
    assert_eq!(fake.value("/real/c"), "1", "a link is not followed");
    fs::remove_file(fake.directory("/link")).unwrap();
    fs::rename(fake.directory("/real"), fake.directory("/link")).unwrap();
    fake.resync();
    assert_eq!((fake.state().obstacle, fake.value("/link/c").as_str()), (None, "0"));
}

#[test]
fn without_cgroup_v2_nothing_is_touched_and_it_is_said() {
    let mut fake = Fake::new("v1", |_| {});
    fake.make("/c", "1");
    fake.enforcer = Enforcer::new(None, fake.enforcer.context.options.clone(), Clock::System);
    fake.govern("/c", false);
    assert_eq!(fake.value("/c"), "1");
    assert_eq!(fake.state().obstacle, Some(Obstacle::NoMemoryController));
    assert!(Path::new(&fake.root).exists());
}
