//! How much memory the agent's own cgroup takes: that is what a limit is set for.

use crate::{
    Test,
    agent::{Agent, MATCHED, eventually},
    api::Api,
    bench::crowd,
    container::{Cgroup, Container, run_in},
    say,
};
use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

/// On each kernel that is asked everything, and on one more.
pub const TESTS: &[Test] = &[("footprint_at_the_start", footprint_at_the_start)];

/// Kernels do not differ in it.
pub const TESTS_OF_FAULTS: &[Test] = &[
    ("footprint_at_the_start", footprint_at_the_start),
    ("footprint_of_delegated_cgroups", footprint_of_delegated_cgroups),
    ("footprint_without_ebpf", footprint_without_ebpf),
    ("footprint_of_too_many_matched", footprint_of_too_many_matched),
];

/// Containers of a node with a raised limit of pods.
const CONTAINERS: usize = 250;

/// What the start may take for a moment, KiB; README and deploy/README.md name it.
const PEAK: u64 = 16 << 10;

/// The limit that the DaemonSet sets.
const LIMIT: u32 = 64;

/// The agent's own cgroup, as a pod has one.
struct Own(Cgroup);

impl Own {
    fn make() -> Self {
        let cgroup = Cgroup::make("/agent");
        cgroup.limit(LIMIT);
        Own(cgroup)
    }

    fn start(&self, rules: &str, flags: &[&str]) -> Agent {
        Agent::start_in(&self.0, rules, flags)
    }

    fn kibibytes(&self, file: &str) -> Option<u64> {
        let text = fs::read_to_string(self.0.file(file)).ok()?;
        Some(text.trim().parse::<u64>().unwrap() >> 10)
    }

    /// Says what it takes, and that it was never killed for it.
    fn is_within_limits(&self, what: &str) {
        let (peak, now) = (self.kibibytes("memory.peak"), self.kibibytes("memory.current"));
        let peak = peak.map_or("?".into(), |peak| peak.to_string());
        say(&format!("{what}: peak {peak} KiB, now {} KiB", now.unwrap()));
        let stat = fs::read_to_string(self.0.file("memory.stat")).unwrap();
        let of = |name: &str| {
            stat.lines().find_map(|line| line.strip_prefix(name)).unwrap_or(" ?").to_owned()
        };
        say(&format!(
            "  anon{} kernel{} slab_reclaimable{} slab_unreclaimable{} max hit {}",
            of("anon"),
            of("kernel"),
            of("slab_reclaimable"),
            of("slab_unreclaimable"),
            self.0.event("max")
        ));
        assert_eq!(self.0.event("oom_kill"), 0, "{what}");
    }
}

fn footprint_at_the_start() {
    let _api = Api::serve(&crowd::pods(0..CONTAINERS));
    for number in 0..CONTAINERS {
        Cgroup::make(&crowd::path(number)).set("memory.oom.group", "1");
    }
    let own = Own::make();
    let agent = own.start(crowd::HERDER.rules, crowd::HERDER.flags);
    crowd::wait_until_steered(CONTAINERS);
    sleep(Duration::from_secs(3));
    own.is_within_limits(&format!("{CONTAINERS} containers"));
    if let Some(peak) = own.kibibytes("memory.peak") {
        assert!(peak < PEAK, "{peak} KiB");
    }
    agent.assert_nothing_lost();
}

/// Where a user may make cgroups: the names of all levels are so long.
fn make_below(top: &str, levels: usize, length: usize, count: usize) -> String {
    let began = Instant::now();
    let name = |number: usize| format!("{number:0>length$}");
    let above = format!("{top}{}", format!("/{}", name(0)).repeat(levels));
    fs::create_dir_all(format!("/sys/fs/cgroup{above}")).unwrap();
    for number in 0..count {
        fs::create_dir(format!("/sys/fs/cgroup{above}/{}", name(number))).unwrap();
    }
    let path = format!("{above}/{}", name(count - 1));
    let took = began.elapsed().as_secs_f64();
    let free = fs::read_to_string("/proc/meminfo").unwrap();
    let free = free.lines().find(|line| line.starts_with("MemAvailable")).unwrap().to_owned();
    say(&format!("{count} cgroups with paths of {} bytes made in {took:.1} s, {free}", path.len()));
    path
}

/// A process that outgrows its container, in a cgroup that the container made.
fn is_told_as(agent: &Agent, victims: &str, container: &str) {
    let before = agent.kills().len();
    let mut victim = run_in(&Cgroup::made(victims), &["hog", "100"]);
    eventually("it is killed", || victim.try_wait().unwrap().is_some());
    eventually("that is told", || agent.kills().len() > before);
    let kill = &agent.kills()[before];
    assert!(kill["cgroup"].as_str().unwrap().starts_with(container), "{kill:#}");
    assert_eq!(
        (&kill["rule"], &kill["limit"]),
        (&"matched".into(), &"container".into()),
        "{kill:#}"
    );
}

const OTHERS: &str = r#"herder_cgroups_not_kept{role="other"}"#;

/// Whom a subtree is delegated to makes as many cgroups as it likes. The agent starts, and
/// goes on, within its limit, and kills in them are the container's.
fn footprint_of_delegated_cgroups() {
    let user = "/user.slice/user-1000.slice/user@1000.service";
    let _container = Container::start("/matched/c1", 60, &["idle"]);
    let deep = make_below("/matched/c1", 14, 250, 16_000);
    let own = Own::make();
    let mut agent = own.start(MATCHED, &[]);
    own.is_within_limits("deep ones at the start");
    is_told_as(&agent, &deep, "/matched/c1");
    assert!(agent.metric(OTHERS) > 10_000.0, "{}", agent.metric(OTHERS));
    // Made and removed while the agent runs, before it can have a look.
    make_below(user, 3, 235, 10_000);
    let brief = make_below("/matched/c1/brief", 40, 8, 1);
    is_told_as(&agent, &brief, "/matched/c1");
    own.is_within_limits("more while it runs");
    agent.assert_nothing_lost();
    assert!(agent.stop().success());
    let agent = own.start(MATCHED, &["--resync-seconds", "1"]);
    is_told_as(&agent, &deep, "/matched/c1");
    sleep(Duration::from_secs(10));
    own.is_within_limits("walked again and again");
    agent.assert_nothing_lost();
    assert_eq!(Agent::log().matches("more cgroups than are kept").count(), 1);
}

fn footprint_without_ebpf() {
    let _container = Container::start("/matched/c1", 60, &["idle"]);
    let deep = make_below("/matched/c1", 14, 250, 10_000);
    make_below("/user.slice/user-1000.slice/user@1000.service", 0, 8, 10_000);
    let own = Own::make();
    let agent = own.start(MATCHED, &["--source", "memory-events"]);
    is_told_as(&agent, &deep, "/matched/c1");
    make_below("/system.slice/x.service", 3, 235, 10_000);
    own.is_within_limits("without eBPF");
}

/// A glob that matches what a user makes.
fn footprint_of_too_many_matched() {
    make_below("/matched", 0, 200, 6_000);
    let own = Own::make();
    let agent = own.start(MATCHED, &[]);
    sleep(Duration::from_secs(10));
    let beyond = agent.metric(r#"herder_not_enforceable{reason="too-many"}"#);
    own.is_within_limits(&format!("{beyond} beyond"));
    agent.get("/api/v1/containers");
    agent.get("/metrics");
    own.is_within_limits("told of all");
    assert_eq!(beyond, 6_000.0 - 4096.0);
}
