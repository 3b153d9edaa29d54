//! Kills as they happen.

use super::*;

#[tokio::test]
async fn a_stream_has_each_kill_and_ends_with_the_server() {
    let server = Server::start().await;
    server.kill();
    let mut stream = server.follow("").await;
    server.kill();
    let text = stream.until("4711").await;
    assert!(text.contains("event: kill\nid: 2\ndata: {") && !text.contains("id: 1\n"), "{text}");
    let mut again = server.follow("Last-Event-ID: 1\r\n").await;
    assert!(again.until("4711").await.contains("id: 2\n"), "what it missed meanwhile");
    let mut anew = server.follow("Last-Event-ID: 700\r\n").await;
    assert!(anew.until("id: 2\n").await.contains("id: 1\n"), "of an agent before this one");
    server.stop.send(()).unwrap();
    server.ended.await.unwrap();
    assert!(stream.until("never").await.ends_with("0\r\n\r\n"), "a whole answer");
}

/// Other connections end after a minute.
#[tokio::test(start_paused = true)]
async fn a_quiet_stream_is_kept_alive_until_its_own_limit() {
    let server = Server::start().await;
    let began = tokio::time::Instant::now();
    let mut stream = server.follow("").await;
    let rest = stream.until("never").await;
    assert!(rest.matches(": alive").count() > 200, "{}", rest.len());
    assert!(rest.ends_with("0\r\n\r\n"), "a whole answer");
    assert!(began.elapsed() >= stream::LONGEST);
}

#[tokio::test]
async fn a_slow_client_learns_what_it_missed() {
    let server = Server::start().await;
    let mut stream = server.follow("").await;
    // One thread: the server has no turn before the client reads.
    let all = KEPT + 36;
    (0..all).for_each(|_| server.kill());
    let text = stream.until(&format!("id: {all}\n")).await;
    assert!(text.contains("event: missed\ndata: {\"missed\":36}\n\n"), "{text}");
    assert!(!text.contains("id: 36\n") && text.contains("id: 37\n"), "{text}");
    let mut late = server.follow("Last-Event-ID: 6\r\n").await;
    assert!(late.until("id: 37\n").await.contains("{\"missed\":30}"));
}

#[tokio::test]
async fn streams_are_few_and_a_closed_one_makes_room() {
    let server = Server::start().await;
    let mut streams = Vec::new();
    for host in (2..).take(stream::STREAMS) {
        streams.push(server.follow_from(host, "").await);
    }
    has(&server.get("/api/v1/kills/stream").await, 503, "streams are open already");
    has(&server.get("/livez").await, 200, "ok");
    drop(streams);
    // A closed connection is noticed when something is written to it.
    while !server.follow("").await.until("\r\n\r\n").await.starts_with("HTTP/1.1 200") {
        server.kill();
    }
}
