use super::*;
use std::{fs, os::unix::fs::MetadataExt};

/// A directory that looks like a cgroup mount.
struct Fake(PathBuf);

impl Fake {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("herder-dir-{name}-{}", std::process::id()));
        fs::create_dir_all(root.join("a")).unwrap();
        fs::write(root.join("a/cgroup.procs"), "").unwrap();
        fs::write(root.join("a").join(OOM_GROUP), "1\n").unwrap();
        Fake(root)
    }

    fn open(&self, path: &str) -> Result<CgroupDir, DirError> {
        let inode = fs::metadata(self.0.join(path.trim_start_matches('/'))).map_or(0, |m| m.ino());
        let path = CgroupPath::parse(path.as_bytes()).unwrap();
        CgroupRoot::unchecked(&self.0).unwrap().open_dir(&path, CgroupId(inode))
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn reads_and_writes_the_one_file() {
    let fake = Fake::new("rw");
    let directory = fake.open("/a").unwrap();
    assert_eq!(directory.oom_group(), Ok(true));
    directory.set_oom_group(false).unwrap();
    assert_eq!(directory.oom_group(), Ok(false));
    fs::write(fake.0.join("a").join(OOM_GROUP), "max").unwrap();
    assert_eq!(directory.oom_group(), Err(DirError::Value("max".into())));
}

#[test]
fn another_directory_of_the_same_name_is_gone() {
    let fake = Fake::new("swap");
    let path = CgroupPath::parse(b"/a").unwrap();
    let other = CgroupRoot::unchecked(&fake.0).unwrap().open_dir(&path, CgroupId(1));
    assert_eq!(other.unwrap_err(), DirError::Gone);
}

#[test]
fn links_are_not_followed() {
    let fake = Fake::new("links");
    std::os::unix::fs::symlink("a", fake.0.join("link")).unwrap();
    assert!(fake.open("/link").is_err());
    let directory = fake.open("/a").unwrap();
    let target = fake.0.join("target");
    fs::write(&target, "1\n").unwrap();
    fs::remove_file(fake.0.join("a").join(OOM_GROUP)).unwrap();
    std::os::unix::fs::symlink(&target, fake.0.join("a").join(OOM_GROUP)).unwrap();
    assert!(directory.set_oom_group(false).is_err());
    assert_eq!(fs::read_to_string(target).unwrap(), "1\n");
}

#[test]
fn no_controller_and_gone_are_distinguished() {
    let fake = Fake::new("gone");
    let directory = fake.open("/a").unwrap();
    fs::remove_file(fake.0.join("a").join(OOM_GROUP)).unwrap();
    assert_eq!(directory.oom_group(), Err(DirError::NoController));
    fs::remove_dir_all(fake.0.join("a")).unwrap();
    assert_eq!(directory.oom_group(), Err(DirError::Gone));
    assert_eq!(fake.open("/a").unwrap_err(), DirError::Gone);
}

#[test]
fn a_directory_is_distinguished_from_a_mount_point() {
    let fake = Fake::new("point");
    assert!(!CgroupRoot::unchecked(&fake.0.join("a")).unwrap().is_mount_point());
    assert!(CgroupRoot::unchecked(Path::new("/proc")).unwrap().is_mount_point());
}

#[test]
fn what_would_help_depends_on_who_asks_and_whose_it_is() {
    let table = [
        (Errno::ROFS, 0, Some(0), false, "read-write"),
        (Errno::ROFS, 1000, Some(0), false, "read-write"),
        (Errno::ACCESS, 61184, Some(0), false, "runs as uid 61184"),
        (Errno::ACCESS, 61184, Some(1000), false, "run as uid 0"),
        (
            Errno::ACCESS,
            0,
            Some(1000),
            false,
            "belongs to uid 1000, so the agent needs CAP_DAC_OVERRIDE",
        ),
        (Errno::ACCESS, 0, Some(65534), false, "hostUsers: false"),
        (Errno::ACCESS, 0, Some(0), false, "security module"),
        (Errno::PERM, 0, Some(1000), true, "security module"),
        (Errno::ACCESS, 61184, Some(0), true, "security module"),
        (Errno::ACCESS, 0, None, false, "may not enter a cgroup above it"),
        (Errno::ACCESS, 0, None, true, "security module"),
    ];
    for (error, user, owner, overrides, part) in table {
        let remedy = remedy(error, user, owner, overrides);
        assert!(remedy.contains(part), "{error} {user} {owner:?} {overrides}: {remedy}");
    }
}

#[test]
fn a_mount_that_is_no_cgroup_is_refused() {
    let fake = Fake::new("mount");
    let error = CgroupRoot::open(&fake.0).unwrap_err().to_string();
    assert!(error.contains("cgroup") && error.contains("--cgroup-root"), "{error}");
    let missing = CgroupRoot::open(&fake.0.join("missing")).unwrap_err().to_string();
    assert!(missing.contains("missing"), "{missing}");
}

/// Else a runtime with cgroup v1 would start no container that a rule matches.
#[test]
fn specs_are_changed_only_by_a_whole_mount_with_the_memory_controller() {
    let fake = Fake::new("specs");
    fs::write(fake.0.join("cgroup.controllers"), "cpu memory\n").unwrap();
    let takes = |path: &Path| CgroupRoot::takes_specs(CgroupRoot::unchecked(path).ok().as_ref());
    assert_eq!(takes(&fake.0.join("none")), Err(SpecError::NoRoot));
    assert_eq!(takes(&fake.0), Err(SpecError::BelowMount));
    assert_eq!(takes(Path::new("/proc")), Err(SpecError::NoController));
}
