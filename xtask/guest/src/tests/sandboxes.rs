//! Does the agent work, or say what it lacks, where calls are refused or it is another user?

use crate::harness::{
    agent::{Agent, MATCHED, capabilities},
    container::Cgroup,
    kill::sub_process_dies,
    role::role,
    test::{Test, tests},
    wait::eventually,
};
use std::fs;

pub const TESTS: &[Test] =
    tests![sandbox_that_refuses_calls, sandbox_without_inotify, another_user];

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

/// Where inotify itself is refused, that is reported, and the resync enforces.
fn sandbox_without_inotify() {
    let sandbox = [&capabilities()[..], &["refuse=EPERM:inotify_init1"]].concat();
    let mut agent = Agent::spawn(MATCHED, &["--resync-seconds", "1"], &sandbox);
    agent.wait_until_ready();
    let cgroup = Cgroup::make("/matched/c1");
    for _ in 0..2 {
        cgroup.set("memory.oom.group", "1");
        eventually("the resync finds it", || cgroup.oom_group() == "0");
    }
    let no_watch = r#"herder_not_enforceable{reason="no-watch"}"#;
    eventually("it is reported", || agent.metric(no_watch) == 1.0);
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
    eventually("it is logged", || Agent::log().contains(why));
    eventually("it is counted", || {
        agent.metric(r#"herder_not_enforceable{reason="read-only"}"#) == 2.0
    });
    let state = agent.container("/matched/c1").unwrap();
    assert_eq!((&state["obstacle"], &state["effective"]), (&"read-only".into(), &1.into()));
    let check = check_within(&sandbox);
    assert!(check.contains("warn  enforcement") && check.contains(why), "{check}");
}
