//! Nodes that are containers, and other ways to show the agent a part of the hierarchy
//! only: is what the kernel reports by paths from the hierarchy's root found below the
//! mount, and what is elsewhere left alone?

use crate::harness::{
    agent::{Agent, LOG, MATCHED, capabilities},
    container::{Cgroup, Container},
    kill::assert_kill,
    role::role,
    test::{Test, tests},
    wait::eventually,
};
use rustix::mount::{MountFlags, MountPropagationFlags};
use serde_json::Value;
use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    thread::sleep,
    time::Duration,
};

pub const TESTS: &[Test] = tests![node_is_a_container, node_is_seen_in_part, nodes_without_btf];

/// What takes as long as the kernel's counts are waited for.
pub const TESTS_OF_COUNTS: &[Test] = tests![other_nodes_are_not_counted];

/// The cgroup of a node, and that of another one beside it.
const NODE: &str = "/outer/docker-1.scope";

const OTHER: &str = "/outer/docker-2.scope";

/// Where the agent sees its part.
const MOUNT: &str = "/tmp/node";

const IGNORED: &str = r#"herder_marks_ignored_total{reason="outside-mount"}"#;

/// What is new is found by what the kernel reports, or not at all.
const NO_WALKS: [&str; 2] = ["--resync-seconds", "600"];

/// How a part of the hierarchy is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shown {
    /// As in kind: a cgroup namespace of the node's, and a mount of its own.
    Namespace,
    /// A directory of the hierarchy, mounted elsewhere.
    Bind,
    /// The flag names a directory below the mount.
    Directory,
}

fn agent_of_node(shown: Shown, flags: &[&str]) -> Agent {
    let init = Cgroup::made(&format!("{NODE}/init"));
    let _ = fs::create_dir_all(Cgroup::make(NODE).file("init"));
    // For a moment a process is in the node's own cgroup, which then may not give any
    // controllers to those below.
    Cgroup::made(NODE).set("cgroup.subtree_control", "-memory");
    let log = File::create(LOG).unwrap();
    let output = [log.try_clone().unwrap().into(), log.into()];
    let how = format!("{shown:?}");
    let mut by = role("in-node", &[&how, "confined"]);
    by.args(capabilities());
    let directory = format!("/sys/fs/cgroup{NODE}");
    let root = if shown == Shown::Directory { &directory } else { MOUNT };
    let flags = [&["--cgroup-root", root], flags].concat();
    let mut agent = Agent::spawn_by(by, MATCHED, &flags, output);
    agent.wait_until_ready();
    assert_eq!(init.processes().len(), usize::from(shown == Shown::Namespace));
    agent
}

/// Becomes a role in the node, with the score that the kubelet gives to node-critical pods, as the
/// agent's is. The node's limit may be hit again before its victim's memory is free, and then the
/// agent would be the largest.
pub fn in_node(rest: &[&str]) -> ExitCode {
    let directory = format!("/sys/fs/cgroup{NODE}");
    fs::write("/proc/self/oom_score_adj", "-997").unwrap();
    if rest[0] != "Directory" {
        if rest[0] == "Namespace" {
            fs::write(format!("{directory}/cgroup.procs"), "0").unwrap();
        }
        crate::harness::system::new_mount_namespace(rest[0] == "Namespace");
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).unwrap();
        fs::create_dir_all(MOUNT).unwrap();
    }
    match rest[0] {
        "Namespace" => {
            fs::write(format!("{directory}/init/cgroup.procs"), "0").unwrap();
            rustix::mount::mount("cgroup2", MOUNT, "cgroup2", MountFlags::empty(), c"").unwrap();
        }
        "Bind" => rustix::mount::mount_bind(&directory, MOUNT).unwrap(),
        _ => {}
    }
    panic!("{}", role(rest[1], &rest[2..]).exec());
}

/// The container of a node that the rule would match, if the node is the agent's.
fn container_of(node: &str) -> (String, u32, [&'static str; 2]) {
    (format!("{node}/matched/c1"), 60, ["idle", "hog:100"])
}

/// The first container after the start is the other node's, the next is ours.
fn both_nodes_kill(agent: &Agent) -> [Container; 2] {
    let (path, limit, children) = container_of(OTHER);
    let mut other = Container::start(&path, limit, &children);
    eventually("the other node's container ended", || other.ended());
    let (path, limit, children) = container_of(NODE);
    let ours = Container::start_governed(&path, limit, &children);
    eventually("its kill is reported", || {
        agent.kills().iter().any(|kill| kill["rule"] == "matched")
    });
    assert_eq!(other.cgroup.oom_group(), "1", "the other node's alone");
    assert!(agent.container("/matched/c1").is_some());
    [ours, other]
}

fn node_is_a_container() {
    let agent = agent_of_node(Shown::Namespace, &NO_WALKS);
    let [ours, _other] = both_nodes_kill(&agent);
    let kills = agent.wait_for_kills(1);
    assert_kill(&kills[0], "subprocess", "container", "/matched/c1");
    let series =
        r#"herder_host_oom_kills_total{cgroup="/matched/c1",kind="subprocess",limit="container"}"#;
    assert_eq!(agent.metric(series), 1.0);
    assert!(agent.metric(IGNORED) >= 1.0);
    // A container that is gone before anybody can look at it.
    let short = Container::start(&format!("{NODE}/short"), 30, &["hog:60"]);
    eventually("it died", || short.cgroup.processes().is_empty());
    short.cgroup.remove();
    assert_kill(&agent.wait_for_kills(2)[1], "group", "container", "/short");
    // The node's own limit, and one that the node does not see.
    for (number, above) in [NODE, "/outer"].into_iter().enumerate() {
        let above = Cgroup::made(above);
        above.limit(150);
        let path = format!("{NODE}/matched/more{number}");
        let more = Container::start_governed(&path, 1000, &["idle", "hog:200"]);
        let (within, mut kill) = (format!("/matched/more{number}"), Value::Null);
        eventually("it is reported", || {
            // Linux 7 may choose another one while the first still has its memory.
            let found = agent.kills().into_iter().find(|kill| kill["cgroup"] == within);
            found.is_some_and(|found| {
                kill = found;
                true
            })
        });
        assert_kill(&kill, "subprocess", "node", &within);
        above.set("memory.max", "max");
        drop(more);
    }
    drop(ours);
    agent.assert_nothing_lost();
}

fn node_is_seen_in_part() {
    Cgroup::make(&format!("{NODE}/kubepods"));
    let directory = format!("/sys/fs/cgroup{NODE}");
    let mut check = Command::new("/bin/herder-agent");
    let said = check.args(["check", "--cgroup-root", &directory]).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    for found in ["shows a part of the hierarchy", "below /kubepods"] {
        assert!(said.contains(found), "{said}");
    }
    for shown in [Shown::Bind, Shown::Directory] {
        let agent = agent_of_node(shown, &NO_WALKS);
        let containers = both_nodes_kill(&agent);
        let kills = agent.wait_for_kills(1);
        assert_kill(&kills[0], "subprocess", "container", "/matched/c1");
        assert!(agent.metric(IGNORED) >= 1.0, "{shown:?}");
        agent.assert_nothing_lost();
        clean(agent, containers);
    }
}

/// Without BTF the kernel reports neither ids nor what is above what.
fn nodes_without_btf() {
    for shown in [Shown::Namespace, Shown::Bind, Shown::Directory] {
        let agent = agent_of_node(shown, &[&NO_WALKS[..], &["--no-btf"]].concat());
        let containers = both_nodes_kill(&agent);
        let kills = agent.kills();
        let of = |cgroup: Value| kills.iter().filter(move |kill| kill["cgroup"] == cgroup);
        assert_eq!(of("/matched/c1".into()).count(), 1, "{shown:?}: {kills:#?}");
        // What is killed elsewhere may have been in a cgroup that is gone.
        assert_eq!(of(Value::Null).count(), kills.len() - 1, "{kills:#?}");
        clean(agent, containers);
    }
}

/// The next round begins with no cgroup of this one.
fn clean(mut agent: Agent, containers: [Container; 2]) {
    assert!(agent.stop().success());
    drop(containers);
    for node in [NODE, OTHER] {
        Cgroup::made(&format!("{node}/matched/c1")).remove();
        Cgroup::made(&format!("{node}/matched")).remove();
    }
}

/// `/proc/vmstat` counts what is killed in all nodes of a machine.
fn other_nodes_are_not_counted() {
    for source in ["ebpf", "memory-events"] {
        let flags = ["--source", source, "--resync-seconds", "1"];
        let agent = agent_of_node(Shown::Namespace, &flags);
        // Longer than two looks at everything: what was before is settled.
        sleep(Duration::from_secs(3));
        let containers = both_nodes_kill(&agent);
        sleep(Duration::from_secs(13));
        agent.assert_nothing_lost();
        assert_eq!(agent.wait_for_kills(1)[0]["cgroup"], "/matched/c1");
        clean(agent, containers);
    }
}
