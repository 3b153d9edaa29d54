//! How long a scrape of 10,000 series takes, with the agent's own reporter and server
//! on this machine. `cargo xtask bench --only scrape` keeps what it prints.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement says what it found"
)]

use herder_agent::inside::{
    report::{Reporter, heartbeat::Heartbeat},
    serve::{self, Access, Readiness, State, access::AccessFiles},
};
use herder_model::{
    cgroup::CgroupId,
    clock::Monotonic,
    kill::KillReport,
    oom::{Kind, Limit, OomKill, Victim},
    owner::{ContainerNames, Owner},
};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring::default_provider,
};
use serde_json::{Value, json};
use std::{
    fs,
    future::pending,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::{
    runtime::Builder,
    sync::{mpsc, watch},
};

/// Pods with one container each, which has fifteen series.
const PODS: usize = 750;

const KINDS: [Kind; 3] = [Kind::Subprocess, Kind::Init, Kind::Group];

/// Scrapes that are timed.
const TIMES: usize = 500;

/// Time between two: the server answers ten handshakes a second of one address.
const PAUSE: Duration = Duration::from_millis(105);

fn kill(owner: &Owner, kind: Kind) -> KillReport {
    let victims = vec![Victim::nameless(CgroupId(1), Monotonic::ZERO)];
    let kill = OomKill { victims, ..OomKill::default() };
    KillReport {
        rule: Some("web".into()),
        ..KillReport::new(owner.clone(), kind, Limit::Container, kill)
    }
}

/// A reporter with kills of each kind in each pod.
fn reporter() -> Arc<Reporter> {
    let reporter = Arc::new(Reporter::default());
    for number in 0..PODS {
        let owner = Owner::Container(ContainerNames {
            namespace: format!("team-{}", number % 40),
            pod: format!("checkout-service-7d9c5b8f6d-{number:05}"),
            container: "worker".into(),
        });
        for kind in KINDS {
            reporter.kill(&kill(&owner, kind));
        }
        reporter.oom_group_effective(&owner, Some(false), false);
    }
    reporter
}

/// How a scrape is made.
#[derive(Clone, Copy)]
struct How<'a> {
    address: SocketAddr,
    gzip: bool,
    tls: Option<&'a Arc<ClientConfig>>,
}

/// A scrape by a connection of its own; gives the answer, without taking gzip apart.
fn scrape(how: How<'_>) -> Vec<u8> {
    let stream = TcpStream::connect(how.address).unwrap();
    // As Prometheus does, whose language does so unasked.
    stream.set_nodelay(true).unwrap();
    let Some(tls) = how.tls else { return asked(stream, how.gzip) };
    let connection = ClientConnection::new(tls.clone(), "localhost".try_into().unwrap()).unwrap();
    asked(StreamOwned::new(connection, stream), how.gzip)
}

fn asked(mut stream: impl Read + Write, gzip: bool) -> Vec<u8> {
    let accepts = if gzip { "Accept-Encoding: gzip\r\n" } else { "" };
    // In the oldest version of HTTP an answer ends with its connection.
    write!(stream, "GET /metrics HTTP/1.0\r\n{accepts}\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// A server of what the reporter has.
fn serve(reporter: &Arc<Reporter>, access: Access) -> SocketAddr {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let listeners = runtime.block_on(async { serve::bind(&[([127, 0, 0, 1], 0).into()]) }).unwrap();
    let address = listeners.addresses()[0];
    // No request reaches the core here.
    let (core, _) = mpsc::channel(1);
    let (_, access) = watch::channel(access);
    let (ready, heartbeat) = (Readiness::default(), Heartbeat::default());
    let state = State::new(reporter.clone(), ready, core, heartbeat, None, "node-1");
    thread::spawn(move || runtime.block_on(serve::run(listeners, state.asking(access), pending())));
    address
}

/// A certificate of this server's own (ECDSA, P-256), and a client that trusts it.
fn tls() -> (Access, Arc<ClientConfig>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let file = std::env::temp_dir().join(format!("herder-bench-{}.yaml", std::process::id()));
    let indented = |text: &str| text.trim_end().replace('\n', "\n    ");
    let text = format!(
        "tls_server_config:\n  cert: |\n    {}\n  key: |\n    {}\n",
        indented(&certificate.pem()),
        indented(&key.serialize_pem())
    );
    fs::write(&file, text).unwrap();
    let access = AccessFiles::read(&file, |path| fs::read_to_string(path)).take().unwrap();
    fs::remove_file(&file).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (access, Arc::new(client))
}

/// Milliseconds of each of many runs.
fn timed(pause: Duration, mut run: impl FnMut()) -> Value {
    let mut all: Vec<_> = (0..TIMES)
        .map(|_| {
            thread::sleep(pause);
            let began = Instant::now();
            run();
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    all.sort_by(f64::total_cmp);
    let at = |thousandths: usize| all[(TIMES * thousandths / 1000).min(TIMES - 1)];
    json!({"count": TIMES, "least": at(0), "median": at(500), "p90": at(900), "p99": at(990), "most": at(1000)})
}

fn main() {
    let reporter = reporter();
    let (access, client) = tls();
    let plain = How { address: serve(&reporter, Access::default()), gzip: false, tls: None };
    let gzip = How { gzip: true, ..plain };
    let tls = How { address: serve(&reporter, access), gzip: false, tls: Some(&client) };
    let both = How { gzip: true, ..tls };
    let answer = String::from_utf8(scrape(plain)).unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let series = body.lines().filter(|line| !line.starts_with('#')).count();
    let encode = timed(Duration::ZERO, || drop(reporter.metrics().exposition()));
    let [get, get_gzip, get_tls, get_both] =
        [plain, gzip, tls, both].map(|how| timed(PAUSE, || drop(scrape(how))));
    let figures = json!({
        "pods": PODS, "series": series, "bytes": body.len(), "bytes with gzip": scrape(gzip).len(),
        "encode": encode, "GET /metrics": get, "with gzip": get_gzip, "with TLS": get_tls,
        "with TLS and gzip": get_both,
    });
    println!("{figures}");
}
