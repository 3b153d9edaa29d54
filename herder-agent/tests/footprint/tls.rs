//! The same of clients that speak TLS, or begin to.

use super::{
    ALONE, COUNTED, MOST, NOW,
    clients::{LEFT_BY_CLIENTS, connect, full_server, get},
};
use herder_agent::inside::serve::access::AccessFiles;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring::default_provider,
};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

/// Connections that are held; more than there are places.
const CLIENTS: usize = 96;

/// What the server may allocate for all of them.
const MOST_SERVED: usize = 5 << 20;

/// What a client does with its connection.
#[derive(Clone, Copy)]
enum Does {
    /// It sends this instead of a handshake, or as a part of one.
    Sends(&'static [u8]),
    /// It makes the handshake, sends this, and does not read.
    Asks(&'static str),
}

/// A connection, with what the client needs for TLS.
enum Held {
    Plain { _stream: TcpStream },
    Encrypted { _stream: Box<StreamOwned<ClientConnection, TcpStream>> },
}

#[test]
fn clients_of_tls_take_little() {
    let _alone = ALONE.lock();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let directory = std::env::temp_dir().join(format!("herder-footprint-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("tls.crt"), certificate.pem()).unwrap();
    fs::write(directory.join("tls.key"), key.serialize_pem()).unwrap();
    let file = directory.join("web.yaml");
    fs::write(&file, "tls_server_config: {cert_file: tls.crt, key_file: tls.key}").unwrap();
    let access = AccessFiles::read(&file, |path| fs::read_to_string(path)).take().unwrap();
    fs::remove_dir_all(&directory).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Arc::new(client);

    let address = full_server(access);
    // A record of 16 KiB that lacks its end; and a message of 60,000 bytes in whole records.
    let record = [&b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03"[..], &[7; 16_000]].concat();
    let begins = b"\x16\x03\x01\x3a\x98\x01\x00\xea\x60\x03\x03";
    let first = [&begins[..], &[7; 14_994]].concat();
    let more = [&b"\x16\x03\x01\x3a\x98"[..], &[7; 15_000]].concat();
    let message = [&first[..], &more, &more].concat();
    let head = "x".repeat(15_000);
    let table = [
        ("half a record", Does::Sends(record.leak())),
        ("three quarters of a long message", Does::Sends(message.leak())),
        ("one byte", Does::Sends(b"\x16")),
        ("no request", Does::Asks("")),
        ("half a head", Does::Asks(format!("GET / HTTP/1.1\r\nX: {head}").leak())),
        ("kills", Does::Asks("GET /api/v1/kills HTTP/1.1\r\nHost: x\r\n\r\n")),
        ("metrics", Does::Asks("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")),
        (
            "metrics with gzip",
            Does::Asks("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n"),
        ),
        (
            "all kills since",
            Does::Asks("GET /api/v1/kills/stream HTTP/1.1\r\nLast-Event-ID: 0\r\n\r\n"),
        ),
    ];
    let before = NOW.load(Relaxed);
    for (what, does) in table {
        MOST.store(before, Relaxed);
        let held: Vec<_> = uncounted(|| {
            (0..CLIENTS).map(|number| hold(number % 24 + 2, address, &client, does)).collect()
        });
        thread::sleep(Duration::from_millis(500));
        for path in ["/livez", "/readyz"] {
            assert!(get(2, address, path).starts_with("HTTP/1.0 200"), "{what}");
        }
        let took = MOST.load(Relaxed).saturating_sub(before);
        println!("TLS, {what}: {} KiB for {CLIENTS} clients", took / 1024);
        assert!(took < MOST_SERVED, "{what}: {took} bytes");
        uncounted(|| drop(held));
        thread::sleep(Duration::from_millis(300));
        let left = NOW.load(Relaxed).saturating_sub(before);
        assert!(left < LEFT_BY_CLIENTS, "{what}: {left} bytes are left");
    }
    let metrics = uncounted(|| {
        let mut stream = encrypted(3, address, &client);
        write!(stream, "GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(metrics.len() > 2 << 20 && metrics.contains("\nprocess_"), "{}", metrics.len());
}

fn hold(host: usize, address: SocketAddr, client: &Arc<ClientConfig>, does: Does) -> Held {
    match does {
        Does::Sends(bytes) => {
            let mut stream = connect(host, address);
            // The server may have cut it already.
            let _ = stream.write_all(bytes);
            Held::Plain { _stream: stream }
        }
        Does::Asks(request) => {
            let mut stream = encrypted(host, address, client);
            // A handshake is made with the first bytes.
            let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.flush());
            while stream.conn.is_handshaking() && stream.conn.complete_io(&mut stream.sock).is_ok()
            {
            }
            Held::Encrypted { _stream: Box::new(stream) }
        }
    }
}

fn encrypted(
    host: usize,
    address: SocketAddr,
    client: &Arc<ClientConfig>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let name = "localhost".try_into().unwrap();
    let connection = ClientConnection::new(client.clone(), name).unwrap();
    StreamOwned::new(connection, connect(host, address))
}

fn uncounted<T>(work: impl FnOnce() -> T) -> T {
    COUNTED.set(false);
    let done = work();
    COUNTED.set(true);
    done
}
