//! The ways in which an API server is not reached. Each is logged in a line of its own,
//! with its cause and what to do.

use super::server::{answer, no_answers};
use herder_agent::inside::kubernetes::client::{Failure, OnFailure, Times, connect_with};
use hyper::Request;
use kube::Config;
use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
        version::TLS12,
    },
};

fn certificate(name: &str) -> CertificateDer<'static> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
    CertificateDer::from_pem_file(fixtures.join(name).with_extension("pem")).unwrap()
}

/// What a server does with a connection.
enum Server {
    /// Nothing listens.
    Absent,
    /// It closes the connection at once.
    Closes,
    /// It says nothing.
    Silent,
    /// It says this, without TLS.
    Plain(&'static [u8]),
    /// It has this certificate.
    Tls(&'static str),
    /// It wants a certificate of the client.
    WantsCertificate,
}

impl Server {
    async fn start(self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        if !matches!(self, Server::Absent) {
            tokio::spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    self.serve(stream).await;
                }
            });
        }
        port
    }

    async fn serve(&self, mut stream: TcpStream) {
        match self {
            Server::Absent | Server::Closes => {}
            Server::Silent => std::mem::forget(stream),
            Server::Plain(text) => {
                // Whatever it is, it is no request that could be answered.
                assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
                stream.write_all(text).await.unwrap();
            }
            Server::Tls(name) => accept(tls(name, false), stream).await,
            Server::WantsCertificate => accept(tls("valid", true), stream).await,
        }
    }
}

fn tls(name: &str, wants_certificate: bool) -> ServerConfig {
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    // Of TLS 1.3 the client learns only with the answer that it was refused.
    let versions =
        if wants_certificate { &[&TLS12][..] } else { tokio_rustls::rustls::ALL_VERSIONS };
    let config = ServerConfig::builder_with_provider(provider.clone());
    let config = config.with_protocol_versions(versions).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca")).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let config = if wants_certificate {
        config.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        config.with_no_client_auth()
    };
    let key = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls/key.pem");
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    config.with_single_cert(vec![certificate(name)], key).unwrap()
}

/// A handshake, and if that succeeds the version of an API server.
async fn accept(config: ServerConfig, stream: TcpStream) {
    let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return };
    if stream.read(&mut [0; 4096]).await.is_ok() {
        let answer =
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        stream.write_all(answer).await.unwrap();
    }
}

/// Asks at this URL; gives the error, if there is one, and how it was counted.
async fn ask(url: String) -> (Option<String>, Vec<Failure>) {
    let mut config = Config::new(url.parse().unwrap());
    config.root_cert = Some(vec![certificate("ca").to_vec()]);
    let failures = Arc::new(Mutex::new(Vec::new()));
    let seen = failures.clone();
    let on_failure: OnFailure = Arc::new(move |failure| seen.lock().unwrap().push(failure));
    let times = Times { answer: Duration::from_secs(2), ..Times::default() };
    let api = connect_with(config, times, on_failure).unwrap();
    let answer = api.send(Request::get("/version").body(Vec::new()).unwrap()).await;
    let failures = failures.lock().unwrap().clone();
    (answer.err().map(|error| error.to_string()), failures)
}

#[tokio::test]
async fn each_way_not_to_be_reached_is_printed_with_its_cause_and_what_to_do() {
    use Failure::{Connection, Timeout};
    let table = [
        ("https", Server::Absent, Connection, ["Connection refused", "is the API server running"]),
        (
            "https",
            Server::Closes,
            Connection,
            ["client error (Connect): ", "closed at the other end"],
        ),
        ("http", Server::Closes, Connection, ["client error", "closed at the other end"]),
        ("https", Server::Silent, Timeout, ["no answer within 2s", "hangs"]),
        (
            "https",
            Server::Plain(b"HTTP/1.1 400 x\r\n\r\n"),
            Connection,
            ["InvalidContentType", "does not speak TLS"],
        ),
        (
            "http",
            Server::Plain(b"\x15\x03\x01\x00\x02\x02\x46"),
            Connection,
            ["invalid HTTP", "with https"],
        ),
        ("https", Server::Tls("expired"), Connection, ["certificate expired", "the node's clock"]),
        ("https", Server::Tls("early"), Connection, ["not valid yet", "set the clock"]),
        ("https", Server::Tls("other-name"), Connection, ["api.example.com", "subjectAltName"]),
        ("https", Server::Tls("stranger"), Connection, ["UnknownIssuer", "not signed by the CA"]),
        ("https", Server::WantsCertificate, Connection, ["fatal alert", "client certificate"]),
    ];
    let mut logged = Vec::new();
    for (scheme, server, failure, parts) in table {
        let port = server.start().await;
        let (error, failures) = ask(format!("{scheme}://127.0.0.1:{port}")).await;
        let error = error.unwrap();
        for part in parts {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert_eq!(failures, [failure], "{error}");
        logged.push(error);
    }
    // Two dots in a row are in no name, so that no name server is asked for it.
    let (error, failures) = ask("http://api..example:6443".to_owned()).await;
    let error = error.unwrap();
    assert!(error.contains("dns error: ") && error.contains("dnsPolicy"), "{error}");
    assert_eq!(failures, [Connection]);
    logged.push(error);
    for error in &logged {
        assert!(!error.contains('\n') && error.len() < 600, "{error}");
        assert!(error.matches("(Connect)").count() <= 1, "said twice: {error}");
    }
    let count = logged.len();
    logged.sort();
    logged.dedup();
    assert_eq!(logged.len(), count, "each is another: {logged:#?}");
}

#[tokio::test]
async fn a_server_with_a_good_certificate_is_reached() {
    let port = Server::Tls("valid").start().await;
    assert_eq!(ask(format!("https://127.0.0.1:{port}")).await, (None, Vec::new()));
}

/// The page itself is not logged: the server that answered may have put anything in it.
#[tokio::test]
async fn a_page_is_recognised_by_its_type() {
    let (_, page) = no_answers("Status").remove(0);
    let server = super::server::Server::play(vec![page()]).await;
    let request = Request::get("/version").body(Vec::new()).unwrap();
    let error = server.api.send(request).await.err().unwrap().to_string();
    assert!(
        error.contains("200 OK with text/html; charset=utf-8") && error.contains("proxy"),
        "{error}"
    );
    assert!(!error.contains("Sign in"), "{error}");
}

/// A refusal is recognised by what it says. It is logged in one line, whose length the server does
/// not choose.
#[tokio::test]
async fn a_refusal_is_recognised_by_what_it_says() {
    let long =
        "no\n\n2026-01-01T00:00:00Z  INFO \u{1b}[31m OOM kill.".to_owned() + &"x".repeat(5000);
    let status = serde_json::json!({"kind": "Status", "message": long, "code": 403}).to_string();
    for (kind, body) in [("application/json", status), ("text/plain", long)] {
        let server = super::server::Server::play(vec![answer("403 Forbidden", kind, &body)]).await;
        let request = Request::get("/version").body(Vec::new()).unwrap();
        let error = server.api.send(request).await.err().unwrap().to_string();
        assert!(error.starts_with("403 Forbidden: no 2026-01-01T00:00:00Z INFO"), "{error}");
        assert!(error.len() < 400 && !error.contains(char::is_control), "{error}");
        assert_eq!(server.failures(), [Failure::Forbidden]);
    }
}
