//! Faults of what surrounds the agent. None of them may cost a kill, a wrong write,
//! or the agent.

use crate::{
    Test,
    agent::{Agent, MATCHED, capabilities, eventually},
    container::{Cgroup, Container},
    roles::role,
    say,
};
use rustix::{
    process::{Resource, Rlimit, setrlimit},
    time::{ClockId, Timespec, clock_gettime, clock_settime},
};
use serde_json::Value;
use std::{
    fs,
    io::Read,
    path::Path,
    process::{Child, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

pub const TESTS: &[Test] = &[
    ("no_inotify_instance", no_inotify_instance),
    ("no_watch_left", no_watch_left),
    ("no_descriptor_left", no_descriptor_left),
    ("sandbox_that_refuses_calls", sandbox_that_refuses_calls),
    ("sandbox_without_inotify", sandbox_without_inotify),
    ("another_user", another_user),
    ("clock_steps_back", clock_steps_back),
    ("nobody_reads_the_log", nobody_reads_the_log),
    ("five_thousand_cgroups", five_thousand_cgroups),
    ("containers_come_and_go", containers_come_and_go),
    ("storm", storm),
];

/// A sysctl that has another value for a while.
pub struct Sysctl {
    path: String,
    before: String,
}

impl Sysctl {
    pub fn set(name: &str, value: &str) -> Self {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let before = fs::read_to_string(&path).unwrap();
        fs::write(&path, value).unwrap();
        Sysctl { path, before }
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        fs::write(&self.path, &self.before).unwrap();
    }
}

/// What `check` says in a sandbox like that of the agent.
fn check_within(sandbox: &[&str]) -> String {
    let check = ["--", "/bin/herder-agent", "check", "--config", "/tmp/rules.yaml"];
    let output = role("confined", &[sandbox, &check].concat()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// systemd's `RestrictSUIDSGID=` and older seccomp profiles refuse what newer kernels have: the
/// agent has another way for each, and `check` finds out by the same.
fn sandbox_that_refuses_calls() {
    let calls =
        "openat2,statx,faccessat2,renameat2,close_range,sched_getattr,sched_setattr,rseq,prctl";
    for (error, more) in [("ENOSYS", ",clone3"), ("EPERM", "")] {
        let before = Cgroup::make("/matched/c1");
        before.set("memory.oom.group", "1");
        let refuse = format!("refuse={error}:{calls}{more}");
        let sandbox = [&capabilities()[..], &[&refuse]].concat();
        let flags = ["--state-file", "/tmp/sandbox.json"];
        let mut agent = Agent::spawn(MATCHED, &flags, &sandbox);
        agent.wait_until_ready();
        let after = Cgroup::make("/matched/c2");
        for cgroup in [&before, &after] {
            for _ in 0..3 {
                eventually("it is enforced", || cgroup.oom_group() == "0");
                cgroup.set("memory.oom.group", "1");
            }
        }
        sub_process_dies(&agent, "/matched/c3");
        assert_eq!(agent.total("herder_not_enforceable"), 0.0, "{}", Agent::log());
        before.set("memory.oom.group", "1");
        let check = check_within(&sandbox);
        assert!(check.contains("ok    enforcement") && check.contains("/matched/c1"), "{check}");
        agent.assert_nothing_lost();
        assert!(agent.stop().success());
        assert!(fs::exists("/tmp/sandbox.json").unwrap(), "{}", Agent::log());
        fs::remove_file("/tmp/sandbox.json").unwrap();
        for path in ["/matched/c1", "/matched/c2"] {
            Cgroup::make(path).remove();
        }
    }
}

/// Where inotify itself is refused, that is what is told, and the resync enforces.
fn sandbox_without_inotify() {
    let sandbox = [&capabilities()[..], &["refuse=EPERM:inotify_init1"]].concat();
    let mut agent = Agent::spawn(MATCHED, &["--resync-seconds", "1"], &sandbox);
    agent.wait_until_ready();
    let cgroup = Cgroup::make("/matched/c1");
    for _ in 0..2 {
        cgroup.set("memory.oom.group", "1");
        eventually("the resync finds it", || cgroup.oom_group() == "0");
    }
    assert_eq!(agent.metric(r#"herder_not_enforceable{reason="no-watch"}"#), 1.0);
    assert!(Agent::log().contains("allow inotify in the seccomp profile"), "{}", Agent::log());
    let check = check_within(&sandbox);
    assert!(check.contains("warn  enforcement") && check.contains("no-watch"), "{check}");
}

/// As `DynamicUser=` has it: nothing can be enforced, and both say why and what helps. Also of a
/// value that happens to be right.
fn another_user() {
    Cgroup::make("/matched/c1").set("memory.oom.group", "1");
    Cgroup::make("/matched/c2");
    let sandbox = ["uid=1234", "refuse=ENOSYS:openat2"];
    let mut agent = Agent::spawn(MATCHED, &[], &sandbox);
    agent.wait_until_ready();
    let why = "the agent runs as uid 1234 and the file belongs to uid 0; run as uid 0";
    eventually("it is told", || Agent::log().contains(why));
    eventually("it is counted", || {
        agent.metric(r#"herder_not_enforceable{reason="read-only"}"#) == 2.0
    });
    let state = agent.container("/matched/c1").unwrap();
    assert_eq!((&state["obstacle"], &state["effective"]), (&"read-only".into(), &1.into()));
    let check = check_within(&sandbox);
    assert!(check.contains("warn  enforcement") && check.contains(why), "{check}");
}

pub fn sub_process_dies(agent: &Agent, path: &str) {
    let before = agent.kills().len();
    let container = Container::start(path, 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(before + 1);
    let told = [&kills[before]["kind"], &kills[before]["cgroup"]];
    assert_eq!(told, ["subprocess", path], "{:#}", kills[before]);
    drop(container);
}

/// The slow resync is what corrects then, and each container says so; until there is one.
fn no_inotify_instance() {
    let none = Sysctl::set("fs.inotify.max_user_instances", "0");
    let agent = Agent::start_with(MATCHED, &["--resync-seconds", "1"]);
    let cgroup = Cgroup::make("/matched/c1");
    cgroup.set("memory.oom.group", "1");
    eventually("the resync corrects", || cgroup.oom_group() == "0");
    eventually("that is told", || {
        let state = agent.container("/matched/c1").unwrap();
        state["obstacle"] == "no-watch" && state["explanation"].to_string().contains("instances")
    });
    assert_eq!(agent.metric("herder_config_watched"), 0.0);
    assert!(agent.metric("herder_config_watch_failures_total") >= 1.0);
    drop(none);
    let state = || agent.container("/matched/c1").unwrap();
    eventually("it is watched as soon as that can be", || state()["obstacle"].is_null());
    eventually("so is the configuration", || agent.metric("herder_config_watched") == 1.0);
    cgroup.set("memory.oom.group", "1");
    eventually("a change is corrected", || cgroup.oom_group() == "0");
    Agent::reconfigure("rules: []");
    eventually("a change of the rules is noticed", || agent.container("/matched/c1").is_none());
    let _container = Container::start("/unmatched", 60, &["hog:100"]);
    agent.wait_for_kills(1);
    agent.assert_nothing_lost();
}

fn no_watch_left() {
    let agent = Agent::start_with(MATCHED, &["--resync-seconds", "1"]);
    let none = Sysctl::set("fs.inotify.max_user_watches", "0");
    let cgroup = Cgroup::make("/matched/c1");
    cgroup.set("memory.oom.group", "1");
    eventually("the resync corrects", || cgroup.oom_group() == "0");
    let state = || agent.container("/matched/c1").unwrap();
    eventually("that is told", || {
        state()["obstacle"] == "no-watch" && state()["explanation"].to_string().contains("watches")
    });
    drop(none);
    eventually("it is watched as soon as that can be", || state()["obstacle"].is_null());
    agent.assert_nothing_lost();
}

/// Each matched container takes a descriptor. The last ones are for the server: the
/// kubelet has to be answered.
fn no_descriptor_left() {
    let files = Some(256);
    setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files }).unwrap();
    let agent = Agent::start_with(MATCHED, &["--resync-seconds", "1"]);
    let cgroups: Vec<_> =
        (0..200).map(|number| Cgroup::make(&format!("/matched/c{number}"))).collect();
    let text = || agent.get("/api/v1/containers");
    let refused = || text().matches("LimitNOFILE").count();
    eventually("all are known", || text().matches("\"rule\":\"matched\"").count() == 200);
    let without = refused();
    assert!((20..=150).contains(&without), "{without} of 200 have no descriptor");
    sub_process_dies(&agent, "/matched/c0");
    for cgroup in &cgroups[..150] {
        cgroup.remove();
    }
    eventually("they get one when others are gone", || refused() == 0);
    agent.assert_nothing_lost();
}

fn clock_steps_back() {
    let agent = Agent::start(MATCHED);
    sub_process_dies(&agent, "/matched/c1");
    let now = clock_gettime(ClockId::Realtime);
    let earlier = Timespec { tv_sec: now.tv_sec - 3600, ..now };
    clock_settime(ClockId::Realtime, earlier).unwrap();
    sub_process_dies(&agent, "/matched/c2");
    clock_settime(ClockId::Realtime, Timespec { tv_sec: now.tv_sec + 10, ..now }).unwrap();
    sub_process_dies(&agent, "/matched/c3");
    let within = agent.metric("herder_kill_report_seconds_bucket{le=\"10\"}");
    let all = agent.metric("herder_kill_report_seconds_count");
    assert_eq!((within, all), (3.0, 3.0), "no latency is taken from a clock that steps");
    agent.assert_nothing_lost();
}

/// Whoever collects the log has stopped. Enforcement and reports go on.
fn nobody_reads_the_log() {
    let mut agent =
        Agent::spawn_with(MATCHED, &[], &capabilities(), [Stdio::piped(), Stdio::null()]);
    let pipe = agent.output();
    agent.wait_until_ready();
    let cgroup = Cgroup::make("/matched/c1");
    eventually("it is governed", || agent.container("/matched/c1").is_some());
    for _ in 0..1000 {
        cgroup.set("memory.oom.group", "1");
        eventually("it is corrected", || cgroup.oom_group() == "0");
    }
    sub_process_dies(&agent, "/matched/c2");
    agent.assert_nothing_lost();
    let mut buffer = [0; 64 << 10];
    let mut pipe = pipe;
    assert!(pipe.read(&mut buffer).unwrap() > 32 << 10, "the pipe was full");
    assert_eq!(agent.total("herder_oom_group_reverts_total"), 999.0);
}

/// Most of a node's cgroups are none of the agent's business.
fn five_thousand_cgroups() {
    for slice in 0..50 {
        for scope in 0..100 {
            fs::create_dir_all(format!("/sys/fs/cgroup/plain/s{slice}.slice/c{scope}.scope"))
                .unwrap();
        }
    }
    let began = Instant::now();
    let agent = Agent::start(MATCHED);
    let took = began.elapsed().as_secs_f64();
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let rss = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    say(&format!("with 5,050 other cgroups: ready in {took:.2} s, {rss}"));
    sub_process_dies(&agent, "/matched/c1");
    agent.assert_nothing_lost();
}

/// Containers as short as a job that fails at once, some by the OOM killer.
fn containers_come_and_go() {
    const CONTAINERS: u32 = 200;
    let agent = Agent::start(MATCHED);
    Cgroup::make("/matched/first");
    let began = Instant::now();
    let killed: usize = thread::scope(|scope| {
        let worker = |worker: u32| {
            let mut killed = 0;
            for number in 0..CONTAINERS / 4 {
                let cgroup = Cgroup::make(&format!("/matched/w{worker}-{number}"));
                cgroup.limit(20);
                cgroup.set("memory.oom.group", "1");
                let program: &[&str] = if number % 5 == 0 { &["hog", "40"] } else { &["brief"] };
                let mut child: Child =
                    role("enter", &[cgroup.path()]).args(program).spawn().unwrap();
                killed += usize::from(child.wait().unwrap().code().is_none());
                cgroup.remove();
            }
            killed
        };
        let workers: Vec<_> = (0..4).map(|number| scope.spawn(move || worker(number))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    let rate = f64::from(CONTAINERS) / began.elapsed().as_secs_f64();
    say(&format!("{CONTAINERS} containers, {rate:.0} a second, {killed} of them killed"));
    let kills = agent.wait_for_kills(killed);
    assert!(killed >= 40, "{killed}");
    for kill in &kills {
        assert_eq!(kill["rule"], "matched", "{kill:#}");
    }
    eventually("only the first is left", || {
        agent.get("/api/v1/containers").matches("\"rule\":\"matched\"").count() == 1
    });
    agent.assert_nothing_lost();
}

/// Kills that the last agent has logged.
pub fn told_in_log() -> usize {
    Agent::log().matches("OOM kill.").count()
}

/// Containers of a storm, and kills in each. An emulated kernel kills ten to twenty
/// processes a second.
const CONTAINERS: usize = 50;
const KILLS: usize = 5;

/// Sub-processes of many containers, some with threads, die as fast as the kernel kills. What each init
/// reaped is the truth, and the metrics, the log and the API agree with it.
fn storm() {
    let agent = Agent::start(MATCHED);
    let name = |number| (format!("/matched/c{number}"), format!("/tmp/storm-{number}"));
    let containers = storm_in((0..CONTAINERS).map(name), KILLS);
    let began = Instant::now();
    for (path, notes) in (0..CONTAINERS).map(name) {
        eventually(&format!("{path} is through"), || {
            fs::read_to_string(&notes).is_ok_and(|text| text == KILLS.to_string())
        });
    }
    let rate = (CONTAINERS * KILLS) as f64 / began.elapsed().as_secs_f64();
    say(&format!("{} kills in {CONTAINERS} containers, {rate:.0} a second", CONTAINERS * KILLS));
    say(&agent.median("herder_kill_report_seconds"));
    let metrics = || agent.get("/metrics");
    eventually("all are counted", || {
        agent.total("herder_host_oom_kills_total") == (CONTAINERS * KILLS) as f64
    });
    let text = metrics();
    eventually("all are in the log", || told_in_log() == CONTAINERS * KILLS);
    let (kills, log) = (agent.kills(), Agent::log());
    let lines: Vec<_> = log.lines().filter(|line| line.contains("OOM kill.")).collect();
    for (number, container) in containers.iter().enumerate() {
        let (path, _) = name(number);
        let series = format!(
            "herder_host_oom_kills_total{{cgroup=\"{path}\",kind=\"subprocess\",limit=\"container\"}} {KILLS}"
        );
        assert!(text.lines().any(|line| line == series), "no {series} in:\n{text}");
        assert_eq!(container.cgroup.event("oom_kill"), KILLS as u64, "{path}");
        let of_it = |kill: &&Value| kill["cgroup"] == path && kill["kind"] == "subprocess";
        assert_eq!(kills.iter().filter(of_it).count(), KILLS, "{path} in the API");
        let named = format!("cgroup={path:?}");
        let in_log = lines.iter().filter(|line| line.contains(&named)).count();
        assert_eq!(in_log, KILLS, "{named} in the log");
    }
    // Until the kernel's counts have been compared.
    thread::sleep(Duration::from_secs(6));
    agent.assert_nothing_lost();
}

/// A file that tells the inits of a storm to begin.
pub const GO: &str = "/tmp/go";

/// A storm in containers of these paths, with the files that their inits write. It begins
/// when all are steered, since no runtime leaves time here between the 1 and the program,
/// and a kill before the 0 would take the whole container, its init too.
pub fn storm_in(all: impl Iterator<Item = (String, String)>, kills: usize) -> Vec<Container> {
    let _ = fs::remove_file(GO);
    let start = |(path, notes): (String, String)| {
        // What an earlier storm has left would be taken for this one's.
        let _ = fs::remove_file(&notes);
        let threads = if path.ends_with('5') { "threads" } else { "one" };
        Container::start_program(&path, 6, &["storm", &notes, &kills.to_string(), threads])
    };
    let containers: Vec<_> = all.map(start).collect();
    eventually("all are steered", || {
        containers.iter().all(|container| container.cgroup.oom_group() == "0")
    });
    fs::write(GO, "").unwrap();
    containers
}

/// Takes memory until it is killed.
pub fn grow() -> ! {
    let mut memory = Vec::new();
    loop {
        memory.push(vec![1u8; 1 << 20]);
        std::hint::black_box(&memory);
    }
}

/// The same with threads that all do.
fn grow_in_threads() -> ! {
    for _ in 0..4 {
        thread::spawn(|| grow());
    }
    grow()
}

/// The role of [`storm`]: an init whose children grow until they are killed, one
/// after the other. All begin at once, or else the last could not even start.
pub fn storm_init(rest: &[&str]) -> ExitCode {
    while !Path::new(GO).exists() {
        thread::sleep(Duration::from_millis(100));
    }
    let (notes, kills) = (rest[0], rest[1].parse::<usize>().unwrap());
    let victim = if rest.get(2) == Some(&"threads") { grow_in_threads } else { grow };
    let mut killed = 0;
    while killed < kills {
        killed += usize::from(crate::system::child_is_killed(victim));
        fs::write(notes, killed.to_string()).unwrap();
    }
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}
