//! `protectInit: true` as it is installed: the agent in its pod, and a pod in whose containers
//! another user's init forks, both made by a real runtime and confined by AppArmor.

use super::{
    apparmor,
    bundle::{Name, WEB, object},
    cri::{Namespaces, Running, Sandbox, Setup, kubelet},
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
use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

/// One whose children die, one that asks for no profile, and one that no rule is about.
const NAMES: [Name; 3] = [
    Name { pod: WEB, container: "worker", number: 1 },
    Name { pod: WEB, container: "unconfined", number: 2 },
    Name { pod: WEB, container: "other", number: 3 },
];

const RULES: &str = "\
rules:
- name: web
  pods:
    namespaces: [shop]
    selector: {matchLabels: {app: web}}
    containers: [worker, unconfined]
  oomGroup: single-process
";

/// How long nothing may happen to inits that no rule wants to be protected. Where one does, it takes
/// about two seconds.
const UNTOUCHED: Duration = Duration::from_secs(3);

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
    let mut deployed = Deployed::new(setup, "protect-init", RULES);
    let mut agent = deployed.start();
    let web = Web::start(setup, &api);
    let worker = &web.worker;
    web.stays_as_it_is(&agent);

    configure(&protecting);
    web.becomes_protected(&agent);
    let (code, said) = deployed.exec(&["check"]);
    let about = said.lines().find(|line| line.contains("protectInit")).unwrap_or_default();
    say(about.trim());
    assert!(code == 0 && about.contains("/host/proc is the node's"), "{code}: {said}");
    let (code, said) = worker.running.exec(&[SELF, "role", "protected", "scores"]);
    let own = kubelet::BURSTABLE.to_string();
    // crun leaves it the score of the shim that has started crun.
    let of_exec = if setup.runc == "crun" { "1" } else { &own };
    assert_eq!((code, &*said), (0, &*format!("{of_exec} {of_exec}\n")), "an exec, and its child");
    worker.starts_more();
    web.becomes_protected(&agent);
    worker.loses_children(&agent);
    web.becomes_protected(&agent);

    configure(RULES);
    eventually("they have their own score again", || {
        web.ruled().all(|container| container.score() == own)
    });
    eventually("and say so", || web.ruled().all(|it| it.state(&agent)["init"].is_null()));
    assert_eq!(worker.cgroup.oom_group(), "0", "the rest of the rule stays");
    configure(&protecting);
    web.becomes_protected(&agent);
    deployed.stop();
    for container in web.ruled() {
        assert_eq!(container.score(), own, "an agent that ends leaves nothing exempt");
    }

    agent = deployed.start();
    web.becomes_known(&api, &agent);
    web.becomes_protected(&agent);
    deployed.kill();
    for container in web.ruled() {
        assert_eq!(container.score(), "-1000");
    }
    configure(RULES);
    agent = deployed.start();
    web.becomes_known(&api, &agent);
    eventually("the next one restores what its state file says", || {
        web.ruled().all(|container| container.score() == own)
    });
    agent.assert_nothing_lost();
    // Then an init would be certain only where the runtime has reported it.
    assert!(!Agent::log().contains("Not all processes"), "{}", Agent::log());
    assert!(web.all().all(|container| alive(container.init)), "none was ever killed");
    deployed.stop();
}

/// The pod.
struct Web {
    _sandbox: Sandbox,
    worker: Container,
    unconfined: Container,
    other: Container,
    object: Value,
}

impl Web {
    fn start(setup: Setup, api: &Api) -> Self {
        let sandbox = Sandbox::run_with(setup, WEB, Namespaces::OWN);
        let confined = json!({"runAsUser": 65532, "allowPrivilegeEscalation": false});
        let mut free = confined.clone();
        free["appArmorProfile"] = json!({"type": "Unconfined"});
        let [worker, unconfined, other] = NAMES;
        let worker = Container::start(setup, &sandbox, worker, &CHILDREN, &confined);
        let unconfined = Container::start(setup, &sandbox, unconfined, &["idle"], &free);
        let other = Container::start(setup, &sandbox, other, &["idle"], &confined);
        let labels = [&worker, &unconfined, &other].map(|it| apparmor::of(&it.running, setup));
        assert_eq!(labels, [apparmor::DEFAULT, apparmor::NONE, apparmor::DEFAULT]);
        let mut object = object(WEB, &NAMES);
        for (number, container) in [&worker, &unconfined, &other].into_iter().enumerate() {
            let id = format!("containerd://{}", container.running.id);
            object["status"]["containerStatuses"][number]["containerID"] = id.into();
        }
        object["metadata"]["resourceVersion"] = "2".into();
        api.modified(&object);
        Web { _sandbox: sandbox, worker, unconfined, other, object }
    }

    /// Those of the rule.
    fn ruled(&self) -> impl Iterator<Item = &Container> {
        [&self.worker, &self.unconfined].into_iter()
    }

    fn all(&self) -> impl Iterator<Item = &Container> {
        self.ruled().chain([&self.other])
    }

    /// The tests' API server lists the pods that it began with, whose containers had no status.
    fn becomes_known(&self, api: &Api, agent: &Agent) {
        eventually("the next agent knows the containers", || {
            api.modified(&self.object);
            self.ruled().all(|container| agent.container(container.cgroup.path()).is_some())
        });
    }

    /// A rule that asks for no protection changes no score.
    fn stays_as_it_is(&self, agent: &Agent) {
        eventually("its rule is in force", || {
            self.ruled().all(|container| container.cgroup.oom_group() == "0")
        });
        let own = kubelet::BURSTABLE.to_string();
        let began = Instant::now();
        while began.elapsed() < UNTOUCHED {
            for container in self.all() {
                let mut scores = container.inner.processes().into_iter().map(score);
                assert!(scores.all(|score| score == own), "{}", container.cgroup.path());
            }
            sleep(Duration::from_millis(50));
        }
        for container in self.ruled() {
            assert!(container.state(agent)["init"].is_null(), "{}", container.state(agent));
        }
    }

    /// The inits of the rule have -1000, and all other processes their container's own value.
    fn becomes_protected(&self, agent: &Agent) {
        eventually("their inits are protected", || {
            self.ruled().all(|it| it.score() == "-1000" && it.state(agent)["init"] == "protected")
        });
        let own = kubelet::BURSTABLE.to_string();
        eventually("the others have the container's value", || {
            self.ruled().all(|container| {
                let others = container.inner.processes().into_iter();
                let others = others.filter(|pid| *pid != container.init);
                let others: Vec<_> = others.map(score).collect();
                !others.is_empty() && others.iter().all(|score| *score == own)
            })
        });
        assert!(self.other.inner.processes().into_iter().all(|pid| score(pid) == own));
    }
}

/// A container of another user than the agent's.
struct Container {
    running: Running,
    cgroup: Cgroup,
    /// Where its processes are.
    inner: Cgroup,
    init: u32,
}

impl Container {
    /// An init with these children.
    fn start(
        setup: Setup,
        sandbox: &Sandbox,
        name: Name,
        children: &[&str],
        security: &Value,
    ) -> Self {
        let notes = "/run/cri-notes/protected";
        fs::create_dir_all(notes).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(notes, open).unwrap();
        let deaths = format!("/notes/deaths-{}", name.container);
        let command = [&[SELF, "role", "tree", &deaths], children].concat();
        let spec = json!({
            "containers": [{
                "name": name.container,
                "image": "localhost/herder-guest:tests",
                "command": command,
                "resources": {
                    "requests": {"cpu": "100m"}, "limits": {"memory": format!("{ROOMY}Mi")}
                },
                "securityContext": security,
                "volumeMounts": [{"name": "notes", "mountPath": "/notes"}]
            }],
            "volumes": [{"name": "notes", "hostPath": {"path": notes}}]
        });
        let config = kubelet::container(&spec, &[], &format!("{}.log", name.container));
        let running = sandbox.create_config(name.container, 0, config);
        running.start();
        let cgroup = running.cgroup();
        let inner = Cgroup::made(&format!("{}{}", cgroup.path(), setup.inner()));
        let forked = children.iter().filter(|child| **child == FORKS).count();
        let count = 1 + children.len() + forked;
        eventually("all run", || inner.processes().len() == count);
        let init = inner.processes().into_iter().min().expect("an init");
        Container { running, cgroup, inner, init }
    }

    fn state(&self, agent: &Agent) -> Value {
        agent.container(self.cgroup.path()).expect("a matched container")
    }

    fn score(&self) -> String {
        score(self.init)
    }

    /// A child, and a grandchild, of an init that is exempt.
    fn starts_more(&self) {
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
    }

    /// One child after the other is killed and started again.
    fn loses_children(&self, agent: &Agent) {
        self.cgroup.limit(TIGHT);
        eventually("three are killed", || agent.kills().len() >= 3);
        self.cgroup.limit(ROOMY);
        for kill in agent.kills() {
            let victim = &kill["victim"]["oom_score_adj"];
            let reported = [&kill["kind"], &kill["container"], victim];
            assert_eq!(
                reported,
                [&json!("subprocess"), &json!("worker"), &json!(kubelet::BURSTABLE)]
            );
        }
        assert_eq!(self.cgroup.oom_group(), "0");
        let restored = r#"herder_oom_score_writes_total{result="ok",what="child"}"#;
        say(&format!(
            "{} children killed, {} given their score, the init alive",
            agent.kills().len(),
            agent.metric(restored)
        ));
        assert!(agent.metric(restored) >= 3.0 && alive(self.init), "{}", Agent::log());
        assert_eq!(agent.metric("herder_init_forks_lost_total"), 0.0);
    }
}

fn score(pid: u32) -> String {
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap_or_default();
    score.trim().to_owned()
}
