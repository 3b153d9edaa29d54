//! A sub-process, a group, and an init are killed in real containers.

use super::{
    agent,
    bundle::{DB, Name, WEB, object},
    engine::Engine,
};
use crate::{
    agent::{alive, eventually},
    pods::Api,
};

const WORKER: Name = Name { pod: WEB, container: "worker", number: 1 };
const GREEDY: Name = Name { pod: WEB, container: "greedy", number: 2 };
const POSTGRES: Name = Name { pod: DB, container: "postgres", number: 1 };

/// An init with children, as the role `tree` has it.
fn tree<'a>(children: &[&'a str]) -> Vec<&'a str> {
    [&["/init", "role", "tree", "/notes"], children].concat()
}

pub fn kills(engine: Engine) {
    let _api = Api::serve(&[object(WEB, &[WORKER, GREEDY]), object(DB, &[POSTGRES])]);
    let agent = agent();
    let _daemon = engine.begin();
    let told = |number: usize| {
        let kills = agent.wait_for_kills(number);
        let kill = &kills[number - 1];
        ["kind", "limit", "namespace", "pod", "container", "rule"]
            .map(|key| kill[key].as_str().unwrap_or("-").to_owned())
    };

    let worker = engine.run(WORKER, 60, &tree(&["idle", "hog:100"]));
    assert_eq!(told(1), ["subprocess", "container", "shop", "web-0", "worker", "web"]);
    assert_eq!(worker.cgroup.oom_group(), "0");
    let left = worker.cgroup.processes();
    assert!(left.len() == 2 && left.into_iter().all(alive), "the init and its other child");

    let postgres = engine.run(POSTGRES, 60, &tree(&["idle", "hog:100"]));
    assert_eq!(told(2), ["group", "container", "shop", "db-0", "postgres", "-"]);
    assert!(postgres.ended() && !worker.ended());

    let greedy = engine.run(GREEDY, 60, &["/init", "role", "greedy-init", "100"]);
    assert_eq!(told(3), ["init", "container", "shop", "web-0", "greedy", "web"]);
    eventually("its child went with it", || greedy.ended());
    assert!(!worker.ended());
    agent.assert_nothing_lost();
}
