//! How much memory the agent's own cgroup takes: that is what a limit is set for.

use crate::{
    bench::crowd,
    harness::{
        agent::{Agent, MATCHED},
        api::Api,
        container::{Cgroup, Container, run_in},
        say::say,
        test::{Test, tests},
        wait::eventually,
    },
};
use std::{fs, iter, thread::sleep, time::Duration};

/// Where kernels differ: in the size of their BTF, and in what they charge.
pub const TESTS: &[Test] = tests![footprint_of_the_start];

pub const TESTS_OF_FAULTS: &[Test] = tests![
    footprint_of_the_start,
    footprint_of_delegated_cgroups,
    footprint_of_a_hundred_thousand_cgroups,
    footprint_without_ebpf,
    footprint_of_too_many_matched
];

/// Containers of a node with a raised limit of pods.
const CONTAINERS: usize = 250;

/// What the start may take for a moment, KiB: 15.7 and 16.0 MiB were measured on 7.2, where the
/// verifier's memory is charged too, and less elsewhere. The program's own file is
/// not in it: here no cgroup is charged for that.
const PEAK: u64 = 18 << 10;

/// The limit that the DaemonSet sets, MiB.
const LIMIT: u32 = 64;

/// What neither the kernel can take back nor the agent, KiB.
const MOST_KEPT: u64 = 24 << 10;

/// The agent's own cgroup, as a pod has one.
struct Own(Cgroup);

impl Own {
    fn make(mebibytes: u32) -> Self {
        let cgroup = Cgroup::make("/agent");
        cgroup.limit(mebibytes);
        Own(cgroup)
    }

    fn start(&self, rules: &str, flags: &[&str]) -> Agent {
        Agent::start_in(&self.0, rules, flags)
    }

    fn kibibytes(&self, file: &str) -> Option<u64> {
        let text = fs::read_to_string(self.0.file(file)).ok()?;
        Some(text.trim().parse::<u64>().unwrap() >> 10)
    }

    /// What it takes for good is little, and it was never killed for it. A process that walks all
    /// directories is also charged for what the kernel remembers of them, as long as there
    /// is room for that.
    fn is_within_limits(&self, what: &str) {
        let now = self.kibibytes("memory.current").unwrap();
        let stat = fs::read_to_string(self.0.file("memory.stat")).unwrap();
        let remembered = stat.lines().find_map(|line| line.strip_prefix("slab_reclaimable "));
        let kept = now - (remembered.unwrap().parse::<u64>().unwrap() >> 10);
        // Linux 5.19.
        let peak = self.kibibytes("memory.peak").map_or("?".into(), |peak| peak.to_string());
        let limited = self.0.event("max");
        say(&format!(
            "{what}: peak {peak} KiB, {kept} KiB kept of {now}, {limited} times at the limit"
        ));
        assert_eq!(self.0.event("oom_kill"), 0, "{what}");
        assert!(kept < MOST_KEPT, "{what}: {kept} KiB");
    }
}

fn footprint_of_the_start() {
    let _api = Api::serve(&crowd::pods(0..CONTAINERS));
    for number in 0..CONTAINERS {
        Cgroup::make(&crowd::path(number)).set("memory.oom.group", "1");
    }
    let own = Own::make(LIMIT);
    let agent = own.start(crowd::HERDER.rules, crowd::HERDER.flags);
    crowd::wait_until_steered(CONTAINERS);
    sleep(Duration::from_secs(2));
    own.is_within_limits(&format!("{CONTAINERS} containers"));
    if let Some(peak) = own.kibibytes("memory.peak") {
        assert!(peak < PEAK, "{peak} KiB");
    }
    agent.assert_nothing_lost();
}

/// So many cgroups, so many levels below another one, with names of this
/// length. Gives one of them.
fn make_below(top: &str, levels: usize, length: usize, count: usize) -> String {
    let name = |number: usize| format!("{number:0>length$}");
    let above =
        iter::repeat_n(name(0), levels).fold(top.to_owned(), |path, name| path + "/" + &name);
    fs::create_dir_all(format!("/sys/fs/cgroup{above}")).unwrap();
    for number in 0..count {
        fs::create_dir(format!("/sys/fs/cgroup{above}/{}", name(number))).unwrap();
    }
    let path = format!("{above}/{}", name(count - 1));
    say(&format!("{count} cgroups with paths of {} bytes", path.len()));
    path
}

/// A process of a container, in a cgroup that the container has made, outgrows its limit.
fn is_reported_as(agent: &Agent, cgroup: &str, container: &str) {
    let before = agent.kills().len();
    let mut victim = run_in(&Cgroup::made(cgroup), &["hog", "100"]);
    eventually("it is killed", || victim.try_wait().unwrap().is_some());
    eventually("that is reported", || agent.kills().len() > before);
    let kill = &agent.kills()[before];
    assert!(kill["cgroup"].as_str().unwrap().starts_with(container), "{kill:#}");
    let reported = ["rule", "kind", "limit"].map(|key| kill[key].clone());
    assert_eq!(reported, ["matched", "subprocess", "container"], "{kill:#}");
}

/// What the kernel itself needs for a hundred thousand cgroups, KiB.
const ROOM: u64 = 4 << 20;

/// Needs `cargo xtask vm --memory 6144`: the kernel keeps more of each than the agent does.
fn footprint_of_a_hundred_thousand_cgroups() {
    let memory = fs::read_to_string("/proc/meminfo").unwrap();
    let total = memory.split_whitespace().nth(1).and_then(|total| total.parse::<u64>().ok());
    if total.unwrap() < ROOM {
        say("not tried: this guest has too little memory for so many cgroups");
        return;
    }
    let _container = Container::start("/matched/c1", 60, &["idle"]);
    let deep = make_below("/matched/c1", 3, 235, 40_000);
    make_below("/matched/c1/short", 0, 6, 60_000);
    let own = Own::make(LIMIT);
    let agent = own.start(MATCHED, &[]);
    own.is_within_limits("100,000 at the start");
    is_reported_as(&agent, &deep, "/matched/c1");
    own.is_within_limits("after a kill in one of them");
    agent.assert_nothing_lost();
}

const USER: &str = "/user.slice/user-1000.slice/user@1000.service";

const OTHERS: &str = r#"herder_cgroups_not_kept{role="other"}"#;

/// Whom a subtree is delegated to makes as many cgroups as it likes. The agent starts, and
/// goes on, within its limit, and kills in them are the container's.
fn footprint_of_delegated_cgroups() {
    let _container = Container::start("/matched/c1", 60, &["idle"]);
    let deep = make_below("/matched/c1", 14, 250, 16_000);
    let own = Own::make(LIMIT);
    let mut agent = own.start(MATCHED, &[]);
    own.is_within_limits("16,000 deep ones at the start");
    is_reported_as(&agent, &deep, "/matched/c1");
    eventually("that many are not kept is counted", || agent.metric(OTHERS) > 10_000.0);
    make_below(USER, 3, 235, 10_000);
    // Deeper than a walk goes.
    let deepest = make_below("/matched/c1/below", 40, 8, 1);
    is_reported_as(&agent, &deepest, "/matched/c1");
    own.is_within_limits("10,000 more while it runs");
    assert_eq!(Agent::log().matches("more cgroups than the agent keeps").count(), 1);
    agent.assert_nothing_lost();
    assert!(agent.stop().success());
    // So little room that what the kernel remembers of a walk has to go, again and again.
    own.0.set("memory.max", "20M");
    let agent = own.start(MATCHED, &["--resync-seconds", "1"]);
    is_reported_as(&agent, &deep, "/matched/c1");
    sleep(Duration::from_secs(5));
    own.is_within_limits("walked again and again");
    agent.assert_nothing_lost();
}

/// inotify has watches on all that it is to report.
fn footprint_without_ebpf() {
    let _container = Container::start("/matched/c1", 60, &["idle"]);
    let deep = make_below("/matched/c1", 14, 250, 5_000);
    make_below(USER, 0, 8, 10_000);
    let own = Own::make(LIMIT);
    let agent = own.start(MATCHED, &["--source", "memory-events"]);
    is_reported_as(&agent, &deep, "/matched/c1");
    make_below("/system.slice/x.service", 3, 235, 5_000);
    eventually("that many are not kept is counted", || agent.metric(OTHERS) > 10_000.0);
    own.is_within_limits("20,000 without eBPF");
}

/// A glob that matches what a user makes.
fn footprint_of_too_many_matched() {
    const GOVERNED: usize = 4096;
    const MORE: usize = 1_000;
    make_below("/matched", 0, 200, GOVERNED + MORE);
    let own = Own::make(LIMIT);
    let agent = own.start(MATCHED, &["--resync-seconds", "2"]);
    let beyond = || agent.metric(r#"herder_not_enforceable{reason="too-many"}"#);
    eventually("those that are too many are counted", || beyond() == MORE as f64);
    agent.get("/metrics");
    own.is_within_limits("more than 4,096 matched");
    for number in 0..MORE {
        let _ = fs::remove_dir(format!("/sys/fs/cgroup/matched/{number:0>200}"));
    }
    eventually("all that are left are enforced", || beyond() == 0.0);
}
