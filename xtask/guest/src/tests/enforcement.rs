//! Does the agent keep memory.oom.group, there and nowhere else?

use super::escalation::has_kill;
use crate::harness::{
    agent::{Agent, MATCHED},
    audit::Audit,
    container::{Cgroup, Container},
    test::{Test, tests},
    wait::eventually,
};
use std::{fs, thread::sleep, time::Duration};

pub const TESTS: &[Test] = tests![
    unmatched_are_never_written,
    rules_change,
    existing_containers_and_the_end,
    dry_run,
    obstacles
];

/// Every write of the agent to the whole hierarchy, as the kernel reports it.
fn unmatched_are_never_written() {
    let restarted = "- {name: restarted, cgroups: ['/restarted/*'], oomGroup: single-process, escalate: {after: 1, to: restart}}\n";
    let agent = Agent::start(&format!("{MATCHED}{restarted}"));
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
    // One process dies in each, and one of them is to be restarted for that.
    let once = &["idle", "hog:100"];
    let mut escalated = Container::start("/restarted/c1", 50, once);
    let has_kill = has_kill(&escalated.cgroup);
    let matched = Container::start("/matched/c3", 50, once);
    let mut unmatched = Container::start("/other/c3", 50, &["idle", "later:100"]);
    unmatched.cgroup.set("memory.oom.group", "0");
    eventually("a child of each has died", || {
        unmatched.cgroup.event("oom_kill") == 1 && matched.cgroup.event("oom_kill") == 1
    });
    eventually("one is restarted, or would be a group", || match has_kill {
        true => escalated.ended(),
        false => escalated.cgroup.oom_group() == "1",
    });
    assert!(!unmatched.ended());
    // Values that come back are writes too, and so is what other rules want.
    Agent::reconfigure("rules: []");
    eventually("the matched are restored", || values() == ["1"; 5]);
    Agent::reconfigure(MATCHED);
    eventually("and are 0 again", || values() == ["0", "1", "0", "1", "1"]);
    let mut written = audit.files_written_by(agent.pid());
    written.sort();
    written.dedup();
    let values = ["/matched/c1", "/matched/c2", "/matched/c3", "/restarted/c1"]
        .map(|path| format!("/sys/fs/cgroup{path}/memory.oom.group"));
    let kill = has_kill.then(|| "/sys/fs/cgroup/restarted/c1/cgroup.kill".to_owned());
    let mut expected: Vec<_> = values.into_iter().chain(kill).collect();
    expected.sort();
    assert_eq!(written, expected);
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

/// What was there before the agent is enforced, and restored if asked.
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

/// An obstacle is reported, and not touched.
fn obstacles() {
    let parent = Cgroup::make("/matched");
    let cgroup = Cgroup::make("/matched/c1.scope");
    parent.set("memory.oom.group", "1");
    let agent = Agent::start_with(MATCHED, &["--resync-seconds", "1"]);
    // It is ready before it has looked around each container.
    eventually("the cgroup above is reported", || {
        agent.metric(r#"herder_not_enforceable{reason="ancestor"}"#) == 1.0
    });
    assert_eq!(parent.oom_group(), "1");
    parent.set("memory.oom.group", "0");
    fs::create_dir_all("/run/systemd/transient").unwrap();
    fs::write("/run/systemd/transient/c1.scope", "[Scope]\nDelegate=yes\nOOMPolicy=kill\n")
        .unwrap();
    eventually("systemd's policy is reported", || {
        agent.metric(r#"herder_not_enforceable{reason="systemd-oom-policy"}"#) == 1.0
    });
    assert_eq!(agent.metric(r#"herder_not_enforceable{reason="ancestor"}"#), 0.0);
    assert_eq!(agent.container("/matched/c1.scope").unwrap()["obstacle"], "systemd-oom-policy");
    fs::remove_dir_all("/run/systemd").unwrap();
    drop(cgroup);
}
