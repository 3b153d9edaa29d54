//! Faults of what surrounds the agent. None of them may cost a kill, a wrong write,
//! or the agent.

use crate::harness::{
    agent::{Agent, MATCHED, capabilities},
    container::{Cgroup, Container},
    kill::sub_process_dies,
    sysctl::Sysctl,
    test::{Test, tests},
    wait::eventually,
};
use rustix::{
    mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount},
    process::{Resource, Rlimit, setrlimit},
    time::{ClockId, Timespec, clock_gettime, clock_settime},
};
use std::{fs, io::Read, process::Stdio};

pub const TESTS: &[Test] = tests![
    no_inotify_instance,
    no_watch_left,
    values_that_cannot_be_restored_are_counted,
    no_descriptor_left,
    clock_steps_back,
    the_log_is_not_read
];

/// The slow resync is what corrects then, and each container says so; until there is one.
fn no_inotify_instance() {
    let none = Sysctl::set("fs.inotify.max_user_instances", "0");
    let agent = Agent::start_with(MATCHED, &["--resync-seconds", "1"]);
    let cgroup = Cgroup::make("/matched/c1");
    cgroup.set("memory.oom.group", "1");
    eventually("the resync corrects", || cgroup.oom_group() == "0");
    eventually("that is shown", || {
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
    eventually("that is shown", || {
        state()["obstacle"] == "no-watch" && state()["explanation"].to_string().contains("watches")
    });
    drop(none);
    eventually("it is watched as soon as that can be", || state()["obstacle"].is_null());
    agent.assert_nothing_lost();
}

/// The agent's mount is read-only when the rule goes, and is not a while later.
fn values_that_cannot_be_restored_are_counted() {
    fs::create_dir_all("/tmp/mount").unwrap();
    mount_bind("/sys/fs/cgroup", "/tmp/mount").unwrap();
    let flags = ["--resync-seconds", "1", "--cgroup-root", "/tmp/mount"];
    let agent = Agent::start_with(MATCHED, &flags);
    let cgroup = Cgroup::make("/matched/c1");
    cgroup.set("memory.oom.group", "1");
    eventually("it is enforced", || cgroup.oom_group() == "0");
    let not_restored = || agent.metric("herder_cgroups_not_restored");
    assert_eq!(not_restored(), 0.0);
    mount_remount("/tmp/mount", MountFlags::BIND | MountFlags::RDONLY, c"").unwrap();
    Agent::reconfigure("rules: []");
    eventually("it is counted", || not_restored() == 1.0);
    let error = "Cannot write memory.oom.group.";
    assert_eq!(Agent::log().matches(error).count(), 1, "{}", Agent::log());
    assert_eq!(cgroup.oom_group(), "0");
    mount_remount("/tmp/mount", MountFlags::BIND, c"").unwrap();
    eventually("a walk restores it", || cgroup.oom_group() == "1");
    eventually("it is no longer counted", || not_restored() == 0.0);
    drop(agent);
    unmount("/tmp/mount", UnmountFlags::DETACH).unwrap();
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

/// The collector of the log has stopped. Enforcement and reports go on.
fn the_log_is_not_read() {
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
