//! Kills as they happen.

use super::*;

#[tokio::test]
async fn a_stream_has_each_kill_and_ends_with_the_server() {
    let server = Server::start().await;
    server.kill();
    let mut stream = server.follow("").await;
    server.kill();
    let text = stream.until("4711").await;
    assert!(text.contains("-2\ndata: {") && !text.contains("-1\ndata"), "{text}");
    let mut again = server.follow("Last-Event-ID: 1\r\n").await;
    assert!(again.until("4711").await.contains("-2\ndata"), "what it missed meanwhile");
    let mut anew = server.follow("Last-Event-ID: 700\r\n").await;
    assert!(anew.until("-2\ndata").await.contains("-1\ndata"), "of an agent before this one");
    server.stop.send(()).unwrap();
    server.ended.await.unwrap();
    assert!(stream.until("never").await.ends_with("0\r\n\r\n"), "a whole answer");
}

/// The numbers of an agent that was started anew may have caught up meanwhile.
#[tokio::test]
async fn an_id_of_an_agent_before_this_one_is_none_of_its_own() {
    let (before, server) = (Server::start().await, Server::start().await);
    let id = async |mut stream: Followed| {
        let hello = stream.until("\n\n").await;
        hello.lines().find_map(|line| line.strip_prefix("id: ").map(str::to_owned)).unwrap()
    };
    (0..2).for_each(|_| before.kill());
    (0..3).for_each(|_| server.kill());
    // Neither has had a kill on a stream.
    let (other, own) = (id(before.follow("").await).await, id(server.follow("").await).await);
    let mut anew = server.follow(&format!("Last-Event-ID: {other}\r\n")).await;
    assert!(anew.until("-3\ndata").await.contains("-1\ndata"), "all that it has");
    server.kill();
    let mut again = server.follow(&format!("Last-Event-ID: {own}\r\n")).await;
    assert!(!again.until("-4\ndata").await.contains("-3\ndata"), "only what is new");
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
    let text = stream.until(&format!("-{all}\ndata")).await;
    assert!(text.contains("event: missed\ndata: {\"missed\":36}\n\n"), "{text}");
    assert!(!text.contains("-36\ndata") && text.contains("-37\ndata"), "{text}");
    let mut late = server.follow("Last-Event-ID: 6\r\n").await;
    assert!(late.until("-37\ndata").await.contains("{\"missed\":30}"));
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
