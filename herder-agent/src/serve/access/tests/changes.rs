//! What becomes of clients when the file changes, and of those that ask too often.

use super::{
    served::{BOTH, Server, TLS, basic, has},
    *,
};
use crate::{
    report::heartbeat::Heartbeat,
    serve::{HANDSHAKES, HANDSHAKES_OF_ALL, State, readiness::Readiness},
};
use rustls::pki_types::ServerName;
use std::{net::Ipv6Addr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

/// By far more than anything here takes.
const SOON: Duration = Duration::from_secs(10);

fn hash(password: &str) -> String {
    bcrypt::hash(password, 4).unwrap()
}

async fn ask(stream: &mut (impl AsyncWriteExt + Unpin), path: &str, headers: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    // The server may have gone.
    let _ = stream.write_all(request.as_bytes()).await;
}

/// What comes until this has come, or the connection ends.
async fn until(stream: &mut (impl AsyncReadExt + Unpin), end: &str) -> String {
    let (mut text, mut piece) = (String::new(), [0; 4096]);
    while !text.contains(end) {
        let read = timeout(SOON, stream.read(&mut piece)).await.expect("it comes, or ends");
        match read {
            Ok(length @ 1..) => text.push_str(&String::from_utf8_lossy(&piece[..length])),
            _ => break,
        }
    }
    text
}

/// It would receive kills for an hour.
#[tokio::test]
async fn a_stream_ends_when_its_user_is_removed() {
    let directory = Directory::new("stream-of-user");
    let users = |names: &[&str]| {
        let users: Vec<_> = names.iter().map(|name| format!("{name}: {}", hash(name))).collect();
        directory.take(&format!("basic_auth_users: {{{}}}", users.join(", "))).unwrap()
    };
    let server = Server::start(users(&["a", "b"]));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    ask(&mut stream, "/api/v1/kills/stream", &basic("a", "a")).await;
    let begin = until(&mut stream, "retry: 2000").await;
    has(&begin, 200, "text/event-stream");
    server.access.send_replace(users(&["b"]));
    until(&mut stream, "never").await;
    has(&server.plain("/api/v1/kills/stream", &basic("a", "a")).await, 401, "is wrong");
    has(&server.plain("/metrics", &basic("b", "b")).await, 200, "herder_build_info{");
}

/// Neither when it is idle nor when its next request is on the way already.
#[tokio::test]
async fn a_connection_ends_when_its_authority_is_removed() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let directory = Directory::certified("authority", &old);
    let text =
        format!("{TLS}, client_ca_file: ca.crt, client_auth_type: RequireAndVerifyClientCert}}");
    let server = Server::start(directory.take(&text).unwrap());
    let own = old.certify(&["a"]);
    let connect = async || {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let client = TlsConnector::from(Arc::new(old.client(Some(&own), &BOTH)));
        client.connect(name, stream).await.unwrap()
    };
    let (mut idle, mut streams) = (connect().await, connect().await);
    let mut asks = connect().await;
    ask(&mut idle, "/api/v1/node", "").await;
    has(&until(&mut idle, "node-1").await, 200, "");
    ask(&mut streams, "/api/v1/kills/stream", "").await;
    has(&until(&mut streams, "retry: 2000").await, 200, "");
    // Its handshake is made, and half of its request is there.
    asks.write_all(b"GET /api/v1/node HTTP/1.1\r\n").await.unwrap();
    directory.write("ca.crt", &new.pem());
    server.access.send_replace(directory.take(&text).unwrap());
    for ended in [&mut idle, &mut streams] {
        until(ended, "never").await;
    }
    asks.write_all(b"Host: x\r\n\r\n").await.unwrap();
    let answer = until(&mut asks, "never").await;
    assert!(!answer.contains("node-1"), "{answer}");
    assert_eq!(server.tls(old.client(Some(&own), &BOTH), "/metrics", "").await, "");
}

/// Each login would be checked again, and no longer than checks take.
#[test]
fn logins_stay_known_when_something_else_changes() {
    let directory = Directory::new("kept-logins");
    let users = format!("basic_auth_users: {{a: {}}}\n", hash("a"));
    let before = directory.take(&users).unwrap();
    let after = |text: &str| {
        directory.write("web.yaml", text);
        let read =
            AccessFiles::read(&directory.0.join("web.yaml"), |path| fs::read_to_string(path));
        read.take_after(&before).unwrap()
    };
    let of = |access: &Access| access.0.passwords.clone().unwrap();
    let other_header = format!("{users}http_server_config: {{headers: {{X-Frame-Options: deny}}}}");
    assert!(Arc::ptr_eq(&of(&before), &of(&after(&other_header))));
    let other_user = format!("basic_auth_users: {{a: {}}}", hash("a"));
    assert!(!Arc::ptr_eq(&of(&before), &of(&after(&other_user))), "another hash");
    assert!(after("{}").0.passwords.is_none());
}

/// A handshake costs the server a signature.
#[tokio::test]
async fn an_address_that_begins_handshakes_without_end_is_refused_and_others_are_not() {
    let authority = Authority::new("ca");
    let directory = Directory::certified("handshakes", &authority);
    let server = Server::start(directory.take(&format!("{TLS}}}")).unwrap());
    let refused = "herder_http_refused_total{reason=\"too-often\"} 0";
    assert!(server.counted(refused));
    let from = async |host: u8| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, host], 0).into()).unwrap();
        socket.connect(server.address).await.unwrap()
    };
    for _ in 0..5 * HANDSHAKES.0 {
        // The head of a record that says more than follows.
        let _ = from(2).await.write_all(b"\x16\x03\x01\x02\x00\x01").await;
    }
    let is_refused = async {
        while server.counted(refused) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, is_refused).await.expect("so many are too often");
    let name = ServerName::try_from("localhost").unwrap();
    let client = TlsConnector::from(Arc::new(authority.client(None, &BOTH)));
    let other = timeout(SOON, client.connect(name, from(3).await)).await;
    assert!(other.is_ok_and(|made| made.is_ok()), "another address");
    has(&server.plain("/livez", "").await, 200, "ok");
}

/// A client may have very many addresses.
#[tokio::test(start_paused = true)]
async fn many_addresses_together_get_so_many_handshakes() {
    let state = || {
        let (core, _) = mpsc::channel(1);
        State::new(Arc::default(), Readiness::default(), core, Heartbeat::default(), None, "n")
    };
    let (all, _) = HANDSHAKES_OF_ALL;
    for state in [state(), state().for_pods(mpsc::channel(1).0)] {
        let from = |host: u32| Ipv6Addr::from(u128::from(host) << 64).into();
        let taken = (0..2 * all).filter(|host| state.handshakes.take(from(*host))).count();
        assert_eq!(u32::try_from(taken), Ok(all));
    }
}

#[tokio::test]
async fn an_address_that_guesses_has_to_wait() {
    let directory = Directory::new("guesses");
    let server =
        Server::start(directory.take(&format!("basic_auth_users: {{a: {}}}", hash("a"))).unwrap());
    let mut last = String::new();
    for guess in 0..200 {
        last = server.plain("/metrics", &basic("a", &guess.to_string())).await;
        if !last.starts_with("HTTP/1.1 401") {
            break;
        }
    }
    has(&last, 429, "Too many wrong passwords");
    has(&server.plain("/livez", "").await, 200, "ok");
}
