//! Does the agent take each mark of the kernel for what it is: a kill, part of one, or none?

use crate::harness::{
    agent::{Agent, MATCHED},
    container::{Cgroup, Container, run_in},
    kill::assert_kill,
    say::say,
    test::{Test, tests},
    wait::{alive, eventually, within},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{fs, os::unix::process::ExitStatusExt, thread::sleep, time::Duration};

pub const TESTS: &[Test] = tests![
    leader_has_exited,
    many_threads,
    memory_is_shared,
    dying_task_is_no_kill,
    late_kill_of_a_removed_cgroup,
    without_btf,
    losses_are_counted
];

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

/// A process that is killed by another one, and hits its limit while it dies,
/// may be marked; it is no OOM kill unless the kernel counts one.
fn dying_task_is_no_kill() {
    tasks_die(&Agent::start(MATCHED));
}

pub fn tasks_die(agent: &Agent) {
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
    cgroups_go_with_their_last_process(&Agent::start(MATCHED));
}

pub fn cgroups_go_with_their_last_process(agent: &Agent) {
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

/// A kernel without BTF: no offsets, no decisions. Victims are described when
/// they exit; container and kind are still right, and the cgroups' counts show the limit.
fn without_btf() {
    let agent = Agent::start_with(MATCHED, &["--no-btf", "--resync-seconds", "1"]);
    let matched = Container::start_governed("/matched/c1", 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "subprocess", "container", "/matched/c1");
    assert!(alive(matched.init()));
    let _group = Container::start("/unmatched", 60, &["idle", "hog:100"]);
    let kills = agent.wait_for_kills(2);
    assert_kill(&kills[1], "group", "container", "/unmatched");
    assert_eq!(agent.total("herder_kills_lost_total"), 0.0);
}

/// The ring buffer is too small and the agent does not get to run: what does not
/// fit is counted, each victim once, and the rest is reported.
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
    eventually("a kill is reported", || !agent.kills().is_empty());
    let reported =
        || agent.kills().iter().map(|kill| kill["processes"].as_u64().unwrap()).sum::<u64>();
    eventually("all are accounted for", || {
        u64::from(MEMBERS) == reported() + counted(agent.total("herder_kills_lost_total"))
    });
    let (reported, records) = (reported(), agent.total("herder_records_lost_total"));
    say(&format!(
        "of {MEMBERS} victims {reported} reported, the others lost; {records} other records lost"
    ));
    assert!(reported > 0 && reported < u64::from(MEMBERS), "{reported}");
    // The kernel's own count says the same. It may have the chosen victim twice, and
    // then one of the lost is taken for that.
    let lost = u64::from(MEMBERS) - reported;
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
