//! What clients of the server can make it take.

use super::*;

/// Connections that are held; more than are served at once.
const CLIENTS: usize = 96;

/// What the server may allocate for all of them.
const MOST_SERVED: usize = 4 << 20;

/// What is kept of the last ones until others come, and what has grown for so many.
pub(super) const LEFT_BY_CLIENTS: usize = 512 * 1024;

/// Whatever is asked, and however much of it there is, clients that do not read cost little,
/// and keep no other client with the same address out.
#[test]
fn clients_that_do_not_read_take_little() {
    let _alone = ALONE.lock();
    let address = full_server(Access::default());
    let head = "x".repeat(15_000);
    let many = "GET /api/v1/kills HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let table = [
        ("kills", "GET /api/v1/kills HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        ("kills, and again", many),
        ("metrics", "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        (
            "metrics with gzip",
            "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n".to_owned(),
        ),
        ("containers", "GET /api/v1/containers HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        ("all kills since", "GET /api/v1/kills/stream HTTP/1.1\r\nLast-Event-ID: 0\r\n\r\n".into()),
        ("half a head", format!("GET / HTTP/1.1\r\nX: {head}")),
        ("a head", format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX: {head}\r\n\r\n")),
        ("a body", format!("POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n{head}")),
        ("nothing", String::new()),
    ];
    assert!(get(2, address, "/livez").starts_with("HTTP/1.0 200"));
    let before = NOW.load(Relaxed);
    for (what, request) in table {
        MOST.store(before, Relaxed);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let mut client = connect(number % 4 + 2, address);
                // The server may have cut it already.
                let _ = client.write_all(request.as_bytes());
                client
            })
            .collect();
        thread::sleep(Duration::from_millis(500));
        for path in ["/livez", "/readyz"] {
            assert!(get(2, address, path).starts_with("HTTP/1.0 200"), "{what}");
        }
        let took = MOST.load(Relaxed) - before;
        println!("{what}: {} KiB for {CLIENTS} clients", took / 1024);
        assert!(took < MOST_SERVED, "{what}: {took} bytes");
        drop(clients);
        thread::sleep(Duration::from_millis(200));
        let left = NOW.load(Relaxed).saturating_sub(before);
        assert!(left < LEFT_BY_CLIENTS, "{what}: {left} bytes are left");
    }
    let metrics = get(3, address, "/metrics");
    assert!(metrics.len() > 2 << 20 && metrics.contains("\nprocess_"), "{}", metrics.len());
    let kills = get(3, address, "/api/v1/kills");
    let kills: Vec<serde_json::Value> =
        serde_json::from_str(kills.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(kills.len(), KEPT);
}

/// Connections that wait to be accepted; the kernel lets 1,024 wait.
const WAITING: usize = 1000;

/// What the server may allocate while it accepts them, twice what it needs. A debug build keeps
/// only 240 bytes of a connection that is over; a release build 3 KiB.
const MOST_ACCEPTED: usize = 64 * 1024;

/// While others wait to be accepted, a connection that is over leaves nothing behind: a flood would
/// else grow the server for as long as it lasts.
#[test]
fn a_connection_that_is_over_takes_nothing_while_others_wait() {
    let _alone = ALONE.lock();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let listeners = runtime.block_on(async { serve::bind(&[([127, 0, 0, 1], 0).into()]) }).unwrap();
    let address = listeners.addresses()[0];
    (0..WAITING).for_each(|_| drop(connect(2, address)));
    let (reporter, core) = (Arc::new(Reporter::default()), mpsc::channel(1).0);
    let (ready, heartbeat) = (Readiness::default(), Heartbeat::default());
    let state = serve::State::new(reporter, ready, core, heartbeat, None, "node-1");
    let before = NOW.load(Relaxed);
    MOST.store(before, Relaxed);
    thread::spawn(move || runtime.block_on(serve::run(listeners, state, pending())));
    // It comes after all of them.
    assert!(get(3, address, "/livez").starts_with("HTTP/1.0 200"));
    let took = MOST.load(Relaxed) - before;
    println!("{} KiB for {WAITING} connections one after the other", took / 1024);
    assert!(took < MOST_ACCEPTED, "{took} bytes");
}

/// A server of a journal full of group kills, 10,000 series and 1,000 containers.
pub(super) fn full_server(access: Access) -> SocketAddr {
    let reporter = Arc::new(Reporter::default());
    let mut tree = CgroupTree::default();
    let mut reconciler = Reconciler::new(Duration::from_nanos(1));
    let mut states = Vec::new();
    for number in 0..KEPT {
        let pod = format!("00000000-0000-0000-0000-{number:012x}");
        one_kill(number, &pod, &reporter, &mut tree, &mut reconciler);
        let path = format!("/kubepods/pod{pod}/{number:064x}");
        let cgroup = CgroupPath::parse(path.as_bytes()).unwrap();
        let pod = format!("checkout-service-7d9c5b8f6d-{number:06}");
        let owner = |container: usize| {
            let (namespace, container) = ("shop".into(), format!("container-{container}"));
            Owner::Container(ContainerNames { namespace, pod: pod.clone(), container })
        };
        let victim = Victim::nameless(CgroupId(1), Monotonic::ZERO);
        let kill = OomKill {
            victims: vec![Victim { tgid: 4711, comm: "gunicorn: worker".into(), ..victim }; 9],
            group: Some(true),
            ..OomKill::default()
        };
        reporter.kill(&KillReport {
            cgroup: Some(cgroup.clone()),
            rule: Some("web".into()),
            ..KillReport::new(owner(0), Kind::Group, Limit::Container, kill)
        });
        (0..4).for_each(|one| reporter.oom_group_effective(&owner(one), Some(false), false));
        states.push(ContainerState {
            id: CgroupId(1),
            cgroup,
            inner_cgroup: None,
            owner: owner(0),
            rule: "web".into(),
            wanted: 0,
            effective: Some(0),
            first: None,
            obstacle: None,
            explanation: Some("what stands in the way, and what to do".repeat(4)),
            writes: 1,
            reverts: 0,
            escalation: None,
            init: None,
        });
    }
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let listeners = runtime.block_on(async { serve::bind(&[([127, 0, 0, 1], 0).into()]) }).unwrap();
    let address = listeners.addresses()[0];
    let (core, mut commands) = mpsc::channel(64);
    thread::spawn(move || {
        while let Some(StatesRequest { after, most, answer }) = commands.blocking_recv() {
            let first = after.map_or(0, |(_, id)| usize::try_from(id.0).unwrap() + 1);
            let last = (first + most).min(states.len());
            let more =
                (last < states.len()).then(|| (CgroupPath::root(), CgroupId(last as u64 - 1)));
            let _ = answer.send(States { states: states[first..last].to_vec(), next: more });
        }
    });
    let (ready, heartbeat) = (Readiness::default(), Heartbeat::default());
    let (_, access) = watch::channel(access);
    let state = serve::State::new(reporter, ready, core, heartbeat, None, "node-1").asking(access);
    thread::spawn(move || runtime.block_on(serve::run(listeners, state, pending())));
    address
}

/// A connection from 127.0.0.`host`.
pub(super) fn connect(host: usize, address: SocketAddr) -> TcpStream {
    let runtime = Builder::new_current_thread().enable_io().build().unwrap();
    let connected = runtime.block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        let host = u8::try_from(host).unwrap();
        socket.bind(([127, 0, 0, host], 0).into()).unwrap();
        socket.connect(address).await
    });
    let stream = connected.unwrap().into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream
}

pub(super) fn get(host: usize, address: SocketAddr, path: &str) -> String {
    let mut stream = connect(host, address);
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
