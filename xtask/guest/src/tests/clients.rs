//! What can clients do to the agent that mean it no good?

use crate::harness::{
    agent::{Agent, MATCHED},
    container::{Cgroup, Container},
    say::say,
    test::{Test, tests},
    wait::eventually,
};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with},
    process::{Resource, Rlimit, setrlimit},
};
use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    os::fd::OwnedFd,
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, sleep},
    time::{Duration, Instant},
};

pub const TESTS: &[Test] = tests![
    ten_thousand_connections,
    requests_that_are_none,
    clients_cannot_kill_the_agent,
    probes_beside_a_flood
];

const AGENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9469);

/// A line of the agent's status, KiB.
fn memory(agent: &Agent, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn descriptors(agent: &Agent) -> usize {
    fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count()
}

/// A connection from an address of this machine that does not wait for anything.
fn connection(from: Ipv4Addr) -> Option<TcpStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket: OwnedFd =
        socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    bind(&socket, &SocketAddrV4::new(from, 0)).unwrap();
    match connect(&socket, &AGENT) {
        Ok(()) | Err(Errno::INPROGRESS) => Some(socket.into()),
        Err(_) => None,
    }
}

/// Ten thousand clients of 2,500 addresses each send half a request, and hold on. The
/// kubelet, Prometheus and the kills do not notice.
fn ten_thousand_connections() {
    let files = Some(20_000);
    setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files }).unwrap();
    let agent = Agent::start(MATCHED);
    agent.get("/metrics");
    let before = (memory(&agent, "VmRSS:"), descriptors(&agent));
    let (mut clients, mut most, mut slowest, mut asked) = (Vec::new(), 0, Duration::ZERO, 0);
    for number in 0..10_000u32 {
        let host = number % 2500;
        let octet = |value: u32| u8::try_from(value).unwrap();
        let from = Ipv4Addr::new(127, 1, octet(host / 250), octet(host % 250 + 1));
        if let Some(mut client) = connection(from) {
            // Who is not connected yet, or cut again, sends nothing.
            let _ = client.write_all(b"GET /metrics HTTP/1.1\r\nHost:");
            clients.push(client);
        }
        if number % 500 == 499 {
            let began = Instant::now();
            agent.get("/livez");
            (slowest, asked) = (slowest.max(began.elapsed()), asked + 1);
            most = most.max(memory(&agent, "VmRSS:"));
        }
    }
    let _container = Container::start("/matched/c1", 60, &["idle", "hog:100"]);
    agent.wait_for_kills(1);
    most = most.max(memory(&agent, "VmRSS:"));
    say(&format!(
        "{} connections from 2500 addresses: {asked} of 20 probes answered, the slowest in {} ms; \
         resident {} → {most} KiB, descriptors {} → {}",
        clients.len(),
        slowest.as_millis(),
        before.0,
        before.1,
        descriptors(&agent),
    ));
    assert!(clients.len() > 9_000 && asked == 20);
    assert!(most < before.0 + 8 * 1024, "{most} KiB");
    assert!(descriptors(&agent) < before.1 + 100);
    drop(clients);
    agent.assert_nothing_lost();
}

/// Heads without an end, unknown methods, and noise.
fn requests_that_are_none() {
    let agent = Agent::start(MATCHED);
    agent.get("/metrics");
    let before = memory(&agent, "VmRSS:");
    let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(10_000));
    let requests: [&[u8]; 7] = [
        endless.as_bytes(),
        many.as_bytes(),
        b"BREW /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /api/v1/kills HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nx",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\r\n\r\n\0\0\0\0",
    ];
    for _ in 0..20 {
        for request in requests {
            let mut client = TcpStream::connect(AGENT).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let _ = client.write_all(request);
            let mut answer = Vec::new();
            let _ = client.read_to_end(&mut answer);
            let answer = String::from_utf8_lossy(&answer);
            assert!(!answer.starts_with("HTTP/1.1 2"), "{request:.20?}: {answer}");
        }
        agent.get("/livez");
    }
    let after = memory(&agent, "VmRSS:");
    say(&format!("140 requests that are none: resident {before} → {after} KiB"));
    assert!(after < before + 4 * 1024);
}

/// Matched cgroups, with paths that are long enough for lists of a megabyte.
const MATCHES: usize = 300;

/// What the server may take for all its clients, KiB (docs/http.md).
const SERVER: u64 = 12 * 1024;

/// Connections that each ask for something and read nothing.
const UNREAD: u8 = 120;

/// The agent has the memory that the shipped unit and DaemonSet give it. However long its lists
/// are, clients that do not read them cost little of that, and others are answered.
fn clients_cannot_kill_the_agent() {
    let limited = Cgroup::make("/agent");
    limited.limit(64);
    let deep: String = (0..12).map(|level| format!("/{}{level}", "x".repeat(240))).collect();
    let rules =
        format!("rules:\n- {{name: deep, cgroups: ['{deep}/*'], oomGroup: single-process}}\n");
    let agent =
        Agent::start_in(&limited, &rules, &["--log-level", "error", "--resync-seconds", "1"]);
    let first = Cgroup::make(&format!("{deep}/c0"));
    for number in 1..MATCHES {
        let path = first.path().replace("/c0", &format!("/c{number}"));
        fs::create_dir(format!("/sys/fs/cgroup{path}")).unwrap();
    }
    // The kernel cuts so long a path, so a walk has to find them.
    let list = || agent.get("/api/v1/containers");
    eventually("all are known", || list().matches("\"rule\":\"deep\"").count() == MATCHES);
    let now = || fs::read_to_string(limited.file("memory.current")).unwrap();
    let now = || now().trim().parse::<u64>().unwrap() >> 10;
    let rest = now();
    let sizes = [list().len(), agent.get("/metrics").len()];
    assert!(sizes.iter().all(|size| *size > 800 << 10), "{sizes:?}");
    for path in ["/api/v1/containers", "/metrics"] {
        let clients: Vec<_> = (0..UNREAD).map(|number| unread(number % 4 + 1, path)).collect();
        let most = most_within(Duration::from_secs(2), || {
            assert!(agent.get("/livez").starts_with("ok"));
            now()
        });
        say(&format!("{rest} KiB, with {UNREAD} clients that do not read {path} {most} KiB"));
        assert!(most < rest + SERVER, "{most} KiB");
        drop(clients);
    }
    // What is cut leaves nothing behind either.
    let mut cut = 0;
    let most = most_within(Duration::from_secs(3), || {
        let clients: Vec<_> = (0..60).map(|number| unread(number % 4 + 1, "/metrics")).collect();
        cut += clients.len();
        now()
    });
    say(&format!("{rest} KiB, and {most} KiB while {cut} clients came and went"));
    assert!(most < rest + SERVER, "{most} KiB");
    assert_eq!(limited.event("oom_kill"), 0);
    assert_eq!(list().len(), sizes[0]);
}

fn unread(host: u8, path: &str) -> Option<TcpStream> {
    let mut client = connection(Ipv4Addr::new(127, 0, 0, host))?;
    let _ = write!(client, "GET {path} HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 0\r\n\r\n");
    Some(client)
}

/// The largest of what is measured for a while.
fn most_within(time: Duration, mut measure: impl FnMut() -> u64) -> u64 {
    let (until, mut most) = (Instant::now() + time, 0);
    while Instant::now() < until {
        most = most.max(measure());
        sleep(Duration::from_millis(20));
    }
    most
}

/// The kubelet has the node's address, and so has every pod of the host's network.
fn probes_beside_a_flood() {
    let agent = Agent::start(MATCHED);
    let held: Vec<_> = (0..6)
        .map(|_| {
            let mut client = TcpStream::connect(AGENT).unwrap();
            client.write_all(b"GET /livez HTTP/1.1\r\nHost:").unwrap();
            client
        })
        .collect();
    let over = AtomicBool::new(false);
    let (came, mut times) = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut clients = std::collections::VecDeque::new();
            let mut came = 0;
            while !over.load(Ordering::Relaxed) {
                if let Some(mut client) = connection(Ipv4Addr::LOCALHOST) {
                    let _ = client.write_all(b"GET /livez HTTP/1.1\r\nHost:");
                    clients.push_back(client);
                    came += 1;
                }
                clients.drain(..clients.len().saturating_sub(500));
                // The kernel drops what comes faster than a program of this machine can take.
                sleep(Duration::from_millis(1));
            }
            came
        });
        let times: Vec<_> = (0..60)
            .map(|number| {
                let began = Instant::now();
                agent.get(["/livez", "/readyz", "/metrics"][number % 3]);
                sleep(Duration::from_millis(50));
                began.elapsed() - Duration::from_millis(50)
            })
            .collect();
        over.store(true, Ordering::Relaxed);
        (flood.join().unwrap(), times)
    });
    times.sort();
    let slowest = times.last().unwrap();
    say(&format!(
        "60 of 60 probes answered beside {came} half requests of the same address, in {} ms (median), \
         the slowest in {} ms",
        times[30].as_millis(),
        slowest.as_millis()
    ));
    assert!(*slowest < Duration::from_secs(1), "{times:?}");
    assert!(came > 300, "{came}");
    drop(held);
}
