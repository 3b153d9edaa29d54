use super::*;
use crate::{
    report::{Reporter, heartbeat::Heartbeat, requests::PodRequest},
    serve::{HEAD, Readiness, State, bind, places::HANDSHAKES, run},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use herder_model::{oom::event::Means, pods::addresses::SelfRefused};
use rustls::{
    ClientConfig,
    pki_types::ServerName,
    version::{TLS12, TLS13},
};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

pub(super) const BOTH: [&rustls::SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

pub(super) struct Server {
    pub(super) address: SocketAddr,
    reporter: Arc<Reporter>,
    pub(super) access: watch::Sender<Access>,
}

impl Server {
    /// The port for pods, of an agent that knows none.
    fn for_pods(access: Access) -> Self {
        let (core, mut asked) = mpsc::channel::<PodRequest>(1);
        tokio::spawn(async move {
            while let Some(PodRequest { answer, .. }) = asked.recv().await {
                let _ = answer.send(Err(SelfRefused::PodsUnknown));
            }
        });
        Self::of(access, |state| state.for_pods(core))
    }

    pub(super) fn start(access: Access) -> Self {
        Self::of(access, |state| state)
    }

    fn of(access: Access, port: impl FnOnce(State) -> State) -> Self {
        let listeners = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let address = listeners.addresses()[0];
        let reporter = Arc::<Reporter>::default();
        reporter.attached("ebpf", Means::Functions);
        let (core, _) = mpsc::channel(1);
        let (ready, heartbeat) = (Readiness::default(), Heartbeat::default());
        let (access, asked) = watch::channel(access);
        let state = State::new(reporter.clone(), ready, core, heartbeat, None, "node-1");
        let state = port(state.asking(asked));
        tokio::spawn(run(listeners, state, std::future::pending()));
        Server { address, reporter, access }
    }

    pub(super) async fn plain(&self, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        talk(&mut stream, path, headers).await
    }

    /// The answer by TLS, or nothing if there is none.
    pub(super) async fn tls(&self, client: ClientConfig, path: &str, headers: &str) -> String {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        match TlsConnector::from(Arc::new(client)).connect(name, stream).await {
            Ok(mut stream) => talk(&mut stream, path, headers).await,
            Err(_) => String::new(),
        }
    }

    pub(super) fn counted(&self, line: &str) -> bool {
        let text = String::from_utf8(self.reporter.metrics().exposition().0).unwrap();
        text.lines().any(|found| found == line)
    }
}

async fn talk(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    path: &str,
    headers: &str,
) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    let mut answer = Vec::new();
    if stream.write_all(request.as_bytes()).await.is_ok() {
        let _ = stream.read_to_end(&mut answer).await;
    }
    String::from_utf8_lossy(&answer).into_owned()
}

pub(super) fn has(answer: &str, status: u16, text: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(text), "{answer}");
}

pub(super) fn basic(name: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{name}:{password}")))
}

pub(super) const TLS: &str = "tls_server_config: {cert_file: tls.crt, key_file: tls.key";

#[tokio::test]
async fn with_tls_only_probes_are_answered_without() {
    let authority = Authority::new("ca");
    let directory = Directory::certified("probes", &authority);
    let server = Server::start(directory.take(&format!("{TLS}}}")).unwrap());
    for path in ["/livez", "/readyz"] {
        has(&server.plain(path, "").await, 200, "ok");
        has(&server.tls(authority.client(None, &BOTH), path, "").await, 200, "ok");
    }
    for path in ["/", "/metrics", "/api/v1/kills", "/api/v1/kills/stream", "/livez/x", "//livez"] {
        has(&server.plain(path, "").await, 400, "ask https://");
    }
    for versions in [&[&TLS13][..], &[&TLS12]] {
        let answer = server.tls(authority.client(None, versions), "/metrics", "").await;
        has(&answer, 200, "herder_build_info{");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
        assert_eq!(body.len().to_string(), length, "all of it");
    }
    let stranger = Authority::new("other").client(None, &BOTH);
    assert_eq!(server.tls(stranger, "/metrics", "").await, "");
    assert!(server.counted("herder_http_refused_total{reason=\"plain-http\"} 6"));
    // The server notices it when the client has gone.
    let counted = async {
        while !server.counted("herder_http_refused_total{reason=\"handshake\"} 1") {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(3), counted).await.expect("the failure is counted");
}

/// Go's five kinds, by what the client shows: nothing, a certificate of a stranger, one of the
/// authority.
#[tokio::test]
async fn clients_show_the_certificates_that_are_asked_for() {
    let authority = Authority::new("ca");
    let directory = Directory::certified("clients", &authority);
    let (own, strange) =
        (authority.certify(&["a", "10.0.0.1"]), Authority::new("x").certify(&["a"]));
    let ca = ", client_ca_file: ca.crt";
    let table = [
        ("NoClientCert", "", "", [true, true, true]),
        ("RequestClientCert", "", "", [true, true, true]),
        ("RequestClientCert", ca, "", [true, true, true]),
        ("RequireAnyClientCert", "", "", [false, true, true]),
        ("RequireClientCert", "", "", [false, true, true]),
        ("VerifyClientCertIfGiven", ca, "", [true, false, true]),
        ("RequireAndVerifyClientCert", ca, "", [false, false, true]),
        ("RequireAnyClientCert", "", ", client_allowed_sans: [a]", [false, true, true]),
        ("RequireAnyClientCert", "", ", client_allowed_sans: [b, 10.0.0.1]", [false, false, true]),
        ("RequireAndVerifyClientCert", ca, ", client_allowed_sans: [a]", [false, false, true]),
        ("RequireAndVerifyClientCert", ca, ", client_allowed_sans: [b, 10.0.0.2]", [false; 3]),
    ];
    for (kind, ca, names, expected) in table {
        let text = format!("{TLS}, client_auth_type: {kind}{ca}{names}}}");
        let server = Server::start(directory.take(&text).unwrap());
        for versions in [&[&TLS13][..], &[&TLS12]] {
            for (shows, expected) in [None, Some(&strange), Some(&own)].into_iter().zip(expected) {
                let client = authority.client(shows, versions);
                let answer = server.tls(client, "/metrics", "").await;
                assert_eq!(answer.starts_with("HTTP/1.1 200"), expected, "{text}: {answer}");
            }
        }
        // Whatever is asked for, the kubelet has no certificate.
        has(&server.plain("/livez", "").await, 200, "ok");
    }
}

#[tokio::test]
async fn names_of_uris_are_compared() {
    let authority = Authority::new("ca");
    let directory = Directory::certified("uris", &authority);
    let own = authority.certify(&["spiffe://cluster/ns/monitoring"]);
    for (name, expected) in
        [("spiffe://cluster/ns/monitoring", true), ("spiffe://cluster/ns", false)]
    {
        let text = format!(
            "{TLS}, client_ca_file: ca.crt, client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: [\"{name}\"]}}"
        );
        let server = Server::start(directory.take(&text).unwrap());
        let answer = server.tls(authority.client(Some(&own), &BOTH), "/metrics", "").await;
        assert_eq!(!answer.is_empty(), expected, "{name}");
    }
}

#[tokio::test]
async fn names_and_passwords_open_all_other_paths() {
    let hash = bcrypt::hash("secret", 4).unwrap();
    let directory = Directory::new("users");
    let server =
        Server::start(directory.take(&format!("basic_auth_users: {{a: {hash}}}")).unwrap());
    for path in ["/livez", "/readyz"] {
        has(&server.plain(path, "").await, 200, "ok");
    }
    for path in ["/", "/page.js", "/metrics", "/api/v1/node", "/nothing", "/api/v1/kills/stream"] {
        has(&server.plain(path, "").await, 401, "www-authenticate: Basic realm=");
    }
    has(&server.plain("/metrics", &basic("a", "secret")).await, 200, "herder_build_info{");
    has(&server.plain("/metrics", &basic("a", "other")).await, 401, "is wrong");
    has(&server.plain("/metrics", &basic("b", "secret")).await, 401, "is wrong");
    let twice = basic("a", "secret").repeat(2);
    has(&server.plain("/metrics", &twice).await, 401, "needed");
    assert!(server.counted("herder_http_refused_total{reason=\"no-credentials\"} 7"));
    assert!(server.counted("herder_http_refused_total{reason=\"wrong-credentials\"} 2"));
    // A name that is taken out of the file counts no more, also where it was remembered.
    let other = bcrypt::hash("other", 4).unwrap();
    let taken = directory.take(&format!("basic_auth_users: {{a: {other}}}")).unwrap();
    server.access.send_replace(taken);
    has(&server.plain("/metrics", &basic("a", "secret")).await, 401, "is wrong");
    has(&server.plain("/metrics", &basic("a", "other")).await, 200, "herder_build_info{");
}

/// A pod's address is what it is known by. TLS holds for it too.
#[tokio::test]
async fn the_port_for_pods_has_tls_and_no_password() {
    let authority = Authority::new("ca");
    let directory = Directory::certified("pods", &authority);
    let users = format!("{TLS}}}\nbasic_auth_users: {{a: {}}}", bcrypt::hash("right", 4).unwrap());
    let server = Server::for_pods(directory.take(&users).unwrap());
    let kills = "/api/v1/self/kills";
    has(&server.tls(authority.client(None, &BOTH), kills, "").await, 503, "pods-unknown");
    has(&server.plain(kills, "").await, 400, "ask https://");
    has(&server.plain("/livez", "").await, 400, "ask https://");
    assert!(server.counted("herder_http_refused_total{reason=\"plain-http\"} 2"));
    assert!(server.counted("herder_self_refused_total{reason=\"pods-unknown\"} 1"));
}

/// The check of a password takes its time, here until the probe is answered, and delays no probe.
#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "another thread waits for it")]
async fn probes_are_answered_while_passwords_are_checked() {
    let hash = bcrypt::hash("secret", 4).unwrap();
    let directory = Directory::new("slow");
    let access = directory.take(&format!("basic_auth_users: {{a: {hash}}}")).unwrap();
    let gate = access.0.passwords.as_ref().unwrap().gate.clone();
    let server = Server::start(access);
    let checking = gate.lock().unwrap();
    let mut guesses = Vec::new();
    for guess in 0..10 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let header = basic("a", &guess.to_string());
        let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        guesses.push(stream);
    }
    has(&server.plain("/livez", "").await, 200, "ok");
    drop(checking);
    for mut guess in guesses {
        let mut first = [0; 12];
        guess.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 401");
    }
}

#[tokio::test]
async fn headers_are_on_every_answer() {
    let directory = Directory::new("headers");
    let text = "http_server_config:\n  headers:\n    X-Frame-Options: sameorigin\n    Strict-Transport-Security: max-age=60\n    Content-Security-Policy: img-src 'none'\n    X-XSS-Protection: \"\"\n";
    let server = Server::start(directory.take(text).unwrap());
    for path in ["/", "/metrics", "/livez", "/nothing"] {
        let answer = server.plain(path, "").await;
        for header in ["x-frame-options: sameorigin", "strict-transport-security: max-age=60"] {
            assert!(answer.contains(&format!("\r\n{header}\r\n")), "{answer}");
        }
        assert!(!answer.contains("x-xss-protection"), "{answer}");
    }
    let page = server.plain("/", "").await;
    assert!(page.contains("img-src 'none'") && page.contains("default-src 'none'"), "{page}");
}

/// Neither a client that begins a handshake and stops, nor many of them, keep others out.
#[tokio::test]
async fn handshakes_that_do_not_end_keep_no_other_out() {
    let authority = Authority::new("ca");
    let directory = Directory::certified("stalled", &authority);
    let server = Server::start(directory.take(&format!("{TLS}}}")).unwrap());
    let mut held = Vec::new();
    for host in 0..3 * HANDSHAKES {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 1, u8::try_from(host).unwrap()], 0).into()).unwrap();
        let mut stream = socket.connect(server.address).await.unwrap();
        // The head of a record that says more than follows.
        stream.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        held.push(stream);
        if host % 8 == 0 {
            let soon = Duration::from_secs(3);
            has(&timeout(soon, server.plain("/livez", "")).await.unwrap(), 200, "ok");
            let client = authority.client(None, &BOTH);
            let answer = timeout(soon, server.tls(client, "/metrics", "")).await.unwrap();
            has(&answer, 200, "herder_build_info{");
        }
    }
    let closed = async |stream: &mut TcpStream, within: Duration| {
        let mut rest = Vec::new();
        timeout(within, stream.read_to_end(&mut rest)).await.is_ok()
    };
    assert!(closed(&mut held[0], Duration::from_secs(3)).await, "it made room for others");
    let last = held.last_mut().unwrap();
    assert!(!closed(last, Duration::ZERO).await, "it has its time");
    assert!(closed(last, HEAD + Duration::from_secs(3)).await, "and no more");
}

/// A new certificate is shown to the next client.
#[tokio::test]
async fn a_new_certificate_is_in_force_at_the_next_connection() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let directory = Directory::certified("renewed", &old);
    let text = format!("{TLS}}}");
    let server = Server::start(directory.take(&text).unwrap());
    has(&server.tls(old.client(None, &BOTH), "/metrics", "").await, 200, "");
    let renewed = Directory::certified("renewed-too", &new);
    server.access.send_replace(renewed.take(&text).unwrap());
    has(&server.tls(new.client(None, &BOTH), "/metrics", "").await, 200, "");
    assert_eq!(server.tls(old.client(None, &BOTH), "/metrics", "").await, "");
    server.access.send_replace(Access::default());
    has(&server.plain("/metrics", "").await, 200, "herder_build_info{");
}
