//! Who is connected, so that nobody takes all connections: every pod that can
//! reach the node's network may ask, and the kubelet and Prometheus have to get in.

use std::{
    collections::HashMap,
    io::Write,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::net::TcpStream;

/// Connections of one address at once. A browser opens six, one of them for the
/// stream.
pub(super) const OF_ONE_ADDRESS: usize = 6;

/// How many connections each address has.
#[derive(Clone, Default)]
pub(super) struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection of an address, until it is dropped.
pub(super) struct Place {
    peers: Peers,
    address: IpAddr,
}

impl Peers {
    /// A place for one more connection, if the address may have it.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let entered = self.counts(|counts| {
            let count = counts.entry(address).or_default();
            let free = *count < OF_ONE_ADDRESS;
            *count += usize::from(free);
            free
        });
        entered.then(|| Place { peers: self.clone(), address })
    }

    #[cfg(test)]
    pub(super) fn addresses(&self) -> usize {
        self.counts(|counts| counts.len())
    }

    fn counts<T>(&self, work: impl FnOnce(&mut HashMap<IpAddr, usize>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.peers.counts(|counts| {
            if let Some(count) = counts.get_mut(&self.address) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&self.address);
                }
            }
        });
    }
}

/// Says why and closes, without waiting for anything: what the client does not
/// take at once is not sent.
pub(super) fn refuse(stream: TcpStream) {
    let why = format!("{OF_ONE_ADDRESS} connections of your address are open already\n");
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{why}",
        why.len()
    );
    // The socket does not block, also not as one of the standard library.
    let _ = stream.into_std().and_then(|mut stream| stream.write_all(answer.as_bytes()));
}
