//! Against the real server, over TCP.

use super::*;
use crate::{
    attribution::Owner,
    cgroup::CgroupPath,
    core::Heartbeat,
    oom::Kind,
    report::{Reporter, tests::report},
    serve::{self, Readiness, State},
};
use std::sync::Arc;
use tokio::sync::mpsc;

async fn agent() -> (Agent, Arc<Reporter>) {
    let listeners = serve::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let url = format!("http://{}", listeners.addresses()[0]);
    let reporter = Arc::<Reporter>::default();
    let (core, _) = mpsc::channel(1);
    let (ready, heartbeat) = (Readiness::default(), Heartbeat::default());
    let state = State::new(reporter.clone(), ready, core, heartbeat, None, "node-1");
    tokio::spawn(serve::run(listeners, state, std::future::pending()));
    (Agent::new(&url).unwrap(), reporter)
}

fn kill(reporter: &Reporter) {
    let cgroup = CgroupPath::parse(b"/c").unwrap();
    reporter.kill(&report(Owner::Host { cgroup }, Kind::Subprocess));
}

#[tokio::test]
async fn kills_are_asked_and_followed() {
    let (agent, reporter) = agent().await;
    kill(&reporter);
    let kills: Vec<Value> =
        agent.json(&agent.get("/api/v1/kills?limit=20").await.unwrap()).unwrap();
    assert_eq!(kills.len(), 1);
    kill(&reporter);
    let mut stream = agent.ask("/api/v1/kills/stream", Some(HeaderValue::from(1))).await.unwrap();
    kill(&reporter);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let line = stream.line().await.unwrap().expect("the stream goes on");
        seen.extend(
            line.strip_prefix("data: ")
                .map(|data| agent.json::<Value>(data).unwrap()["id"].clone()),
        );
    }
    assert_eq!(seen, [2, 3]);
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let (agent, _) = agent().await;
    let refused = agent.get("/nothing").await.unwrap_err().to_string();
    assert!(refused.contains("404"), "{refused}");
    let core = agent.get("/api/v1/containers").await.unwrap_err().to_string();
    assert!(core.contains("503") && core.contains("core"), "{core}");
    for wrong in ["127.0.0.1:9469", "https://x", "http://x/path", "", "http://"] {
        assert!(matches!(Agent::new(wrong), Err(ClientError::Url(_))), "{wrong}");
    }
    let nobody = Agent::new("http://127.0.0.1:1").unwrap().get("/").await.unwrap_err().to_string();
    assert!(nobody.contains("http://127.0.0.1:1") && nobody.contains("--url"), "{nobody}");
}
