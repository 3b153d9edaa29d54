//! The sockets that are listened on, and how much the kernel may keep for each of their
//! connections: its buffers count against the agent's memory limit, and by default grow to
//! megabytes.

use rustix::net::sockopt::{set_ipv6_v6only, set_tcp_user_timeout};
use std::{
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    task::{Context, Poll},
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// The port on which an agent listens by default.
pub const PORT: u16 = 9469;

/// What the kernel keeps of an answer that the client has not taken; it allows itself twice
/// that, and one packet more.
const SEND_BUFFER: u32 = 32 * 1024;

/// The same of answers to pods, which are short: the least that the kernel allows itself anyway.
const SEND_BUFFER_OF_PODS: u32 = 4 * 1024;

/// The same of requests that are not read yet.
const RECEIVE_BUFFER: u32 = 8 * 1024;

/// When a client that acknowledges nothing is taken for gone, milliseconds.
const GONE: u32 = 30_000;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// What to do about an address of `--listen` that cannot be had.
const OTHER_ADDRESS: &str = "address with --listen";

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; choose another {other}")]
pub struct ServeError {
    address: SocketAddr,
    source: io::Error,
    other: &'static str,
}

#[derive(Debug)]
pub struct Listeners {
    all: Vec<TcpListener>,
    turn: usize,
}

/// Takes the addresses, so that a start with a taken port fails early. Without any it is
/// the default port, of IPv6 and IPv4 or of whichever is there. Has to run within tokio.
pub fn bind(addresses: &[SocketAddr]) -> Result<Listeners, ServeError> {
    let all = if addresses.is_empty() {
        vec![bind_all(PORT, SEND_BUFFER, OTHER_ADDRESS)?]
    } else {
        let one = |address| bind_one(address, addresses, SEND_BUFFER, OTHER_ADDRESS);
        addresses.iter().copied().map(one).collect::<Result<_, _>>()?
    };
    Ok(Listeners { all, turn: 0 })
}

/// Takes the port for pods, of IPv6 and IPv4 or of whichever is there. Has to run within tokio.
pub fn bind_for_pods(port: u16) -> Result<Listeners, ServeError> {
    let listener = bind_all(port, SEND_BUFFER_OF_PODS, "port with --self-port")?;
    Ok(Listeners { all: vec![listener], turn: 0 })
}

/// All addresses.
fn bind_all(port: u16, send: u32, other: &'static str) -> Result<TcpListener, ServeError> {
    let [both, ipv4] =
        [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()].map(|ip: IpAddr| (ip, port));
    match bind_one(both.into(), &[], send, other) {
        // A taken port is taken for both.
        Err(error) if error.source.kind() != io::ErrorKind::AddrInUse => {
            tracing::info!(error = %error.source, "Listening on IPv4 only: IPv6 is not available.");
            bind_one(ipv4.into(), &[], send, other)
        }
        bound => bound,
    }
}

/// `[::]` is all addresses of IPv4 too, unless one of those is listed itself.
fn bind_one(
    address: SocketAddr,
    listed: &[SocketAddr],
    send: u32,
    other: &'static str,
) -> Result<TcpListener, ServeError> {
    let ipv4_too = |listed: &SocketAddr| listed.is_ipv4() && listed.port() == address.port();
    let only_v6 = listed.iter().any(ipv4_too);
    let bound = || {
        let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
        if address.is_ipv6() {
            // The default is a sysctl (net.ipv6.bindv6only).
            set_ipv6_v6only(&socket, only_v6)?;
        }
        socket.set_reuseaddr(true)?;
        socket.set_send_buffer_size(send)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        set_tcp_user_timeout(&socket, GONE)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|source| ServeError { address, source, other })
}

impl Listeners {
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.all.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// The next connection, of each socket in turn.
    pub(super) async fn accept(&mut self) -> io::Result<(TcpStream, IpAddr)> {
        let accepted = poll_fn(|context| self.poll_accept(context)).await;
        // On an IPv6 socket an IPv4 address has another form.
        accepted.map(|(stream, peer)| (stream, peer.ip().to_canonical()))
    }

    fn poll_accept(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        self.turn = self.turn.wrapping_add(1);
        let count = self.all.len().max(1);
        for listener in self.all.iter().cycle().skip(self.turn % count).take(count) {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }
}
