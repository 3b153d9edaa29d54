//! Addresses that the server listens on, and its end.

use super::*;

#[tokio::test]
async fn it_listens_where_the_flag_says() {
    let listeners = bind(&["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()]).unwrap();
    let addresses = listeners.addresses();
    let (core, _commands) = mpsc::channel(1);
    let (ready, heartbeat) = (Readiness::default(), Heartbeat::default());
    let state = State::new(Arc::default(), ready, core, heartbeat, None, "node-1");
    tokio::spawn(run(listeners, state, std::future::pending()));
    for address in addresses.iter().chain(&addresses) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(LIVEZ.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        has(&answer, 200, "ok");
    }
}

/// One socket has both families, unless IPv4 has one of its own.
#[tokio::test]
async fn all_addresses_of_ipv6_are_those_of_ipv4_too() {
    let (all, all_of_ipv4) = ("[::]:0".parse().unwrap(), SocketAddr::from(([0, 0, 0, 0], 0)));
    let both = bind(&[all]).unwrap();
    let port = both.addresses()[0].port();
    for address in
        [SocketAddr::from(([127, 0, 0, 1], port)), format!("[::1]:{port}").parse().unwrap()]
    {
        TcpStream::connect(address).await.unwrap();
    }
    drop(both);
    let listed = [SocketAddr::new(all.ip(), port), SocketAddr::new(all_of_ipv4.ip(), port)];
    assert_eq!(bind(&listed).unwrap().addresses(), listed);
    let taken = bind(&listed[1..]).unwrap();
    let error = bind(&listed[..1]).unwrap_err().to_string();
    assert!(error.contains(&format!("[::]:{port}")), "{error}");
    drop(taken);
}

#[tokio::test]
async fn it_ends_at_the_signal() {
    let server = Server::start().await;
    has(&server.get("/livez").await, 200, "ok");
    server.stop.send(()).unwrap();
    server.ended.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let server = Server::start().await;
    let error = bind(&[server.address]).unwrap_err().to_string();
    assert!(error.contains(&server.address.to_string()) && error.contains("--listen"), "{error}");
}
