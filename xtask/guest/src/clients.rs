//! What can clients do to the agent that mean it no good?

use crate::{
    Test,
    agent::{Agent, MATCHED},
    container::Container,
    say,
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
    time::{Duration, Instant},
};

pub const TESTS: &[Test] = &[
    ("ten_thousand_connections", ten_thousand_connections),
    ("requests_that_are_none", requests_that_are_none),
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
    assert!(descriptors(&agent) < before.1 + 60);
    drop(clients);
    agent.assert_nothing_lost();
}

/// Heads without an end, methods that nobody knows, and noise.
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
