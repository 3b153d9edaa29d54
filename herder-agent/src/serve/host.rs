//! Whether a request is for this machine by its name. Where only processes of this machine can
//! connect, one of them may be a browser, and any page may give its own name the address 127.0.0.1:
//! then the page asks the agent under that name, and reads what it answers.

use hyper::{Request, header::HOST, http::uri::Authority};
use std::net::IpAddr;

/// Whether all that it says of the server it is for is `localhost` or a loopback address. A request
/// that says nothing is not.
pub(super) fn is_for_this_machine<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter().peekable();
    let in_headers = hosts.peek().is_some();
    let named = request.uri().authority();
    (in_headers || named.is_some())
        && named.is_none_or(is_this_machine)
        && hosts.all(|host| {
            Authority::try_from(host.as_bytes()).is_ok_and(|host| is_this_machine(&host))
        })
}

fn is_this_machine(authority: &Authority) -> bool {
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_local(uri: &str, hosts: &[&str]) -> bool {
        let request = hosts.iter().fold(Request::get(uri), |all, host| all.header(HOST, *host));
        is_for_this_machine(&request.body(()).unwrap())
    }

    #[test]
    fn only_localhost_and_loopback_addresses_are_this_machine() {
        for host in ["localhost", "LocalHost:9469", "127.0.0.1:9469", "127.8.9.10", "[::1]:80"] {
            assert!(is_local("/", &[host]), "{host}");
            assert!(is_local(&format!("http://{host}/"), &[]), "{host}");
        }
        for host in [
            "rebound.example:9469",
            "localhost.example",
            "127.0.0.1.example",
            "10.0.0.1",
            "[::]",
            "0.0.0.0",
            "",
            "local host",
        ] {
            assert!(!is_local("/", &[host]), "{host}");
        }
        assert!(!is_local("/", &[]));
    }

    #[test]
    fn all_that_is_said_counts() {
        assert!(!is_local("/", &["localhost", "rebound.example"]));
        assert!(!is_local("http://localhost/", &["rebound.example"]));
        assert!(!is_local("http://rebound.example/", &["localhost"]));
    }
}
