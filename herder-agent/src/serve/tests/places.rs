//! Clients that hold places, flood, or do not read keep no others out.

use super::*;

#[tokio::test(start_paused = true)]
async fn slow_and_huge_requests_are_cut_and_others_served() {
    let server = Server::start().await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHost:").await.unwrap();
    has(&server.get("/livez").await, 200, "ok");
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    let huge = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024));
    assert!(!server.ask(&huge).await.contains("200 OK"));
    has(&server.ask("nonsense\r\n\r\n").await, 400, "");
}

/// What a client may do with a connection that it holds on to.
const HELD: [&str; 5] = [
    "",
    "GET /livez HTTP/1.1\r\nHost:",
    "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /api/v1/kills HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /api/v1/kills HTTP/1.1\r\nHost: x\r\n\r\nGET /api/v1/kills HTTP/1.1\r\nHost: x\r\n\r\n",
];

/// Less than a client gets for its request; more than others may keep a processor.
const SOON: Duration = Duration::from_secs(3);

/// The kubelet, and every pod of the host's network, have the node's address.
#[tokio::test]
async fn probes_of_an_address_get_in_whatever_else_it_holds() {
    let server = Server::start().await;
    (0..KEPT).for_each(|_| server.kill());
    let mut held = Vec::new();
    for held_as in HELD.iter().cycle().take(NEW + SERVED) {
        let mut connection = server.connect(1).await;
        connection.write_all(held_as.as_bytes()).await.unwrap();
        held.push(connection);
        for path in ["/livez", "/readyz", "/metrics"] {
            let asked = async { has(&server.get(path).await, 200, "") };
            timeout(SOON, asked).await.expect(path);
        }
    }
}

/// Also while connections come faster than they are looked at, and where the streams of the
/// address are all taken.
#[tokio::test]
async fn probes_get_in_while_their_address_floods() {
    let server = Arc::new(Server::start().await);
    let mut streams = Vec::new();
    for _ in 0..stream::OF_ONE_ADDRESS {
        streams.push(server.follow("").await);
    }
    has(&server.get("/api/v1/kills/stream").await, 503, "streams of your address");
    let flooding = server.clone();
    let flood = tokio::spawn(async move {
        let mut held = std::collections::VecDeque::new();
        loop {
            let mut connection = flooding.connect(1).await;
            connection.write_all(b"GET /livez HTTP/1.1\r\nHost:").await.unwrap();
            held.push_back(connection);
            if held.len() > 1000 {
                held.pop_front();
            }
        }
    });
    for _ in 0..100 {
        let asked = async { has(&server.ask(LIVEZ).await, 200, "ok") };
        timeout(SOON, asked).await.expect("an answer");
    }
    flood.abort();
    server.kill();
    for mut stream in streams {
        has(&stream.until("data:").await, 200, "event-stream");
    }
}

/// A pod that takes all it can get takes nothing from the kubelet and Prometheus. No connection is cut
/// for being slow, however slow this machine is.
#[tokio::test(start_paused = true)]
async fn one_address_keeps_no_other_out() {
    let _still = standing_clock();
    let server = Server::start().await;
    (0..KEPT).for_each(|_| server.kill());
    let mut slow = server.connect(1).await;
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost:").await.unwrap();
    let mut taken = Vec::new();
    for held_as in HELD.iter().cycle().take(NEW + SERVED).chain([&HELD[1]; NEW]) {
        let mut connection = server.connect(2).await;
        connection.write_all(held_as.as_bytes()).await.unwrap();
        taken.push(connection);
    }
    has(&server.ask_from(2, LIVEZ).await, 200, "ok");
    // One that has no more than its share is none that makes room.
    slow.write_all(b" x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    has(&answer, 200, "ok");
}

/// Many addresses take all places and ask for nothing, or ask and take no answer.
#[tokio::test]
async fn who_comes_is_served_though_all_places_are_taken() {
    let server = Server::start().await;
    let mut taken = Vec::new();
    for address in 10..10 + 2 * u8::try_from(NEW + SERVED).unwrap() {
        let mut idle = server.connect(address).await;
        idle.write_all(b"GET /api/v1/kills HTTP/1.1\r\n").await.unwrap();
        if address % 2 == 0 {
            idle.write_all(b"Host: x\r\n\r\n").await.unwrap();
        }
        taken.push(idle);
        // Before those that came first would be cut for being slow.
        let answer = timeout(HEAD / 2, server.ask_from(1, LIVEZ)).await.unwrap();
        has(&answer, 200, "ok");
    }
    let mut followed = server.follow_from(2, "").await;
    for address in 10..10 + u8::try_from(NEW).unwrap() {
        taken.push(server.connect(address).await);
    }
    has(&timeout(HEAD / 2, server.ask_from(1, LIVEZ)).await.unwrap(), 200, "ok");
    server.kill();
    has(&followed.until("data:").await, 200, "event-stream");
}

/// An end in the midst of a head stays readable for ever, and must keep nothing busy.
#[tokio::test(start_paused = true)]
async fn a_client_that_goes_before_it_has_asked_is_let_go() {
    let server = Server::start().await;
    let began = tokio::time::Instant::now();
    for held_as in HELD.iter().take(2) {
        let mut connection = server.connect(1).await;
        connection.write_all(held_as.as_bytes()).await.unwrap();
        connection.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = connection.read_to_end(&mut rest).await;
        assert_eq!(rest, b"");
    }
    // A client that has asked is still answered.
    let mut connection = server.connect(1).await;
    connection.write_all(LIVEZ.as_bytes()).await.unwrap();
    connection.shutdown().await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    has(&answer, 200, "ok");
    assert!(began.elapsed() < HEAD, "{:?}", began.elapsed());
}

/// A reader that takes nothing is cut, also where it follows the kills.
#[tokio::test]
async fn who_does_not_read_is_cut() {
    let server = Server::start().await;
    (0..KEPT).for_each(|_| server.kill());
    for path in ["/api/v1/kills", "/api/v1/kills/stream"] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut slow = socket.connect(server.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 1\r\n\r\n");
        slow.write_all(request.as_bytes()).await.unwrap();
        // The server writes until the socket takes no more.
        sleep(Duration::from_millis(200)).await;
        tokio::time::pause();
        advance(UNREAD + Duration::from_secs(1)).await;
        tokio::time::resume();
        let mut part = vec![0; 1 << 20];
        let ends = async { while slow.read(&mut part).await.is_ok_and(|length| length > 0) {} };
        timeout(Duration::from_secs(5), ends).await.expect("the end");
    }
}
