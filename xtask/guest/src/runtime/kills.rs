//! Sub-processes, groups, and an init are killed in real containers.

use super::{
    bundle::{DB, Name, Pod, WEB, object},
    engine::Engine,
    web::agent,
};
use crate::harness::{
    agent::Agent,
    api::Api,
    parameter::parameter,
    wait::{alive, eventually},
};
use serde_json::Value;
use std::{fs, thread::sleep, time::Duration};

const fn name(pod: Pod, container: &'static str, number: u64) -> Name {
    Name { pod, container, number }
}

const WORKER: Name = name(WEB, "worker", 1);

const GREEDY: Name = name(WEB, "greedy", 2);

const POSTGRES: Name = name(DB, "postgres", 1);

const ALONE: Name = name(DB, "alone", 2);

const PROTECTED: Name = name(DB, "protected", 3);

/// An init with children, as the role `tree` has it.
fn tree<'a>(children: &[&'a str]) -> Vec<&'a str> {
    [&["/init", "role", "tree", "/notes"], children].concat()
}

pub fn kills(engine: Engine) {
    let _api =
        Api::serve(&[object(WEB, &[WORKER, GREEDY]), object(DB, &[POSTGRES, ALONE, PROTECTED])]);
    let mut scene = Scene { engine, agent: agent(), reported: 0 };
    let _daemon = engine.begin();
    scene.groups();
    scene.init();
    scene.subprocesses();
    scene.agent.assert_nothing_lost();
}

struct Scene {
    engine: Engine,
    agent: Agent,
    reported: usize,
}

impl Scene {
    /// The next kill, which is to be reported like this.
    fn next(&mut self, kind: &str, name: Name) -> Value {
        self.reported += 1;
        let kill = self.agent.wait_for_kills(self.reported).remove(self.reported - 1);
        assert_kill(&kill, kind, name);
        kill
    }

    /// No rule matches these: they die whole.
    fn groups(&mut self) {
        let postgres = self.engine.run(POSTGRES, 60, &tree(&["idle", "hog:100"]));
        // The init among them takes its namespace along, marked or not.
        let processes = self.next("group", POSTGRES)["processes"].as_u64().unwrap();
        assert!((1..=3).contains(&processes), "{processes}");
        assert!(postgres.ended());

        let alone = self.engine.run(ALONE, 60, &["/init", "role", "hog", "100"]);
        assert_eq!(self.next("group", ALONE)["processes"], 1);
        assert!(alone.ended());

        let protected = self.engine.run(PROTECTED, 60, &tree(&["idle", "later:100"]));
        protected.wait_for_processes(3);
        let init = protected.init();
        fs::write(format!("/proc/{init}/oom_score_adj"), "-1000").unwrap();
        // As the kubelet has it: the pod has the same limit as its only container, and
        // the kernel's own memory for the container makes it the one that is hit.
        let pod = self.engine.pod(&PROTECTED);
        pod.limit(60);
        let kill = self.next("group", PROTECTED);
        assert_eq!(kill["processes"], 2, "all but the init");
        let limits = [&kill["limit_cgroup"], &kill["container_limit_bytes"]];
        assert_eq!(limits, [&Value::from(pod.path()), &Value::from(60 << 20)], "{kill:#}");
        pod.set("memory.max", "max");
        eventually("only it is left", || protected.cgroup.processes() == [init]);
    }

    /// A rule matches it, but it is the init that is too big.
    fn init(&mut self) {
        let greedy = self.engine.run(GREEDY, 60, &["/init", "role", "greedy-init", "100"]);
        assert_eq!(self.next("init", GREEDY)["victim"]["ns_pid"], 1);
        eventually("its child went with it", || greedy.ended());
    }

    /// One child after the other is killed and started again, and no other process.
    fn subprocesses(&mut self) {
        let worker = self.engine.run(WORKER, 60, &tree(&["idle", "hog:100!"]));
        worker.wait_for_processes(2);
        let init = worker.init();
        let wanted: usize = parameter("starts").map_or(5, |count| count.parse().unwrap());
        let others = || self.agent.kills().split_off(self.reported);
        eventually("the first of them", || !others().is_empty());
        while others().len() < wanted {
            assert!(alive(init), "the container ended");
            sleep(Duration::from_millis(500));
        }
        // Nothing grows over this, so what is reported can be compared.
        worker.unlimit();
        sleep(Duration::from_secs(2));
        let notes = fs::read_to_string(worker.bundle.join("rootfs/notes")).unwrap();
        assert_eq!(others().len().to_string(), notes.split(' ').next().unwrap(), "as the init saw");
        for kill in others() {
            assert_kill(&kill, "subprocess", WORKER);
            assert_eq!(kill["processes"], 1);
        }
        assert_eq!((worker.init(), worker.cgroup.processes().len()), (init, 3));
        assert_eq!(worker.cgroup.oom_group(), "0");
    }
}

fn assert_kill(kill: &Value, kind: &str, name: Name) {
    let reported = ["kind", "limit", "namespace", "pod", "container", "rule"]
        .map(|key| kill[key].as_str().unwrap_or("-"));
    let rule = if name.pod.app == WEB.app { "web" } else { "-" };
    assert_eq!(reported, [kind, "container", "shop", name.pod.name, name.container, rule]);
}
