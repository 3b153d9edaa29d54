//! What systemd does to the agent, and to the value that the agent wrote.

use super::{
    agent,
    bundle::{Name, WEB, object},
    engine::{Engine, call},
    machine::PATH,
    trace::{Seen, Trace, What},
};
use crate::{
    Test,
    agent::{Agent, eventually},
    api::Api,
    container::Cgroup,
    init::parameter,
    say,
};
use std::{
    fs,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

pub const TESTS: &[Test] = &[
    ("unit_of_the_agent", unit_of_the_agent),
    ("scope_that_systemd_stops", scope_that_systemd_stops),
    ("systemd_leaves_the_value", systemd_leaves_the_value),
];

const WORKER: Name = Name { pod: WEB, container: "worker", number: 1 };

/// The files of `deploy/systemd`, as they are.
const UNIT: &str = include_str!("../../../../deploy/systemd/herder-agent.service");
const RULES: &str = include_str!("../../../../deploy/systemd/herder.yaml");

fn systemctl(arguments: &[&str]) {
    call(Command::new("systemctl").args(arguments));
}

/// A property of a unit.
pub fn property(unit: &str, name: &str) -> String {
    let mut command = Command::new("systemctl");
    command.env("PATH", PATH).args(["show", "--value", "--property", name, unit]);
    String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned()
}

/// A scope as systemd makes one for anybody.
struct Scope {
    unit: String,
    /// The program, which `systemd-run` has become.
    program: Child,
}

impl Scope {
    fn start(unit: &str, properties: &[&str], program: &[&str]) -> Self {
        let mut command = Command::new("systemd-run");
        command.args(["--scope", "--collect", "--unit", unit]);
        command.args(properties.iter().flat_map(|property| ["--property", property]));
        command.args(["/init", "role"]).args(program).env("PATH", PATH);
        Scope { unit: unit.to_owned(), program: command.spawn().unwrap() }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // systemd may have stopped it, and then it does not know it any more.
            let mut stop = Command::new("systemctl");
            let _ =
                stop.env("PATH", PATH).args(["stop", &self.unit]).stderr(Stdio::null()).status();
            let _ = self.program.wait();
        }
    }
}

/// Installed as the unit's head says, started for real, and it sees a kill in a
/// container of Docker's kind, which its example of rules steers.
fn unit_of_the_agent() {
    fs::create_dir_all("/usr/local/bin").unwrap();
    fs::create_dir_all("/etc/herder").unwrap();
    fs::hard_link("/bin/herder-agent", "/usr/local/bin/herder-agent").unwrap();
    fs::write("/etc/herder/herder.yaml", RULES).unwrap();
    fs::write("/etc/systemd/system/herder-agent.service", UNIT).unwrap();
    systemctl(&["daemon-reload"]);
    systemctl(&["start", "herder-agent"]);
    let agent = Agent::of_others();
    eventually("it is ready", || agent.try_get("/readyz").is_some_and(|(status, _)| status == 200));
    assert_eq!(property("herder-agent", "ActiveState"), "active");
    let name = "docker-0a1b2c3d4e5f0a1b2c3d4e5f.scope";
    let cgroup = Cgroup::made(&format!("/system.slice/{name}"));
    let scope = Scope::start(
        name,
        &["Slice=system.slice", "Delegate=yes", "MemoryMax=60M", "MemorySwapMax=0"],
        &["tree", "/run/notes", "idle", "hog:100!"],
    );
    let kills = || agent.kills();
    eventually("a kill is told", || !kills().is_empty());
    let kill = &kills()[0];
    assert_eq!(
        [&kill["kind"], &kill["cgroup"], &kill["rule"]],
        ["subprocess", cgroup.path(), "docker"]
    );
    assert!(cgroup.processes().len() >= 2, "the others live on");
    drop(scope);
    let pid = property("herder-agent", "MainPID");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rights = status.lines().find(|line| line.starts_with("CapEff:")).unwrap().to_owned();
    assert!(rights.ends_with("000000c000000000"), "CAP_PERFMON and CAP_BPF only: {rights}");
    systemctl(&["stop", "herder-agent"]);
    for (name, value) in [("ActiveState", "inactive"), ("Result", "success"), ("NRestarts", "0")] {
        assert_eq!(property("herder-agent", name), value, "{name}");
    }
}

/// `OOMPolicy=kill`: the agent says that it cannot help. So it is with systemd
/// 257: the file says 0, one process is killed, and systemd ends the others. What
/// later ones do is told, not asserted: 262 was seen to let the others live.
fn scope_that_systemd_stops() {
    let _api = Api::serve(&[object(WEB, &[WORKER])]);
    let agent = agent();
    let path = WORKER.cgroup(true);
    let (slice, unit) = path.rsplit_once('/').unwrap();
    let slice = format!("Slice={}", slice.rsplit_once('/').unwrap().1);
    for (policy, obstacle) in [("kill", true), ("continue", false)] {
        let cgroup = Cgroup::made(&path);
        let policy_property = format!("OOMPolicy={policy}");
        let scope = Scope::start(
            unit,
            &[&slice, "Delegate=yes", "MemoryMax=60M", "MemorySwapMax=0", &policy_property],
            &["tree", "/run/notes", "idle", "later:100"],
        );
        let enforceable =
            || agent.metric(r#"herder_not_enforceable{reason="systemd-oom-policy"}"#) == 0.0;
        eventually("it is governed", || {
            agent.container(&path).is_some() && enforceable() != obstacle
        });
        assert_eq!(cgroup.oom_group(), "0", "OOMPolicy={policy}");
        let before = agent.kills().len();
        eventually("a kill is told", || agent.kills().len() > before);
        let kill = agent.kills().pop().unwrap();
        assert_eq!([&kill["kind"], &kill["cgroup"]], ["subprocess", path.as_str()]);
        // systemd 257 takes much less.
        sleep(Duration::from_secs(8));
        let left = cgroup.processes().len();
        say(&format!("OOMPolicy={policy}, memory.oom.group=0, one killed: {left} others live on"));
        if policy == "continue" {
            assert_eq!(left, 2, "the init and the idle child");
        } else if parameter("suite").as_deref() == Some("trixie") {
            assert_eq!(left, 0, "systemd has ended them");
        }
        drop(scope);
        eventually("the scope is gone", || agent.container(&path).is_none());
    }
}

/// Reloading systemd and changing a property both leave the agent's 0.
fn systemd_leaves_the_value() {
    let _api = Api::serve(&[object(WEB, &[WORKER])]);
    let agent = agent();
    let worker = Engine::RUNC.with_systemd().run(WORKER, 64, &["/init", "role", "idle"]);
    eventually("it is steered", || worker.cgroup.oom_group() == "0");
    let path = WORKER.cgroup(true);
    let unit = path.rsplit_once('/').unwrap().1;
    let trace = Trace::start();
    for arguments in [&["daemon-reload"][..], &["set-property", "--runtime", unit, "MemoryMax=96M"]]
    {
        trace.clear();
        systemctl(arguments);
        sleep(Duration::from_secs(1));
        let writes: Vec<_> = trace
            .seen()
            .into_iter()
            .filter_map(|seen| by_whom(&seen, worker.cgroup.id()))
            .collect();
        say(&format!(
            "systemctl {}: wrote {writes:?} to the container's memory.oom.group",
            arguments[0]
        ));
        assert_eq!(worker.cgroup.oom_group(), "0");
    }
    assert_eq!(property(unit, "OOMPolicy"), "continue");
    drop(agent);
}

fn by_whom(seen: &Seen, id: u64) -> Option<String> {
    match &seen.what {
        What::Write { cgroup, value } if *cgroup == id => {
            Some(format!("{} by {}", value, seen.comm))
        }
        _ => None,
    }
}
