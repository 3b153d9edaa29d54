//! Containers as a runtime makes them: a cgroup with a limit and
//! `memory.oom.group=1`, a pid namespace, an init.

use super::{role::role, wait::eventually};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Child, Command},
};

pub struct Cgroup(String);

impl Cgroup {
    /// Makes it, and the ones above it with the memory controller enabled.
    pub fn make(path: &str) -> Self {
        let mut made = String::new();
        for name in path.split('/').skip(1) {
            if !made.is_empty() {
                fs::write(format!("/sys/fs/cgroup{made}/cgroup.subtree_control"), "+memory")
                    .unwrap();
            }
            made = format!("{made}/{name}");
            let _ = fs::create_dir(format!("/sys/fs/cgroup{made}"));
        }
        Cgroup(made)
    }

    /// One that is there already.
    pub fn made(path: &str) -> Self {
        Cgroup(path.to_owned())
    }

    pub fn file(&self, name: &str) -> String {
        format!("/sys/fs/cgroup{}/{name}", self.0)
    }

    pub fn path(&self) -> &str {
        &self.0
    }

    pub fn set(&self, name: &str, value: &str) {
        fs::write(self.file(name), value)
            .unwrap_or_else(|error| panic!("{}: {error}", self.file(name)));
    }

    pub fn limit(&self, mebibytes: u32) {
        self.set("memory.max", &format!("{mebibytes}M"));
        let _ = fs::write(self.file("memory.swap.max"), "0");
    }

    pub fn oom_group(&self) -> String {
        fs::read_to_string(self.file("memory.oom.group")).unwrap().trim().to_owned()
    }

    /// Processes in it, by their ids on the node.
    pub fn processes(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.file("cgroup.procs")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    pub fn id(&self) -> u64 {
        fs::metadata(format!("/sys/fs/cgroup{}", self.0)).unwrap().ino()
    }

    /// A number of memory.events.
    pub fn event(&self, name: &str) -> u64 {
        let text = fs::read_to_string(self.file("memory.events")).unwrap();
        let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs.find(|(key, _)| *key == name).map_or(0, |(_, value)| value.parse().unwrap())
    }

    pub fn remove(&self) {
        eventually(&format!("{} is empty", self.0), || {
            fs::remove_dir(format!("/sys/fs/cgroup{}", self.0)).is_ok()
        });
    }
}

/// A process in a cgroup but in no namespace of its own.
pub fn run_in(cgroup: &Cgroup, program: &[&str]) -> Child {
    role("enter", &[cgroup.path()]).args(program).spawn().unwrap()
}

/// A process that takes memory in a while, in a cgroup below this one of which only the
/// directory is known.
pub fn hog_below(cgroup: &Cgroup, directory: &Path) -> Child {
    let hog = run_in(cgroup, &["later", "100"]);
    eventually("it is in", || cgroup.processes().contains(&hog.id()));
    fs::write(directory.join("cgroup.procs"), hog.id().to_string()).unwrap();
    hog
}

pub struct Container {
    pub cgroup: Cgroup,
    shim: Child,
    notes: String,
}

impl Container {
    /// A container of this limit, whose init is a tree of these children.
    pub fn start(path: &str, mebibytes: u32, children: &[&str]) -> Self {
        Self::start_tree(Self::made(path, mebibytes), children)
    }

    /// The same under a rule for 0, that is in force before anything runs in it: what is asked is
    /// not which of the two is quicker.
    pub fn start_governed(path: &str, mebibytes: u32, children: &[&str]) -> Self {
        let cgroup = Self::made(path, mebibytes);
        eventually("the value is corrected", || cgroup.oom_group() == "0");
        Self::start_tree(cgroup, children)
    }

    /// The same with another init.
    pub fn start_program(path: &str, mebibytes: u32, program: &[&str]) -> Self {
        Self::start_in(Self::made(path, mebibytes), program)
    }

    fn made(path: &str, mebibytes: u32) -> Cgroup {
        let cgroup = Cgroup::make(path);
        cgroup.limit(mebibytes);
        cgroup.set("memory.oom.group", "1");
        cgroup
    }

    fn start_tree(cgroup: Cgroup, children: &[&str]) -> Self {
        let notes = format!("/tmp/notes{}", cgroup.path().replace('/', "-"));
        let program: Vec<&str> = [&["tree", &notes], children].concat();
        let mut container = Self::start_in(cgroup, &program);
        container.notes = notes;
        container
    }

    fn start_in(cgroup: Cgroup, program: &[&str]) -> Self {
        let mut shim: Command = role("shim", &[cgroup.path()]);
        let shim = shim.args(program).spawn().unwrap();
        let mut container = Container { cgroup, shim, notes: String::new() };
        // One that is killed as a whole may have come and gone between two looks.
        eventually("the container's init is there, or has been", || {
            !container.cgroup.processes().is_empty() || container.ended()
        });
        container
    }

    /// A container that may write to its cgroup (KEP-5474) and has made a job in it, to be
    /// killed as a group; its init is in a cgroup beside that, or is part of the job.
    pub fn start_with_job(path: &str, init_in_job: bool) -> (Self, Cgroup) {
        let job = Cgroup::make(&format!("{path}/job"));
        let init = Cgroup::make(&format!("{path}/init"));
        let cgroup = Cgroup::made(path);
        cgroup.limit(200);
        cgroup.set("memory.oom.group", "1");
        job.limit(60);
        job.set("memory.oom.group", "1");
        let enters = if init_in_job { job.path() } else { init.path() };
        let notes = format!("/tmp/notes{}", path.replace('/', "-"));
        let idle = format!("job:{}=idle", job.path());
        let mut shim: Command = role("shim", &[enters, "tree", &notes, &idle, &idle]);
        let shim = shim.spawn().unwrap();
        let members = 2 + usize::from(init_in_job);
        eventually("the job runs", || job.processes().len() == members);
        (Container { cgroup: Cgroup::made(enters), shim, notes }, job)
    }

    /// The init's process id on the node: it was the first.
    pub fn init(&self) -> u32 {
        let in_namespace = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let own = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            own.and_then(|ids| ids.split_whitespace().last().map(str::to_owned))
        };
        let mut processes = self.cgroup.processes().into_iter();
        processes.find(|pid| in_namespace(pid).as_deref() == Some("1")).expect("an init")
    }

    /// Children that died, as their parent saw it.
    pub fn deaths(&self) -> usize {
        let notes = fs::read_to_string(&self.notes).unwrap_or_default();
        notes.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// Whether the init has ended, and with it the container.
    pub fn ended(&mut self) -> bool {
        self.shim.try_wait().unwrap().is_some()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // The init dies with its shim (PR_SET_PDEATHSIG).
        let _ = self.shim.kill();
        let _ = self.shim.wait();
    }
}

/// Writes 1 so often, each time as soon as it is back to 0.
pub fn write_one(cgroup: &Cgroup, times: u32) {
    for write in 0..times {
        cgroup.set("memory.oom.group", "1");
        let mut tries = 0u32;
        while cgroup.oom_group() != "0" {
            tries += 1;
            assert!(tries < 1_000_000, "write {write} was not reverted");
        }
    }
}
