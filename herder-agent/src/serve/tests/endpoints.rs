//! What each path answers, and what the page may run.

use super::*;
use crate::report::ConfigInForce;
use herder_model::{
    arguments::{Arguments, ProcessKey},
    kill::KillReport,
    scene::{
        Scene,
        finding::{Finding, Rule},
    },
};

#[tokio::test]
async fn each_endpoint_answers() {
    let server = Server::start().await;
    has(&server.get("/livez").await, 200, "ok");
    has(&server.get("/metrics").await, 200, "herder_build_info{");
    has(&server.get("/api/v1/kills").await, 200, "[]");
    has(&server.get("/api/v1/kills?limit=x").await, 400, "number");
    has(&server.get("/api/v1/kills/1").await, 404, "no such kill");
    has(&server.get("/api/v1/kills/last").await, 400, "number");
    has(&server.get("/nothing").await, 404, "/metrics");
    has(&server.ask("POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await, 405, "GET, HEAD");
    let head = server.ask("HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn ready_only_when_every_latch_is_released() {
    let server = Server::start().await;
    let (one, other) = (server.readiness.latch("one"), server.readiness.latch("other"));
    has(&server.get("/readyz").await, 503, "one, other");
    one.release();
    drop(other);
    has(&server.get("/readyz").await, 503, "not ready: other\n");
    server.readiness.latch("again").release();
    has(&server.get("/readyz").await, 503, "other");
}

/// Nothing else makes the kubelet end the agent.
#[tokio::test(start_paused = true)]
async fn alive_while_the_core_turns() {
    let server = Server::start().await;
    let _not_ready = server.readiness.latch("one");
    has(&server.get("/livez").await, 200, "ok");
    advance(Duration::from_secs(59)).await;
    has(&server.get("/livez").await, 200, "turned 59 s ago");
    advance(Duration::from_secs(1)).await;
    has(&server.get("/livez").await, 503, "the core's loop has not turned for 60 s");
    server.heartbeat.beat();
    has(&server.get("/livez").await, 200, "turned 0 s ago");
}

/// The page's parts are all here, and nothing else may run in it.
#[tokio::test]
async fn the_page_is_whole_and_strict() {
    let server = Server::start().await;
    let page = server.get("/").await;
    has(&page, 200, "text/html");
    has(&page, 200, "content-security-policy: default-src 'none'; script-src 'self'");
    let parts = page.split(['"', '=']).filter(|part| part.starts_with("page."));
    for part in parts.chain(["page.svg"]) {
        has(&server.get(&format!("/{part}")).await, 200, "nosniff");
    }
    let (_, html) = page.split_once("\r\n\r\n").unwrap();
    for inline in ["<style", "style=", "onclick", "onload", "javascript:", "http:", "https:"] {
        assert!(!html.contains(inline), "{inline}");
    }
    assert_eq!(html.matches("<script").count(), html.matches("<script src=\"page.js\"").count());
    let script = include_str!("../page/page.js");
    // A proxy may have the page below a path.
    for path in ["/page.", "/api/", "/metrics"] {
        for quote in ['"', '\'', '`', '='] {
            let root = format!("{quote}{path}");
            assert!(!html.contains(&root) && !script.contains(&root), "{root}");
        }
    }
    for markup in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("] {
        assert!(!script.contains(markup), "{markup}");
    }
}

#[tokio::test]
async fn a_node_shows_what_it_goes_by() {
    let server = Server::start().await;
    has(&server.get("/api/v1/node").await, 200, r#""node":"node-1""#);
    has(&server.get("/api/v1/node").await, 200, r#""config_hash":null,"log_level":null"#);
    let (hash, log_level) = ("0a1b".to_owned(), "debug".parse().unwrap());
    server.reporter.config_begins(ConfigInForce { hash, log_level });
    let shown = r#""config_hash":"0a1b","log_level":"debug""#;
    has(&server.get("/api/v1/node").await, 200, shown);
}

/// The list stays small; one kill has all.
#[tokio::test]
async fn a_kill_has_its_scene_alone() {
    let server = Server::start().await;
    let cgroup = CgroupPath::parse(b"/c").unwrap();
    let kill = report(Owner::Host { cgroup }, Kind::Subprocess);
    server.reporter.kill(&kill);
    let finding = Finding { text: "Why.".to_owned(), rules: vec![Rule::OneProcess] };
    let scene = Some(Arc::new(Scene { finding: Some(finding), ..Scene::default() }));
    server.reporter.kill(&KillReport { scene, ..kill });
    has(&server.get("/api/v1/kills/1").await, 200, r#","scene":null,"arguments":null}"#);
    let whole = server.get("/api/v1/kills/2").await;
    has(&whole, 200, r#""scene":{"finding":{"text":"Why.","rules":["one-process"]}"#);
    has(&whole, 200, r#"{"id":2,"time":"#);
    assert!(!server.get("/api/v1/kills").await.contains("scene"));
}

/// Whatever was kept while clients had to authenticate themselves.
#[tokio::test]
async fn arguments_are_shown_only_where_not_everyone_can_ask() {
    let reporter = Arc::<Reporter>::default();
    let cgroup = CgroupPath::parse(b"/c").unwrap();
    let kill = reporter.kill(&report(Owner::Host { cgroup }, Kind::Subprocess));
    let process = ProcessKey { tgid: 4, start_boottime: 1 };
    let known = Ok(Arguments::new(b"hog\0\x1b[2J\0", true));
    reporter.keep_arguments(kill, vec![(process, known)]);
    let shown = r#""arguments":[{"pid":4,"text":"hog \\u{1b}[2J","cut":true,"missing":null}]}"#;
    let hidden = r#""arguments":null}"#;
    for (is_local, host, expected) in [
        (true, "127.0.0.1:9469", shown),
        (true, "localhost", shown),
        // A page of a browser on this machine has given its own name the address 127.0.0.1.
        (true, "rebound.example:9469", hidden),
        (false, "localhost", hidden),
    ] {
        let server = Server::start_with(reporter.clone(), is_local).await;
        let headers = format!("Host: {host}\r\nConnection: close");
        let request = format!("GET /api/v1/kills/1 HTTP/1.1\r\n{headers}\r\n\r\n");
        has(&server.ask(&request).await, 200, expected);
        assert!(!server.get("/api/v1/kills").await.contains("arguments"));
    }
}
