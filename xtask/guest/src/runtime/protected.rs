//! `protectInit: true` as it is installed: the agent in its pod, and a pod whose container another
//! user's init forks in, both made by a real runtime.

use super::{
    bundle::{Name, WEB, object},
    cri::{Running, Sandbox, Setup, kubelet},
    deployed::{Deployed, configure},
};
use crate::harness::{
    agent::Agent,
    api::Api,
    container::Cgroup,
    role::SELF,
    say::say,
    wait::{alive, eventually},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;

const WORKER: Name = Name { pod: WEB, container: "worker", number: 1 };

const RULES: &str = "\
rules:
- name: web
  pods: {namespaces: [shop], selector: {matchLabels: {app: web}}, containers: [worker]}
  oomGroup: single-process
";

/// What the hog in it takes, its limit at first, and the one that it is given then, MiB.
const HOG: &str = "hog:100!";
const ROOMY: u32 = 256;
const TIGHT: u32 = 60;

/// A child, one that forks another, and one that is too big at times.
const CHILDREN: [&str; 3] = ["idle", FORKS, HOG];
const FORKS: &str = "protected:forks!";

/// They, the one that is forked, and the init.
const PROCESSES: usize = CHILDREN.len() + 2;

pub fn protected_init(setup: Setup) {
    let api = Api::serve(&[object(WEB, &[])]);
    let _daemon = setup.start();
    let protecting = format!("{RULES}  protectInit: true\n");
    let mut deployed = Deployed::new(setup, "protect-init", &protecting);
    let mut agent = deployed.start();
    let (code, said) = deployed.exec(&["check"]);
    let about = said.lines().find(|line| line.contains("protectInit")).unwrap_or_default();
    say(about.trim());
    assert!(code == 0 && about.contains("/host/proc is the node's"), "{code}: {said}");

    let worker = Worker::start(setup, &api);
    worker.becomes_protected(&agent);
    let (code, said) = worker.container.exec(&[SELF, "role", "protected", "scores"]);
    let own = kubelet::BURSTABLE.to_string();
    // crun leaves it the score of the shim that has started crun.
    let of_exec = if setup.runc == "crun" { "1" } else { &own };
    assert_eq!((code, &*said), (0, &*format!("{of_exec} {of_exec}\n")), "an exec, and its child");
    worker.starts_more(&agent);
    worker.loses_children(&agent);

    configure(RULES);
    eventually("it has its own score again", || worker.score() == own);
    eventually("and says so", || worker.state(&agent)["init"].is_null());
    assert_eq!(worker.cgroup.oom_group(), "0", "the rest of the rule stays");
    configure(&protecting);
    worker.becomes_protected(&agent);
    deployed.stop();
    assert_eq!(worker.score(), own, "an agent that ends leaves nothing exempt");

    agent = deployed.start();
    worker.becomes_known(&api, &agent);
    worker.becomes_protected(&agent);
    deployed.kill();
    assert_eq!(worker.score(), "-1000");
    configure(RULES);
    agent = deployed.start();
    worker.becomes_known(&api, &agent);
    eventually("the next one restores what its state file says", || worker.score() == own);
    agent.assert_nothing_lost();
    assert!(alive(worker.init), "it was never killed");
    deployed.stop();
}

/// The container of a pod, of another user than the agent's.
struct Worker {
    _sandbox: Sandbox,
    container: Running,
    cgroup: Cgroup,
    /// Where its processes are.
    inner: Cgroup,
    init: u32,
    pod: Value,
}

impl Worker {
    fn start(setup: Setup, api: &Api) -> Self {
        let notes = "/run/cri-notes/protected";
        fs::create_dir_all(notes).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(notes, open).unwrap();
        let command = [&[SELF, "role", "tree", "/notes/deaths"], &CHILDREN[..]].concat();
        let spec = json!({
            "containers": [{
                "name": WORKER.container,
                "image": "localhost/herder-guest:tests",
                "command": command,
                "resources": {
                    "requests": {"cpu": "100m"}, "limits": {"memory": format!("{ROOMY}Mi")}
                },
                "securityContext": {"runAsUser": 65532, "allowPrivilegeEscalation": false},
                "volumeMounts": [{"name": "notes", "mountPath": "/notes"}]
            }],
            "volumes": [{"name": "notes", "hostPath": {"path": notes}}]
        });
        let sandbox = Sandbox::run_with(setup, WEB, kubelet::namespaces(&spec));
        let config = kubelet::container(&spec, &[], "worker.log");
        let container = sandbox.create_config(WORKER.container, 0, config);
        container.start();
        let mut pod = object(WEB, &[WORKER]);
        let id = format!("containerd://{}", container.id);
        pod["status"]["containerStatuses"][0]["containerID"] = id.into();
        pod["metadata"]["resourceVersion"] = "2".into();
        api.modified(&pod);
        let cgroup = container.cgroup();
        let inner = Cgroup::made(&format!("{}{}", cgroup.path(), setup.inner()));
        eventually("all run", || inner.processes().len() == PROCESSES);
        let init = inner.processes().into_iter().min().expect("an init");
        Worker { _sandbox: sandbox, container, cgroup, inner, init, pod }
    }

    fn state(&self, agent: &Agent) -> Value {
        agent.container(self.cgroup.path()).expect("a matched container")
    }

    fn score(&self) -> String {
        score(self.init)
    }

    /// The tests' API server lists the pods that it began with, whose containers had no status.
    fn becomes_known(&self, api: &Api, agent: &Agent) {
        eventually("the next agent knows the container", || {
            api.modified(&self.pod);
            agent.container(self.cgroup.path()).is_some()
        });
    }

    /// Its init has -1000, and all others the container's own value.
    fn becomes_protected(&self, agent: &Agent) {
        eventually("its init is protected", || {
            self.score() == "-1000" && self.state(agent)["init"] == "protected"
        });
        eventually("the others have the container's value", || {
            let others = self.inner.processes().into_iter().filter(|pid| *pid != self.init);
            let others: Vec<_> = others.map(score).collect();
            let own = kubelet::BURSTABLE.to_string();
            !others.is_empty() && others.iter().all(|score| *score == own)
        });
    }

    /// A child, and a grandchild, of an init that is exempt.
    fn starts_more(&self, agent: &Agent) {
        let forks = |pid: &u32| {
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.contains("\0forks\0")
        };
        // What it has forked is forked later, and lives on.
        let first = self.inner.processes().into_iter().filter(forks).min().expect("one that forks");
        let first = Pid::from_raw(first.cast_signed()).expect("a pid");
        kill_process(first, Signal::KILL).unwrap();
        eventually("another is started, and has forked", || {
            self.inner.processes().len() == PROCESSES + 1
        });
        self.becomes_protected(agent);
    }

    /// One child after the other is killed and started again.
    fn loses_children(&self, agent: &Agent) {
        self.cgroup.limit(TIGHT);
        eventually("three are killed", || agent.kills().len() >= 3);
        self.cgroup.limit(ROOMY);
        for kill in agent.kills() {
            let victim = &kill["victim"]["oom_score_adj"];
            let told = [&kill["kind"], &kill["container"], victim];
            assert_eq!(told, [&json!("subprocess"), &json!("worker"), &json!(kubelet::BURSTABLE)]);
        }
        assert_eq!(self.cgroup.oom_group(), "0");
        self.becomes_protected(agent);
        let given_back = r#"herder_oom_score_writes_total{result="ok",what="child"}"#;
        say(&format!(
            "{} children killed, {} given their score, the init alive",
            agent.kills().len(),
            agent.metric(given_back)
        ));
        assert!(agent.metric(given_back) >= 3.0 && alive(self.init), "{}", Agent::log());
        assert_eq!(agent.metric("herder_init_forks_lost_total"), 0.0);
    }
}

fn score(pid: u32) -> String {
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap_or_default();
    score.trim().to_owned()
}
