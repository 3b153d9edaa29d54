//! The flags of the operators' port, which `check` has too: what a rule may ask for depends on who
//! can reach it.

use clap::Args;
use std::{net::SocketAddr, path::PathBuf};

/// Where the agent listens, and what it asks of clients.
#[derive(Debug, Default, Args)]
pub struct PortArgs {
    /// Address of the page, /metrics, /livez, /readyz and /api/v1. May be given several
    /// times, or as a list with commas. Default: port 9469 of all IPv6 and IPv4 addresses.
    #[arg(long, env = "HERDER_LISTEN", value_name = "ADDR:PORT", value_delimiter = ',')]
    pub listen: Vec<SocketAddr>,
    /// File with what the port requires of its clients: TLS, client certificates, user names
    /// with passwords, in the format that Prometheus exporters share (docs/http.md). Read again
    /// when it or a file in it changes. /livez and /readyz stay open.
    #[arg(long, env = "HERDER_WEB_CONFIG_FILE", value_name = "FILE")]
    pub web_config_file: Option<PathBuf>,
}

impl PortArgs {
    /// Whether only processes of this machine can connect, or of the pod.
    pub fn is_local(&self) -> bool {
        let is_loopback = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
        !self.listen.is_empty() && self.listen.iter().all(is_loopback)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_local_where_each_address_is() {
        for (listen, expected) in [
            (&[][..], false),
            (&["127.0.0.1:9469"], true),
            (&["[::1]:9469", "127.9.9.9:1"], true),
            (&["[::ffff:127.0.0.1]:9469"], true),
            (&["127.0.0.1:9469", "10.0.0.1:9469"], false),
            (&["0.0.0.0:9469"], false),
            (&["[::]:9469"], false),
        ] {
            let listen = listen.iter().map(|text| text.parse().unwrap()).collect();
            let args = PortArgs { listen, web_config_file: None };
            assert_eq!(args.is_local(), expected, "{:?}", args.listen);
        }
    }
}
