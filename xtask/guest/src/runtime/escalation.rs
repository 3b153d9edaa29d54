//! Real containers that keep losing processes: the next kill takes all of them, or they are
//! restarted, also where crun has two cgroups for one.

use super::{
    bundle::{Name, WEB, object},
    engine::Engine,
    web::RULES,
};
use crate::harness::{agent::Agent, api::Api, container::Cgroup, wait::eventually};

const GROUPED: Name = Name { pod: WEB, container: "grouped", number: 1 };

const RESTARTED: Name = Name { pod: WEB, container: "restarted", number: 2 };

fn rules() -> String {
    let of = |name: Name, to: &str| {
        let container = format!("containers: [{}]", name.container);
        let rule = RULES.strip_prefix("rules:\n").expect("a list of rules");
        let rule = rule.replace("name: web", &format!("name: {to}"));
        let rule =
            rule.replace("{namespaces: [shop]", &format!("{{{container}, namespaces: [shop]"));
        format!("{rule}  escalate: {{after: 1, within: 10m, to: {to}}}\n")
    };
    format!("rules:\n{}{}", of(GROUPED, "group"), of(RESTARTED, "restart"))
}

pub fn escalation(engine: Engine) {
    let _api = Api::serve(&[object(WEB, &[GROUPED, RESTARTED])]);
    let agent = Agent::start_with(&rules(), &["--kubernetes", "on", "--node-name", "node-1"]);
    let _daemon = engine.begin();
    let tree = ["/init", "role", "tree", "/notes", "idle", "later:100"];
    let grouped = engine.run(GROUPED, 64, &tree);
    eventually("the next kill takes all", || grouped.cgroup.oom_group() == "1");
    assert!(!grouped.ended());
    let outermost = Cgroup::made(&GROUPED.cgroup(engine.is_systemd()));
    assert_eq!(outermost.oom_group(), "1", "of the scope around crun's cgroup, too");
    let state = agent.container(outermost.path()).unwrap();
    assert_eq!(state["escalation"]["state"], "group", "{state:#}");
    let restarted = engine.run(RESTARTED, 64, &tree);
    eventually("all of it was killed", || restarted.ended());
    assert!(!grouped.ended(), "nothing beside it");
    eventually("it is counted", || {
        agent.metric(r#"herder_escalations_total{result="ok",rule="restart",to="restart"}"#) == 1.0
    });
    let kinds: Vec<_> = agent.kills().iter().map(|kill| kill["kind"].clone()).collect();
    assert_eq!(kinds, ["subprocess", "subprocess"]);
    agent.assert_nothing_lost();
}
