//! Does the agent tell each kill right?

use crate::{
    Test,
    agent::{Agent, MATCHED, alive, eventually, within},
    container::{Cgroup, Container, hog_below, run_in},
    say,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        process::ExitStatusExt,
    },
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

pub const TESTS: &[Test] = &[
    ("subprocess_kill", subprocess_kill),
    ("continuing_kills", continuing_kills),
    ("group_kill", group_kill),
    ("group_kill_of_a_container", group_kill_of_a_container),
    ("group_kill_of_one", group_kill_of_one),
    ("group_kill_inside", group_kill_inside),
    ("init_is_the_victim", init_is_the_victim),
    ("unkillable_member_survives", unkillable_member_survives),
    ("limit_of_the_pod", limit_of_the_pod),
    ("limit_that_is_only_a_sum", limit_that_is_only_a_sum),
    ("node_out_of_memory", node_out_of_memory),
    ("leader_has_exited", leader_has_exited),
    ("many_threads", many_threads),
    ("memory_is_shared", memory_is_shared),
    ("dying_task_is_no_kill", dying_task_is_no_kill),
    ("late_kill_of_a_removed_cgroup", late_kill_of_a_removed_cgroup),
    ("without_btf", without_btf),
    ("victim_is_described", victim_is_described),
    ("losses_are_counted", losses_are_counted),
    ("names_that_are_no_text", names_that_are_no_text),
];

pub fn assert_kill(kill: &Value, kind: &str, limit: &str, cgroup: &str) {
    let told = [&kill["kind"], &kill["limit"], &kill["cgroup"]];
    assert_eq!(told, [kind, limit, cgroup], "{kill:#}");
}

fn rss(kill: &Value) -> u64 {
    kill["victim"]["anon_rss"].as_u64().unwrap() >> 20
}

/// One process of a steered container dies, and only that one.
fn subprocess_kill() {
    let agent = Agent::start(MATCHED);
    let mut container = Container::start("/matched/c1", 100, &["idle", "idle", "hog:200"]);
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "subprocess", "container", "/matched/c1");
    assert_eq!(kills[0]["rule"], "matched");
    assert_eq!(kills[0]["processes"], 1);
    assert!(kills[0]["victim"]["ns_pid"].as_u64().unwrap() > 1);
    assert!((50..=100).contains(&rss(&kills[0])), "{:#}", kills[0]);
    assert_eq!(kills[0]["trigger"]["cgroup_id"], container.cgroup.id());
    let victim = u32::try_from(kills[0]["victim"]["pid"].as_u64().unwrap()).unwrap();
    assert!(!alive(victim) && alive(container.init()) && !container.ended());
    assert_eq!(container.cgroup.processes().len(), 3, "the init and its other children");
    assert_eq!(container.cgroup.oom_group(), "0");
    let series =
        r#"herder_host_oom_kills_total{cgroup="/matched/c1",kind="subprocess",limit="container"}"#;
    assert_eq!(agent.metric(series), 1.0);
    assert_eq!(agent.metric(r#"herder_host_oom_group{cgroup="/matched/c1"}"#), 0.0);
    eventually("the exit is told", || agent.metric("herder_victim_exit_seconds_count") == 1.0);
    assert_eq!(agent.metric("herder_kill_report_seconds_count"), 1.0);
    agent.assert_nothing_lost();
}

/// The use for which the product exists: children die for half a minute, the init
/// never. What the init saw die is the truth for what the agent tells.
fn continuing_kills() {
    let agent = Agent::start(MATCHED);
    let mut container = Container::start("/matched/c1", 80, &["grower:4!", "grower:3!", "idle"]);
    let init = container.init();
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        assert!(!container.ended(), "the container ended");
        sleep(Duration::from_millis(100));
    }
    assert_eq!(container.init(), init);
    // Stop the growth, then compare.
    container.cgroup.set("memory.max", "max");
    sleep(Duration::from_secs(2));
    let (deaths, kills) = (container.deaths(), agent.kills());
    assert!(deaths >= 3, "only {deaths} kills in half a minute");
    assert_eq!(kills.len(), deaths);
    assert_eq!(container.cgroup.event("oom_kill"), u64::try_from(deaths).unwrap());
    for kill in &kills {
        assert_kill(kill, "subprocess", "container", "/matched/c1");
    }
    say(&agent.median("herder_kill_report_seconds"));
    say(&agent.median("herder_victim_exit_seconds"));
    agent.assert_nothing_lost();
}

/// An unmatched cgroup dies whole: one kill, three processes.
fn group_kill() {
    let agent = Agent::start(MATCHED);
    let cgroup = Cgroup::make("/unmatched");
    cgroup.limit(100);
    cgroup.set("memory.oom.group", "1");
    let mut members: Vec<_> = ["idle", "idle"].map(|role| run_in(&cgroup, &[role])).into();
    eventually("both are in", || cgroup.processes().len() == 2);
    members.push(run_in(&cgroup, &["hog", "200"]));
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "group", "container", "/unmatched");
    assert_eq!(kills[0]["processes"], 3, "{:#}", kills[0]);
    assert_eq!(kills[0]["rule"], Value::Null);
    for member in &mut members {
        assert_eq!(member.wait().unwrap().signal(), Some(9));
    }
    agent.assert_nothing_lost();
}

/// A container dies whole. Its init is among the group, and when that goes, the
/// kernel kills the rest of the namespace too: some members may be gone before
/// they are marked, and only those that were marked are told.
fn group_kill_of_a_container() {
    let agent = Agent::start(MATCHED);
    let mut container = Container::start("/unmatched", 100, &["idle", "hog:200"]);
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "group", "container", "/unmatched");
    let processes = kills[0]["processes"].as_u64().unwrap();
    assert!((1..=3).contains(&processes), "{:#}", kills[0]);
    eventually("the container ended", || container.cgroup.processes().is_empty());
    eventually("its init is reaped", || container.ended());
    agent.assert_nothing_lost();
}

/// With one process a group kill looks like any other, but is none.
fn group_kill_of_one() {
    let agent = Agent::start(MATCHED);
    let _container = Container::start_program("/unmatched", 50, &["hog", "100"]);
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "group", "container", "/unmatched");
    assert_eq!(kills[0]["processes"], 1);
    agent.assert_nothing_lost();
}

/// A container has made a cgroup that is killed as a group. It lives on, unless its init is
/// in that. Neither is its value the agent's.
fn group_kill_inside() {
    let agent = Agent::start(MATCHED);
    for (number, path) in (1..).zip(["/matched/c1", "/matched/c2"]) {
        let init_in_job = number == 2;
        let (mut container, job) = Container::start_with_job(path, init_in_job);
        let whole = Cgroup::made(path);
        eventually("the container's own is 0", || whole.oom_group() == "0");
        run_in(&job, &["hog", "100"]).wait().unwrap();
        let kill = &agent.wait_for_kills(number)[number - 1];
        assert_kill(kill, "group", "container", job.path());
        assert_eq!([&kill["group_cgroup"], &kill["rule"]], [job.path(), "matched"], "{kill:#}");
        let processes = kill["processes"].as_u64().unwrap();
        if init_in_job {
            // When the init goes, the kernel ends what it has not marked yet.
            assert!((2..=4).contains(&processes), "{kill:#}");
            eventually("the container ended", || container.ended());
        } else {
            assert_eq!(processes, 3, "{kill:#}");
            eventually("both were reaped", || container.deaths() == 2);
            let lives_on = r#"herder_host_oom_kills_total{cgroup="/matched/c1",kind="subprocess",limit="container"}"#;
            assert_eq!(agent.metric(lives_on), 1.0);
            assert!(alive(container.init()) && !container.ended());
        }
        assert_eq!(job.oom_group(), "1", "not the agent's");
    }
    agent.assert_nothing_lost();
}

/// The init dies, and with it, unmarked, all of its namespace.
fn init_is_the_victim() {
    let agent = Agent::start(MATCHED);
    let mut container = Container::start_program("/matched/c1", 60, &["greedy-init", "100"]);
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "init", "container", "/matched/c1");
    assert_eq!((&kills[0]["processes"], &kills[0]["victim"]["ns_pid"]), (&1.into(), &1.into()));
    eventually("the container ended", || container.ended());
    eventually("its sibling died with it", || container.cgroup.processes().is_empty());
    agent.assert_nothing_lost();
}

/// A member with oom_score_adj -1000 is left out of a group kill.
fn unkillable_member_survives() {
    let agent = Agent::start(MATCHED);
    let cgroup = Cgroup::make("/unmatched");
    cgroup.limit(60);
    cgroup.set("memory.oom.group", "1");
    let mut protected = run_in(&cgroup, &["idle"]);
    fs::write(format!("/proc/{}/oom_score_adj", protected.id()), "-1000").unwrap();
    let mut idle = run_in(&cgroup, &["idle"]);
    eventually("both are in", || cgroup.processes().len() == 2);
    let mut hog = run_in(&cgroup, &["hog", "100"]);
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "group", "container", "/unmatched");
    assert_eq!(kills[0]["processes"], 2, "{:#}", kills[0]);
    assert!(alive(protected.id()));
    protected.kill().unwrap();
    for child in [&mut protected, &mut idle, &mut hog] {
        child.wait().unwrap();
    }
    agent.assert_nothing_lost();
}

/// The pod's limit is hit by an allocation in one container while the biggest
/// process is in another: the victim's container is told, not the trigger's.
fn limit_of_the_pod() {
    let agent =
        Agent::start("rules:\n- {name: m, cgroups: ['/pod/*'], oomGroup: single-process}\n");
    let pod = Cgroup::make("/pod");
    pod.limit(120);
    let victim = Container::start("/pod/c2", 1000, &["hog:90"]);
    eventually("the hog has grown", || {
        let current = fs::read_to_string(victim.cgroup.file("memory.current")).unwrap();
        current.trim().parse::<u64>().unwrap() > 90 << 20
    });
    let trigger = Container::start("/pod/c1", 1000, &["hog:60"]);
    // Before the victim's memory is free the limit may be hit once more.
    eventually("a kill", || !agent.kills().is_empty());
    let kills = agent.kills();
    assert_kill(&kills[0], "subprocess", "pod", "/pod/c2");
    assert_eq!(kills[0]["trigger"]["cgroup_id"], trigger.cgroup.id());
    assert!(alive(trigger.init()) && alive(victim.init()));
    agent.assert_nothing_lost();
}

/// The pod's limit is that of its only container, and is hit first since the pause
/// container counts too.
fn limit_that_is_only_a_sum() {
    let agent =
        Agent::start("rules:\n- {name: m, cgroups: ['/pod/*'], oomGroup: single-process}\n");
    let pod = Cgroup::make("/pod");
    pod.limit(60);
    let mut pause = run_in(&Cgroup::make("/pod/pause"), &["idle"]);
    let container = Container::start("/pod/c1", 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "subprocess", "container", "/pod/c1");
    let limits = ["limit_cgroup", "limit_bytes", "container_limit_bytes"].map(|key| &kills[0][key]);
    assert_eq!(limits, [&"/pod".into(), &Value::from(60 << 20), &Value::from(60 << 20)]);
    let events = fs::read_to_string(container.cgroup.file("memory.events.local")).unwrap();
    assert!(events.lines().any(|line| line == "oom 0"), "the kernel hit the pod's: {events}");
    pause.kill().unwrap();
    pause.wait().unwrap();
    agent.assert_nothing_lost();
}

/// Nobody has a limit, and the node is full.
fn node_out_of_memory() {
    let agent = Agent::start(MATCHED);
    let cgroup = Cgroup::make("/matched/c1");
    let mut hog = run_in(&cgroup, &["grower", "32"]);
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "subprocess", "node", "/matched/c1");
    hog.wait().unwrap();
    agent.assert_nothing_lost();
}

/// The kernel marks a thread that is not the leader, because the leader is gone.
fn leader_has_exited() {
    let agent = Agent::start(MATCHED);
    let cgroup = Cgroup::make("/matched/c1");
    cgroup.limit(60);
    let mut process = run_in(&cgroup, &["orphan-threads", "100"]);
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "subprocess", "container", "/matched/c1");
    let victim = &kills[0]["victim"];
    assert_eq!(victim["pid"], process.id());
    assert_ne!(victim["tid"], victim["pid"], "{victim:#}");
    process.wait().unwrap();
    agent.assert_nothing_lost();
}

/// Many threads hit the limit at once, and enter the OOM path while they die.
fn many_threads() {
    let agent = Agent::start(MATCHED);
    for round in 1..=5 {
        let cgroup = Cgroup::make("/matched/c1");
        cgroup.limit(40);
        let mut process = run_in(&cgroup, &["threads", "200"]);
        let kills = agent.wait_for_kills(round);
        let kill = &kills[round - 1];
        assert_kill(kill, "subprocess", "container", "/matched/c1");
        assert_eq!((&kill["processes"], &kill["victim"]["pid"]), (&1.into(), &process.id().into()));
        process.wait().unwrap();
        assert_eq!(cgroup.event("oom_kill"), 1);
        cgroup.remove();
    }
    agent.assert_nothing_lost();
}

/// Another process has the victim's memory for its own, without being its thread. It
/// is killed too, but the kernel neither marks nor counts it (`__oom_kill_process()`),
/// so it makes no second kill of one decision, and is no loss.
fn memory_is_shared() {
    let agent = Agent::start(MATCHED);
    let container = Container::start("/matched/c1", 60, &["idle", "sharing:100"]);
    let living = || container.cgroup.processes();
    eventually("the memory is shared", || living().len() == 4);
    let before = living();
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "subprocess", "container", "/matched/c1");
    assert_eq!(kills[0]["processes"], 1, "{:#}", kills[0]);
    let victim = u32::try_from(kills[0]["victim"]["pid"].as_u64().unwrap()).unwrap();
    eventually("both are dead", || living().len() == 2);
    let dead: Vec<_> = before.into_iter().filter(|pid| !living().contains(pid)).collect();
    assert!(dead.contains(&victim), "{victim} of {dead:?}");
    assert_eq!(container.cgroup.event("oom_kill"), 1);
    agent.assert_nothing_lost();
}

/// A process that is killed by somebody else, and hits its limit while it dies,
/// may be marked; it is no OOM kill unless the kernel counts one.
fn dying_task_is_no_kill() {
    let agent = Agent::start(MATCHED);
    // In the first second the decision of a mark may have begun before the agent looked.
    sleep(Duration::from_millis(1200));
    let mut expected = 0;
    for _ in 0..10 {
        let cgroup = Cgroup::make("/matched/c1");
        cgroup.limit(60);
        let mut process = run_in(&cgroup, &["threads", "50"]);
        sleep(Duration::from_millis(150));
        // Shrinking the limit below what is used puts it into the OOM path just
        // when it is killed.
        let pid = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        let _ = fs::write(cgroup.file("memory.max"), "1M");
        process.wait().unwrap();
        expected += usize::try_from(cgroup.event("oom_kill")).unwrap();
        cgroup.remove();
    }
    agent.wait_for_kills(expected);
    say(&format!(
        "of 10 dying processes {expected} were OOM kills, {} marks were none",
        agent.total("herder_marks_ignored_total")
    ));
    agent.assert_nothing_lost();
}

/// The cgroup is removed the moment its last process is gone.
fn late_kill_of_a_removed_cgroup() {
    let agent = Agent::start(MATCHED);
    for round in 1..=10 {
        let path = format!("/short{round}");
        let cgroup = Cgroup::make(&path);
        cgroup.limit(30);
        cgroup.set("memory.oom.group", "1");
        let mut hog = run_in(&cgroup, &["hog", "60"]);
        hog.wait().unwrap();
        while fs::remove_dir(format!("/sys/fs/cgroup{path}")).is_err() {}
    }
    let kills = agent.wait_for_kills(10);
    for (number, kill) in kills.iter().enumerate() {
        assert_kill(kill, "group", "container", &format!("/short{}", number + 1));
    }
    agent.assert_nothing_lost();
}

/// Whoever owns a cgroup names those in it by any bytes. A kill in one is its container's,
/// a rule matches it like any other, and nobody can fill the log by making them.
fn names_that_are_no_text() {
    let agent = Agent::start(MATCHED);
    let container = Container::start("/matched/c1", 60, &["idle"]);
    let below = |name: &[u8]| {
        let path = [container.cgroup.file("").as_bytes(), name].concat();
        PathBuf::from(OsString::from_vec(path))
    };
    let names: [&[u8]; 3] = [b"\xff\xfe", b"a\x1b[31m\t\"'\\", &[b'n'; 255]];
    for (number, name) in names.into_iter().enumerate() {
        fs::create_dir(below(name)).unwrap();
        hog_below(&container.cgroup, &below(name)).wait().unwrap();
        let kill = &agent.wait_for_kills(number + 1)[number];
        let shown = kill["cgroup"].as_str().unwrap();
        assert!(shown.starts_with("/matched/c1/"), "{shown:?}");
        assert!(!shown.contains(|letter: char| letter.is_control()), "{shown:?}");
        assert_kill(kill, "subprocess", "container", shown);
        assert_eq!(kill["rule"], "matched");
    }
    let series =
        r#"herder_host_oom_kills_total{cgroup="/matched/c1",kind="subprocess",limit="container"}"#;
    assert_eq!(agent.metric(series), 3.0);
    let matched = PathBuf::from(OsString::from_vec(b"/sys/fs/cgroup/matched/\xff".to_vec()));
    fs::create_dir(&matched).unwrap();
    let value = || fs::read_to_string(matched.join("memory.oom.group")).unwrap();
    fs::write(matched.join("memory.oom.group"), "1").unwrap();
    eventually("it is enforced", || value() == "0\n");
    assert!(agent.container("/matched/\\xff").is_some());
    assert!(agent.get("/metrics").contains(r#"herder_host_oom_group{cgroup="/matched/\\xff"} 0"#));
    // As deep as names of this length go, and further than the kernel tells.
    let mut deep = below(b"\xff\xfe");
    while deep.as_os_str().len() < 3500 {
        deep.push(OsStr::from_bytes(&[0xfe; 200]));
        fs::create_dir(&deep).unwrap();
    }
    hog_below(&container.cgroup, &deep).wait().unwrap();
    let kill = &agent.wait_for_kills(4)[3];
    assert_eq!([&kill["rule"], &kill["limit"]], ["matched", "container"]);
    let lines = || Agent::log().lines().count();
    let before = lines();
    for _ in 0..100 {
        fs::create_dir(below(b"again\xff")).unwrap();
        fs::remove_dir(below(b"again\xff")).unwrap();
        fs::create_dir(deep.join("x")).unwrap();
        fs::remove_dir(deep.join("x")).unwrap();
    }
    sleep(Duration::from_millis(500));
    assert!(lines() <= before + 1, "{}", Agent::log());
    agent.assert_nothing_lost();
}

/// A kernel without BTF: no offsets, no decisions. Victims are described when
/// they exit; container and kind are still right, the limit is not known.
fn without_btf() {
    let agent = Agent::start_with(MATCHED, &["--no-btf", "--resync-seconds", "1"]);
    let matched = Container::start("/matched/c1", 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    // Counts of the cgroups say what no program can.
    assert_kill(&kills[0], "subprocess", "container", "/matched/c1");
    assert!(alive(matched.init()));
    let _group = Container::start("/unmatched", 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(2);
    assert_kill(&kills[1], "group", "container", "/unmatched");
    assert_eq!(agent.total("herder_kills_lost_total"), 0.0);
}

/// Every field of the victim, as the process itself arranged it: who it is, what it
/// has of each kind of memory.
fn victim_is_described() {
    let agent = Agent::start(MATCHED);
    let cgroup = Cgroup::make("/matched/c1");
    cgroup.limit(100);
    let mut process = run_in(&cgroup, &["described", "30", "16", "8"]);
    eventually("it has what it is told to have", || {
        let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
        status.contains("Uid:\t1234\t") && kib(&status, "RssShmem:") >= 16 << 10
    });
    fs::write(format!("/proc/{}/oom_score_adj", process.id()), "77").unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    cgroup.limit(20);
    let kills = agent.wait_for_kills(1);
    let victim = &kills[0]["victim"];
    assert_eq!((&victim["pid"], &victim["tid"]), (&process.id().into(), &process.id().into()));
    assert_eq!((&victim["uid"], &victim["oom_score_adj"]), (&1234.into(), &77.into()));
    assert_eq!(victim["comm"], "init", "{victim:#}");
    for (field, line) in [
        ("anon_rss", "RssAnon:"),
        ("file_rss", "RssFile:"),
        ("shmem_rss", "RssShmem:"),
        ("total_vm", "VmSize:"),
    ] {
        let (told, before) = (victim[field].as_u64().unwrap() >> 10, kib(&status, line));
        // Its pages of files may be taken from it, and each counter of the kernel
        // lags by a batch for each processor.
        let least = if field == "file_rss" { 0 } else { before.saturating_sub(1024) };
        assert!((least..=before + 1024).contains(&told), "{field}: {told}, was {before} KiB");
    }
    process.wait().unwrap();
    agent.assert_nothing_lost();
}

fn kib(status: &str, line: &str) -> u64 {
    let found = status.lines().find_map(|found| found.strip_prefix(line));
    found.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

/// The ring buffer is too small and the agent does not get to run: what does not
/// fit is counted, each victim once, and the rest is told.
fn losses_are_counted() {
    const MEMBERS: u32 = 60;
    let rules = "rules:\n- {name: g, cgroups: ['/matched/*'], oomGroup: group}\n";
    let agent = Agent::start_with(rules, &["--kill-ring-bytes", "4096"]);
    let cgroup = Cgroup::make("/matched/c1");
    cgroup.limit(200);
    eventually("it is a group", || cgroup.oom_group() == "1");
    let mut members: Vec<_> = (1..MEMBERS).map(|_| run_in(&cgroup, &["idle"])).collect();
    eventually("all are in", || cgroup.processes().len() == members.len());
    agent.pause();
    members.push(run_in(&cgroup, &["hog", "400"]));
    for member in &mut members {
        assert_eq!(member.wait().unwrap().signal(), Some(9));
    }
    agent.resume();
    eventually("a kill is told", || !agent.kills().is_empty());
    let told = || agent.kills().iter().map(|kill| kill["processes"].as_u64().unwrap()).sum::<u64>();
    eventually("all are accounted for", || {
        u64::from(MEMBERS) == told() + counted(agent.total("herder_kills_lost_total"))
    });
    let (told, records) = (told(), agent.total("herder_records_lost_total"));
    say(&format!(
        "of {MEMBERS} victims {told} told, the others lost; {records} other records lost"
    ));
    assert!(told > 0 && told < u64::from(MEMBERS), "{told}");
    // The kernel's own count says the same. It may have the chosen victim twice, and
    // then one of the lost is taken for that.
    let lost = u64::from(MEMBERS) - told;
    let unseen = || counted(agent.metric(r#"herder_kills_unseen_total{reason="missed"}"#));
    // Where victims are described at their exit, that is waited for first.
    within(Duration::from_secs(100), "the kernel's count is compared", || unseen() > 0);
    assert!([lost - 1, lost].contains(&unseen()), "{} unseen, {lost} lost", unseen());
    assert_eq!(agent.kills().len(), 1, "{:#?}", agent.kills());
    assert!(Agent::log().contains("victim-ring-full"), "{}", Agent::log());
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
fn counted(metric: f64) -> u64 {
    metric as u64
}
