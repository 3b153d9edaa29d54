//! Plays a node that is well and one that is not, and prints what their agents
//! expose, again and again: `cargo xtask dashboards --record` keeps it, and the
//! dashboard and the alerts are tried on it. The one that is well is also what the
//! page is tried on, by `cargo xtask page`.
//!
//! Both nodes have every trouble that an expression asks for: kills of all kinds,
//! restarts, reverts, obstacles; lost, unseen and unattributed kills, failed writes, a
//! refused configuration, an API server that goes away.

use crate::harness::{
    agent::Agent,
    api::Api,
    container::{Cgroup, Container, run_in},
    say::say,
    wait::eventually,
};
use rustix::{mount::MountFlags, process::Signal};
use serde_json::{Value, json};
use std::{
    fs,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

const RULES: &str = "\
rules:
- name: web
  pods: {namespaces: [shop]}
  oomGroup: single-process
- name: docker
  cgroups: ['/system.slice/docker-*.scope', '/locked.slice/*']
  oomGroup: single-process
- name: brittle
  cgroups: ['/brittle.slice/*']
  oomGroup: single-process
  escalate: {after: 1, within: 1m, to: restart}
";

/// Expositions of each node, and the time between them.
const TAKES: u32 = 8;

const BETWEEN: Duration = Duration::from_secs(6);

const FLAGS: [&str; 4] = ["--kubernetes", "on", "--node-name", "node-1"];

/// A container of a pod, which a tiny kubelet starts again.
struct Workload {
    namespace: &'static str,
    pod: &'static str,
    /// A digit that makes the pod's UID.
    number: u32,
    limit: u32,
    program: &'static [&'static str],
    restarts: u32,
    container: Option<Container>,
}

impl Workload {
    fn new(
        namespace: &'static str,
        pod: &'static str,
        number: u32,
        program: &'static [&'static str],
    ) -> Self {
        Workload { namespace, pod, number, limit: 60, program, restarts: 0, container: None }
    }

    fn uid(&self) -> String {
        format!("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f{}", self.number)
    }

    /// Every start has another one.
    fn id(&self, start: u32) -> String {
        format!("{:0>64x}", u64::from(self.number) * 0x1_0000 + u64::from(start))
    }

    fn start(&mut self) {
        let path = format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-{}.scope",
            self.uid().replace('-', "_"),
            self.id(self.restarts)
        );
        self.container = Some(if self.program[0] == "greedy-init" {
            Container::start_program(&path, self.limit, self.program)
        } else {
            Container::start(&path, self.limit, self.program)
        });
    }

    /// Starts it again if it has ended, and pushes its pod's change.
    fn keep_running(&mut self, api: &Api) {
        if self.container.as_mut().is_some_and(Container::ended) {
            if let Some(container) = self.container.take() {
                container.cgroup.remove();
            }
            self.restarts += 1;
            self.start();
            api.modified(&self.object());
        }
    }

    fn object(&self) -> Value {
        let before = (self.restarts > 0).then(|| {
            json!({"terminated": {"exitCode": 137, "reason": "OOMKilled", "containerID": format!("containerd://{}", self.id(self.restarts - 1))}})
        });
        json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {
                "name": self.pod, "namespace": self.namespace, "uid": self.uid(),
                "resourceVersion": (self.restarts + 2).to_string(), "labels": {"app": self.pod}
            },
            "spec": {"containers": [{"name": "worker"}]},
            "status": {"containerStatuses": [{
                "name": "worker", "containerID": format!("containerd://{}", self.id(self.restarts)), "image": "x",
                "imageID": "", "ready": true, "restartCount": self.restarts, "lastState": before
            }]}
        })
    }
}

pub fn run(node: &str) -> ExitCode {
    match node {
        "node-1" => well(|agent, play| takes(node, agent, play)),
        _ => unwell(node),
    }
    ExitCode::SUCCESS
}

/// The node that is well, for so long, with its agent's port forwarded.
pub fn show(seconds: u64) -> ExitCode {
    crate::harness::system::interface_up("eth0", [10, 0, 2, 15]);
    well(|_, play| {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(seconds) {
            play();
            sleep(Duration::from_millis(500));
        }
    });
    ExitCode::SUCCESS
}

/// Kills of every kind, restarts, by the agent too, a process that reverts values, and a slice
/// above a container that overrides its value.
fn well(watch: impl FnOnce(&Agent, &mut dyn FnMut())) {
    let mut workloads = [
        Workload::new("shop", "web-0", 1, &["grower:3!", "nasty:2!", "idle"]),
        Workload::new("shop", "web-1", 2, &["greedy-init", "90"]),
        // Its init does not mind, and nothing restarts it.
        Workload::new("shop", "selenium-0", 4, &["grower:4!", "grower:5!", "idle"]),
        Workload::new("batch", "job-0", 3, &["grower:2!", "idle", "idle"]),
    ];
    let api = Api::serve(&workloads.each_ref().map(Workload::object));
    let flags = [&FLAGS[..], &["--escalation-restart-seconds", "2"]].concat();
    let agent = Agent::start_with(RULES, &flags);
    workloads.iter_mut().for_each(Workload::start);
    let locked = Cgroup::make("/locked.slice");
    locked.set("memory.oom.group", "1");
    let _locked = Container::start("/locked.slice/docker-3.scope", 60, &["idle"]);
    let _docker = Container::start("/system.slice/docker-1.scope", 60, &["idle", "grower:2!"]);
    // They end at each kill, one after the other, and are started again.
    let start = |path: &str| Container::start(path, 60, &["idle", "grower:6!"]);
    let paths = ["/brittle.slice/a", "/brittle.slice/b"];
    let mut brittle = paths.map(start);
    watch(&agent, &mut || {
        for (path, container) in paths.iter().zip(&mut brittle) {
            if container.ended() {
                *container = start(path);
            }
        }
        workloads.iter_mut().for_each(|workload| workload.keep_running(&api));
        let fought = workloads[0].container.as_ref().expect("it was started");
        for _ in 0..4 {
            fought.cgroup.set("memory.oom.group", "1");
            sleep(Duration::from_millis(20));
        }
    });
}

/// The mount is read-only, the buffer of kills tiny; pods that the API server does
/// not know die; it goes away, and the configuration has a mistake.
fn unwell(node: &str) {
    fs::create_dir_all("/tmp/ro").unwrap();
    rustix::mount::mount_bind("/sys/fs/cgroup", "/tmp/ro").unwrap();
    rustix::mount::mount_remount("/tmp/ro", MountFlags::BIND | MountFlags::RDONLY, c"").unwrap();
    let mut known = Workload::new("shop", "web-2", 4, &["grower:2!", "idle"]);
    let mut unknown =
        [0, 1, 2, 3, 5, 6, 7].map(|number| Workload::new("shop", "unknown", number, &["hog:90"]));
    let api = Api::serve(&[known.object()]);
    let flags = ["--cgroup-root", "/tmp/ro", "--kill-ring-bytes", "4096"];
    let agent = Agent::start_with(RULES, &[&FLAGS[..], &flags].concat());
    known.start();
    // No init among them, whose end would end the others before they are killed.
    let crowd = Cgroup::make("/system.slice/docker-2.scope");
    crowd.limit(150);
    crowd.set("memory.oom.group", "1");
    let mut members: Vec<_> = (0..100).map(|_| run_in(&crowd, &["idle"])).collect();
    eventually("all are in", || crowd.processes().len() == members.len());
    let mut take = 0u32;
    unknown.iter_mut().for_each(Workload::start);
    takes(node, &agent, &mut || {
        take += 1;
        // A restart cannot be pushed while the API server is away.
        if take < 16 {
            known.keep_running(&api);
        }
        match take {
            // A mistake, twice: a rule that selects nothing.
            12 | 20 => Agent::reconfigure("rules: [{name: broken}]"),
            // The other node has another file from here on.
            17 => Agent::reconfigure(&format!("{RULES}logLevel: debug\n")),
            // One kill of more processes of a matched container than the buffer has
            // room for, while the agent gets no CPU.
            8 => {
                agent.signal(Signal::STOP);
                members.push(run_in(&crowd, &["hog", "200"]));
                for member in &mut members {
                    member.wait().unwrap();
                }
                agent.signal(Signal::CONT);
            }
            16 => api.go_away(),
            24 => api.come_back(),
            _ => {}
        }
    });
}

/// Plays the node and prints its agent's expositions meanwhile.
fn takes(node: &str, agent: &Agent, play: &mut dyn FnMut()) {
    let began = Instant::now();
    for take in 0..TAKES {
        say(&format!("take {node} {take} at {:.1} s", began.elapsed().as_secs_f64()));
        for line in agent.get("/metrics").lines() {
            say(&format!("| {line}"));
        }
        let next = BETWEEN * (take + 1);
        while take + 1 < TAKES && began.elapsed() < next {
            play();
            sleep(Duration::from_millis(300));
        }
    }
    say("taken");
}
