//! Where the agent listens, on nodes with both families of addresses and with one.

use crate::harness::{
    agent::{Agent, MATCHED},
    http::ask,
    sysctl::Sysctl,
    system::{interface_up, new_network},
    test::{Test, tests},
};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketType, socket},
};
use std::{net::TcpStream, process::Command};

pub const TESTS: &[Test] = tests![both_families, only_ipv6, ipv6_that_is_switched_off];

/// For a kernel that was booted with `ipv6.disable=1`.
pub const TESTS_WITHOUT_IPV6: &[Test] = tests![kernel_without_ipv6];

const IPV4: &str = "127.0.0.1:9469";

const IPV6: &str = "[::1]:9469";

fn is_ready(address: &str) -> bool {
    ask(address, "/readyz").is_some_and(|(status, _)| status == 200)
}

/// Whatever the sysctl says.
fn both_families() {
    for value in ["0", "1"] {
        let _only = Sysctl::set("net.ipv6.bindv6only", value);
        let mut agent = Agent::start(MATCHED);
        assert!(is_ready(IPV4) && is_ready(IPV6), "bindv6only={value}");
        assert!(Agent::log().contains("[::]:9469"), "{}", Agent::log());
        assert!(agent.stop().success());
    }
    let mut agent = Agent::start_with(MATCHED, &["--listen", "0.0.0.0:9469"]);
    assert!(TcpStream::connect(IPV6).is_err(), "an address that is given is used as it is");
    assert!(agent.stop().success());
    let agent = Agent::start_with(MATCHED, &["--listen", "127.0.0.1:9469", "--listen", IPV6]);
    assert!(is_ready(IPV4) && is_ready(IPV6));
    drop(agent);
}

/// A network without any address of IPv4.
fn only_ipv6() {
    new_network();
    assert!(interface_up("lo", [127, 0, 0, 1]));
    interface_up("lo", [0, 0, 0, 0]);
    let mut agent = Agent::spawn(MATCHED, &[], &crate::harness::agent::capabilities());
    crate::harness::wait::eventually("it is ready", || is_ready(IPV6));
    assert!(TcpStream::connect(IPV4).is_err(), "there is no IPv4");
    let mut kills = Command::new("/bin/herder-agent");
    let kills = kills.args(["kills", "--url", "http://[::1]:9469"]).output().unwrap();
    let printed = String::from_utf8_lossy(&kills.stdout);
    assert!(kills.status.success() && printed.starts_with("AGE"), "{kills:?}");
    assert!(agent.stop().success());
}

/// As many nodes have it: there are sockets of IPv6, and no address.
fn ipv6_that_is_switched_off() {
    let _all = Sysctl::set("net.ipv6.conf.all.disable_ipv6", "1");
    let _lo = Sysctl::set("net.ipv6.conf.lo.disable_ipv6", "1");
    let _agent = Agent::start(MATCHED);
    assert!(is_ready(IPV4));
}

fn kernel_without_ipv6() {
    let refused = socket(AddressFamily::INET6, SocketType::STREAM, None).unwrap_err();
    assert_eq!(refused, Errno::AFNOSUPPORT);
    let mut agent = Agent::start(MATCHED);
    let log = Agent::log();
    assert!(log.contains("IPv4 only") && log.contains("0.0.0.0:9469"), "{log}");
    assert!(agent.stop().success());
    let mut agent = Agent::spawn(MATCHED, &["--listen", "[::]:9469"], &[]);
    assert!(!agent.wait().success());
    assert!(Agent::log().contains("cannot listen on [::]:9469"), "{}", Agent::log());
}
