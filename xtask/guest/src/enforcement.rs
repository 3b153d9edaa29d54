//! Does the agent keep memory.oom.group, there and nowhere else?

use crate::{
    Test,
    agent::{Agent, MATCHED, capabilities, eventually},
    audit::Audit,
    bench::http,
    container::{Cgroup, Container, run_in},
    roles::role,
    say,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::process::CommandExt,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, sleep},
    time::Duration,
};

/// What depends on milliseconds, and so on nothing else being emulated beside it.
pub const TIMED: &[Test] = &[
    ("thousand_reverts", thousand_reverts),
    ("created_like_runc", created_like_runc),
    ("created_on_a_busy_node", created_on_a_busy_node),
    ("created_with_little_weight", created_with_little_weight),
];

pub const TESTS: &[Test] = &[
    ("unmatched_are_never_written", unmatched_are_never_written),
    ("rules_change", rules_change),
    ("existing_containers_and_the_end", existing_containers_and_the_end),
    ("dry_run", dry_run),
    ("crun_subgroup", crun_subgroup),
    ("obstacles", obstacles),
];

/// What another program does that never ends.
pub const ENDLESS: &[Test] = &[("fight_without_end", fight_without_end)];

/// Another process writes 1, and again as soon as it is back to 0.
fn thousand_reverts() {
    let agent = Agent::start(MATCHED);
    let cgroup = Cgroup::make("/matched/c1");
    eventually("it is governed", || agent.container("/matched/c1").is_some());
    write_one(&cgroup, 1001);
    eventually("all are counted", || {
        agent.metric(r#"herder_oom_group_writes_total{result="ok",rule="matched"}"#) == 1001.0
    });
    // The first write is what the runtime does at creation, and no revert.
    assert_eq!(agent.metric(r#"herder_oom_group_reverts_total{rule="matched"}"#), 1000.0);
    assert_eq!(agent.metric("herder_enforce_seconds_count"), 1001.0);
    say(&agent.median("herder_enforce_seconds"));
    let state = agent.container("/matched/c1").unwrap();
    assert_eq!((&state["reverts"], &state["first"]), (&1000.into(), &1.into()));
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

/// As runc makes a container: cgroup, process, limits, memory.oom.group=1 last;
/// some milliseconds later its program runs. It must never see the 1.
fn created_like_runc() {
    let agent = Agent::start(MATCHED);
    assert_eq!(creations_that_saw_one(200), 0, "programs that ran with 1, of 200");
    assert_eq!(agent.total("herder_oom_group_reverts_total"), 0.0);
}

/// The same while every CPU has more to do than it can. The scheduler may then
/// keep the agent waiting longer than the runtime takes, so how many ran with 1 is
/// a figure and no promise. What holds is that each is corrected, once.
fn created_on_a_busy_node() {
    let agent = Agent::start(MATCHED);
    let saw_one = while_others_spin(BUSY);
    say(&format!("on a busy node: {saw_one} of {BUSY} programs ran with 1"));
    let written = agent.metric(r#"herder_oom_group_writes_total{result="ok",rule="matched"}"#);
    let gone = agent.metric(r#"herder_oom_group_writes_total{result="gone",rule="matched"}"#);
    let all = f64::from(BUSY);
    assert!(written + gone <= all && written >= all * 0.75, "{written} written, {gone} gone");
    assert_eq!(agent.total("herder_oom_group_reverts_total"), 0.0);
}

/// The least weight that a request gives a pod's processes is enough if they may run before
/// ordinary ones, also while the long metrics of many containers are written for somebody.
/// `cargo xtask bench --only busy` tells how it is without that.
fn created_with_little_weight() {
    for number in 0..450 {
        Cgroup::make(&format!("/matched/other-{number}"));
    }
    let busy = || while_asked(|| while_others_spin(BUSY));
    let saw_one = saw_one_with_weight("1", &["sys_nice"], busy);
    say(&format!("with little weight: {saw_one} of {BUSY} programs ran with 1"));
    assert!(saw_one <= 3, "an emulated processor may stand still, but not that often");
}

/// How many programs saw a 1 with an agent whose cgroup has this CPU weight, and which has
/// these capabilities besides those that it needs.
pub fn saw_one_with_weight(weight: &str, more: &[&str], busy: impl FnOnce() -> usize) -> usize {
    let allowed = [&capabilities(), more].concat();
    let mut agent = Agent::spawn(MATCHED, &[], &allowed);
    agent.wait_until_ready();
    let root = Cgroup::made("/");
    root.set("cgroup.subtree_control", "+cpu");
    let pod = Cgroup::make("/agent");
    pod.set("cpu.weight", weight);
    pod.set("cgroup.procs", &agent.pid().to_string());
    let saw_one = busy();
    root.set("cgroup.procs", &agent.pid().to_string());
    root.set("cgroup.subtree_control", "-cpu");
    saw_one
}

/// Somebody asks for the metrics again and again meanwhile.
fn while_asked<T>(what: impl FnOnce() -> T) -> T {
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !ends.load(Ordering::Relaxed) {
                    let _ = http::get(9469, "/metrics");
                }
            });
        }
        let done = what();
        ends.store(true, Ordering::Relaxed);
        done
    })
}

/// Containers on a node whose processors all have more than enough to do; how many
/// programs saw a 1.
pub fn while_others_spin(containers: u32) -> usize {
    let busy = Cgroup::make("/busy");
    let mut spinners: Vec<_> =
        (0..4).map(|_| role("enter", &[busy.path(), "spin"]).spawn().unwrap()).collect();
    let saw_one = creations_that_saw_one(containers);
    for spinner in &mut spinners {
        spinner.kill().unwrap();
        spinner.wait().unwrap();
    }
    saw_one
}

/// Containers on a busy node.
const BUSY: u32 = 60;

/// Containers, four at a time; how many programs saw a 1.
pub fn creations_that_saw_one(containers: u32) -> usize {
    Cgroup::make("/matched/first").remove();
    thread::scope(|scope| {
        let worker = move |worker: u32| {
            let mut saw_one = 0;
            for number in 0..containers / 4 {
                let path = format!("/matched/c{worker}-{number}");
                let status = role("like-runc", &[&path]).status().unwrap();
                assert!(matches!(status.code(), Some(0 | 1)), "{status:?}");
                saw_one += usize::from(status.code() == Some(1));
                Cgroup::made(&path).remove();
            }
            saw_one
        };
        let workers: Vec<_> = (0..4).map(|number| scope.spawn(move || worker(number))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    })
}

/// What real runtimes leave between their 1 and the start of the program, on the same
/// emulator: crun at least 30 ms, runc 65 (docs/runtimes.md).
const GAP: Duration = Duration::from_millis(30);

/// The role that plays runc's init for [`created_like_runc`].
pub fn like_runc(rest: &[&str]) -> ExitCode {
    let file = |name: &str| format!("/sys/fs/cgroup{}/{name}", rest[0]);
    fs::create_dir(format!("/sys/fs/cgroup{}", rest[0])).unwrap();
    fs::write(file("cgroup.procs"), "0").unwrap();
    fs::write(file("memory.max"), "100M").unwrap();
    fs::write(file("memory.oom.group"), "1").unwrap();
    sleep(GAP);
    panic!("{}", role("read-value", rest).exec());
}

/// The container's program: its first deed is to look.
pub fn read_value(rest: &[&str]) -> ExitCode {
    let value = fs::read_to_string(format!("/sys/fs/cgroup{}/memory.oom.group", rest[0])).unwrap();
    ExitCode::from(value.trim().parse::<u8>().unwrap())
}

/// Every write of the agent to the whole hierarchy, as the kernel tells it.
fn unmatched_are_never_written() {
    let agent = Agent::start(MATCHED);
    let audit = Audit::start("/sys/fs/cgroup");
    let paths = ["/matched/c1", "/matched/c1/inner", "/matched/c2", "/other/c1", "/matchedx"];
    let cgroups = paths.map(Cgroup::make);
    for _ in 0..20 {
        for cgroup in &cgroups {
            cgroup.set("memory.oom.group", "1");
        }
        sleep(Duration::from_millis(20));
    }
    let values = || cgroups.iter().map(Cgroup::oom_group).collect::<Vec<_>>();
    eventually("the matched are 0", || values() == ["0", "1", "0", "1", "1"]);
    let mut container = Container::start("/other/c2", 50, &["hog:100"]);
    eventually("the other died whole", || container.ended());
    // Values that come back are writes too, and so is what other rules want.
    Agent::reconfigure("rules: []");
    eventually("the matched are given back", || values() == ["1"; 5]);
    Agent::reconfigure(MATCHED);
    eventually("and are 0 again", || values() == ["0", "1", "0", "1", "1"]);
    let mut written = audit.files_written_by(agent.pid());
    written.sort();
    written.dedup();
    let expected =
        ["/matched/c1", "/matched/c2"].map(|path| format!("/sys/fs/cgroup{path}/memory.oom.group"));
    assert_eq!(written, expected);
}

/// Somebody writes 1 for ever: kills elsewhere are told all the same, and the
/// agent ends when it is asked to.
fn fight_without_end() {
    let mut agent = Agent::start(MATCHED);
    let fought = Cgroup::make("/matched/c1");
    let mut fighter = role("fight", &[fought.path()]).spawn().unwrap();
    eventually("they fight", || agent.total("herder_oom_group_reverts_total") > 100.0);
    let container = Container::start("/matched/c2", 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    assert_eq!([&kills[0]["kind"], &kills[0]["cgroup"]], ["subprocess", "/matched/c2"]);
    assert!(agent.container("/matched/c1").is_some(), "the core answers");
    agent.assert_nothing_lost();
    let reverts = || agent.total("herder_oom_group_reverts_total");
    eventually("the agent has had enough", || {
        let before = reverts();
        sleep(Duration::from_secs(1));
        reverts() - before < 20.0
    });
    assert!(reverts() > 1500.0, "only {} were answered", reverts());
    let (before, spent) = (reverts(), agent.total("process_cpu_seconds_total"));
    sleep(Duration::from_secs(5));
    let (answers, spent) = (reverts() - before, agent.total("process_cpu_seconds_total") - spent);
    say(&format!("in 5 s of a long fight: {answers} corrections, {spent:.2} s of CPU"));
    // Twenty a second at most; the host may make the seconds longer.
    assert!((10.0..=200.0).contains(&answers), "{answers} corrections in 5 s");
    let pid = Pid::from_raw(i32::try_from(fighter.id()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    eventually("the agent has the last word", || fought.oom_group() == "0");
    kill_process(pid, Signal::CONT).unwrap();
    assert!(agent.stop().success());
    fighter.kill().unwrap();
    fighter.wait().unwrap();
    drop(container);
}

/// The role of [`fight_without_end`].
pub fn fight(rest: &[&str]) -> ExitCode {
    loop {
        fs::write(format!("/sys/fs/cgroup{}/memory.oom.group", rest[0]), "1").unwrap();
    }
}

/// A rule goes: the value comes back. A bad configuration: nothing changes.
fn rules_change() {
    let agent = Agent::start(MATCHED);
    let cgroup = Cgroup::make("/matched/c1");
    cgroup.set("memory.oom.group", "1");
    eventually("it is enforced", || cgroup.oom_group() == "0");
    Agent::reconfigure("rules: [{name: broken}]");
    let errors = r#"herder_config_reloads_total{result="error"}"#;
    eventually("the mistake is counted", || agent.metric(errors) >= 1.0);
    assert!(Agent::log().contains("/tmp/rules.yaml:1:"), "with file and line");
    cgroup.set("memory.oom.group", "1");
    eventually("the old rule still holds", || cgroup.oom_group() == "0");
    let before = agent.metric(errors);
    Agent::reconfigure("");
    eventually("an emptied file is counted", || agent.metric(errors) == before + 1.0);
    assert!(Agent::log().contains("is empty; write"), "{}", Agent::log());
    cgroup.set("memory.oom.group", "1");
    eventually("the old rule still holds", || cgroup.oom_group() == "0");
    Agent::reconfigure("rules: []");
    eventually("the value comes back", || cgroup.oom_group() == "1");
    eventually("it is no longer listed", || agent.container("/matched/c1").is_none());
    agent.hang_up();
    let reloads = r#"herder_config_reloads_total{result="ok"}"#;
    eventually("SIGHUP reloads an unchanged file too", || agent.metric(reloads) == 2.0);
    cgroup.set("memory.oom.group", "0");
    Agent::reconfigure("rules:\n- {name: g, cgroups: ['/matched/*'], oomGroup: group}\n");
    eventually("another rule wants 1", || cgroup.oom_group() == "1");
}

/// What was there before the agent is enforced, and given back if asked.
fn existing_containers_and_the_end() {
    let cgroup = Cgroup::make("/matched/c1");
    for (flags, expected) in [(&["--restore-on-exit"][..], "1"), (&[][..], "0")] {
        cgroup.set("memory.oom.group", "1");
        let mut agent = Agent::start_with(MATCHED, flags);
        assert_eq!(cgroup.oom_group(), "0", "enforced before it is ready");
        assert!(agent.stop().success());
        assert_eq!(cgroup.oom_group(), expected, "{flags:?}");
    }
}

fn dry_run() {
    let cgroup = Cgroup::make("/matched/c1");
    cgroup.set("memory.oom.group", "1");
    let agent = Agent::start_with(MATCHED, &["--dry-run"]);
    assert_eq!(agent.metric(r#"herder_host_oom_group{cgroup="/matched/c1"}"#), 1.0);
    cgroup.set("memory.oom.group", "1");
    sleep(Duration::from_millis(300));
    assert_eq!(cgroup.oom_group(), "1");
    assert!(Agent::log().contains("would write"));
    assert_eq!(agent.total("herder_oom_group_writes_total"), 0.0);
}

/// crun writes to a cgroup inside of the scope; both count. What is deeper is the workload's
/// own, and so is one of that name where there is no scope.
fn crun_subgroup() {
    let agent = Agent::start(MATCHED);
    let paths = [
        "/matched/x.scope",
        "/matched/x.scope/container",
        "/matched/x.scope/container/deep",
        "/matched/b",
        "/matched/b/container",
    ];
    let cgroups = paths.map(Cgroup::make);
    for cgroup in &cgroups {
        cgroup.set("memory.oom.group", "1");
    }
    let values = || cgroups.iter().map(Cgroup::oom_group).collect::<Vec<_>>();
    eventually("both are 0", || values() == ["0", "0", "1", "0", "1"]);
    built_like_crun(&agent);
    let rows: Vec<_> = agent
        .containers()
        .iter()
        .map(|row| [&row["cgroup"], &row["inner_cgroup"]].map(|it| it.as_str().map(str::to_owned)))
        .collect();
    let row = |one: &str, inner: Option<&str>| [Some(one.to_owned()), inner.map(str::to_owned)];
    let expected = [
        row("/matched/b", None),
        row("/matched/x.scope", Some("/matched/x.scope/container")),
        row("/matched/z.scope", Some("/matched/z.scope/container")),
    ];
    assert_eq!(rows, expected, "each once");
    for inner in ["/matched/x.scope/container", "/matched/z.scope/container"] {
        assert!(!agent.get("/metrics").contains(inner), "{inner}");
    }
    let _container = Container::start("/matched/y.scope/container", 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    assert_eq!(
        [&kills[0]["kind"], &kills[0]["cgroup"]],
        ["subprocess", "/matched/y.scope/container"]
    );
    let series = r#"herder_host_oom_kills_total{cgroup="/matched/y.scope",kind="subprocess",limit="container"}"#;
    assert_eq!(agent.metric(series), 1.0);
}

/// crun moves the process into its cgroup first and enables the controller then, here a
/// second later. Until then nothing is amiss.
fn built_like_crun(agent: &Agent) {
    let scope = Cgroup::make("/matched/z.scope");
    let mut process = run_in(&scope, &["idle"]);
    eventually("it is in the scope", || scope.processes().len() == 1);
    let inner = Cgroup::made("/matched/z.scope/container");
    fs::create_dir(format!("/sys/fs/cgroup{}", inner.path())).unwrap();
    inner.set("cgroup.procs", &process.id().to_string());
    sleep(Duration::from_secs(1));
    let state = agent.container("/matched/z.scope").unwrap();
    assert_eq!((&state["obstacle"], &state["inner_cgroup"]), (&Value::Null, &Value::Null));
    scope.set("cgroup.subtree_control", "+memory");
    inner.set("memory.oom.group", "1");
    eventually("it is 0", || inner.oom_group() == "0");
    eventually("that is told", || {
        let state = agent.container("/matched/z.scope").unwrap();
        [&state["inner_cgroup"], &state["effective"]] == [&json!(inner.path()), &json!(0)]
    });
    assert!(!Agent::log().contains("is not enforceable"), "{}", Agent::log());
    assert_eq!(agent.total("herder_not_enforceable"), 0.0);
    process.kill().unwrap();
    process.wait().unwrap();
}

/// What stands in the way is told, and not touched.
fn obstacles() {
    let parent = Cgroup::make("/matched");
    let cgroup = Cgroup::make("/matched/c1.scope");
    parent.set("memory.oom.group", "1");
    let agent = Agent::start_with(MATCHED, &["--resync-seconds", "1"]);
    // It is ready before it has looked around each container.
    eventually("the cgroup above is told", || {
        agent.metric(r#"herder_not_enforceable{reason="ancestor"}"#) == 1.0
    });
    assert_eq!(parent.oom_group(), "1");
    parent.set("memory.oom.group", "0");
    fs::create_dir_all("/run/systemd/transient").unwrap();
    fs::write("/run/systemd/transient/c1.scope", "[Scope]\nDelegate=yes\nOOMPolicy=kill\n")
        .unwrap();
    eventually("systemd's policy is told", || {
        agent.metric(r#"herder_not_enforceable{reason="systemd-oom-policy"}"#) == 1.0
    });
    assert_eq!(agent.metric(r#"herder_not_enforceable{reason="ancestor"}"#), 0.0);
    assert_eq!(agent.container("/matched/c1.scope").unwrap()["obstacle"], "systemd-oom-policy");
    fs::remove_dir_all("/run/systemd").unwrap();
    drop(cgroup);
}
