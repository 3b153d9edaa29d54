//! What pods can make the port for them take.

use super::{
    clients::{LEFT_BY_CLIENTS, connect},
    *,
};
use herder_agent::inside::report::requests::PodRequest;
use herder_model::owner::{id::PodUid, path::PodCgroup};

/// Connections that are held; more than are served at once.
const CLIENTS: usize = 96;

/// What the server may allocate for all of them.
const MOST_SERVED: usize = 3 << 20;

const UID: &str = "2c39abf0-f543-4c05-8cfe-3839410aef01";

/// All kills that are kept are of the pod, and each took a group.
#[test]
fn pods_that_do_not_read_take_little() {
    let _alone = ALONE.lock();
    let address = port_for_pods();
    let ask = |path: &str, header: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n");
    let head = "x".repeat(15_000);
    let all = "/api/v1/self/kills?limit=1000";
    let table = [
        ("all kills", ask(all, "")),
        ("all kills, and again", ask(all, "").repeat(100)),
        ("all kills since", ask("/api/v1/self/kills/stream", "Last-Event-ID: x\r\n")),
        ("a head", ask(all, &format!("X: {head}\r\n"))),
        ("half a head", format!("GET / HTTP/1.1\r\nX: {head}")),
        ("nothing", String::new()),
    ];
    assert_eq!(listed(address), KEPT);
    let before = NOW.load(Relaxed);
    for (what, request) in table {
        MOST.store(before, Relaxed);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let mut client = connect(number % 48 + 10, address);
                // The server may have cut it already.
                let _ = client.write_all(request.as_bytes());
                client
            })
            .collect();
        thread::sleep(Duration::from_millis(500));
        // A pod that has none of those gets its answer.
        assert_eq!(listed(address), KEPT, "{what}");
        let took = MOST.load(Relaxed) - before;
        println!("{what}: {} KiB for {CLIENTS} pods' connections", took / 1024);
        assert!(took < MOST_SERVED, "{what}: {took} bytes");
        drop(clients);
        thread::sleep(Duration::from_millis(200));
        let left = NOW.load(Relaxed).saturating_sub(before);
        assert!(left < LEFT_BY_CLIENTS, "{what}: {left} bytes are left");
    }
}

fn listed(address: SocketAddr) -> usize {
    let mut stream = connect(9, address);
    write!(stream, "GET /api/v1/self/kills?limit=1000 HTTP/1.0\r\n\r\n").unwrap();
    // Counted as it comes, since what this test keeps would count too.
    let (mut part, mut count, mut last) = ([0; 4096], 0, Vec::new());
    let key = b"\"victims\"";
    loop {
        let length = stream.read(&mut part).unwrap();
        if length == 0 {
            return count;
        }
        last.extend_from_slice(&part[..length]);
        count += last.windows(key.len()).filter(|window| window == key).count();
        last.drain(..last.len().saturating_sub(key.len() - 1));
    }
}

fn port_for_pods() -> SocketAddr {
    let reporter = Arc::new(Reporter::default());
    let uid = PodUid::parse(UID).unwrap();
    let path = format!("/kubepods/burstable/pod{UID}/{}", "a".repeat(64));
    let cgroup = CgroupPath::parse(path.as_bytes()).unwrap();
    let names = ["shop", "checkout-service-7d9c5b8f6d-x", "worker"].map(str::to_owned);
    let [namespace, pod, container] = names;
    let owner = Owner::Container(ContainerNames { namespace, pod, container });
    let victim = Victim::nameless(CgroupId(1), Monotonic::ZERO);
    let victim = Victim { tgid: 4711, comm: "gunicorn: worker".into(), ..victim };
    for _ in 0..KEPT {
        let kill =
            OomKill { victims: vec![victim.clone(); 9], group: Some(true), ..OomKill::default() };
        reporter.kill(&KillReport {
            cgroup: Some(cgroup.clone()),
            pod: PodCgroup::parse(&cgroup),
            victim_pods: vec![Some(uid); 9],
            rule: Some("web".into()),
            ..KillReport::new(owner.clone(), Kind::Group, Limit::Container, kill)
        });
    }
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let listeners = runtime.block_on(async { serve::bind(&[([127, 0, 0, 1], 0).into()]) }).unwrap();
    let address = listeners.addresses()[0];
    let (core, mut asked) = mpsc::channel(64);
    thread::spawn(move || {
        while let Some(PodRequest { answer, .. }) = asked.blocking_recv() {
            let _ = answer.send(Ok(uid));
        }
    });
    let (ready, heartbeat) = (Readiness::default(), Heartbeat::default());
    let state = serve::State::new(reporter, ready, mpsc::channel(1).0, heartbeat, None, "node-1");
    let state = state.for_pods(core);
    thread::spawn(move || runtime.block_on(serve::run(listeners, state, pending())));
    address
}
