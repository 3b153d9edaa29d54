//! The open connections, and which of them is closed when there is one too many. Every pod
//! that can reach the node's network may connect, and the kubelet and Prometheus must always
//! get in, even if another client has the same address.

use super::peer::{Doing, Peer};
use std::{
    cmp::Reverse,
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{task::AbortHandle, time::Instant};

/// Connections that are served at once.
pub(super) const SERVED: usize = 24;

/// Connections whose clients have not asked yet. Of a flood of them each is there for as long
/// as it takes so many others to come, in which an honest client has asked.
pub(super) const NEW: usize = 64;

/// Connections that are in a TLS handshake, or whose clients have not asked since. They hold what
/// TLS needs, so there are fewer of them than of those that have not begun.
pub(super) const HANDSHAKES: usize = 24;

/// Connections of one address that are no more than others have: a browser opens six. Of an
/// address with more, one of its own makes room.
const SHARE: usize = 6;

/// How long after a client took the last bytes it is no longer one that reads.
const STALLED: Duration = Duration::from_secs(1);

/// How many connections a port holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) served: usize,
    pub(super) new: usize,
    pub(super) handshakes: usize,
    pub(super) share: usize,
}

impl Bounds {
    /// Of the port for operators.
    pub(super) const OPERATORS: Bounds =
        Bounds { served: SERVED, new: NEW, handshakes: HANDSHAKES, share: SHARE };
}

/// All open connections. Clones are the same.
#[derive(Clone)]
pub(super) struct Places {
    open: Arc<Mutex<Vec<Open>>>,
    bounds: Bounds,
}

struct Open {
    peer: Peer,
    since: Instant,
    task: AbortHandle,
}

/// An address, what is done on a connection of it, and since when that is open.
type Row = (IpAddr, Doing, Instant);

impl Places {
    pub(super) fn new(bounds: Bounds) -> Self {
        Places { open: Arc::default(), bounds }
    }

    /// A connection came; if there are too many that have not asked, one of them goes.
    pub(super) fn enter(&self, peer: Peer, task: AbortHandle) {
        self.with(|open| {
            open.retain(|open| !open.task.is_finished());
            self.make_room(open, self.bounds.new, |doing| matches!(doing, Doing::New(_)));
            open.push(Open { peer, since: Instant::now(), task });
        });
    }

    /// Its client begins a TLS handshake; if there are too many that do, one of them goes.
    pub(super) fn shake_hands(&self, peer: &Peer) {
        self.with(|open| {
            open.retain(|open| !open.task.is_finished());
            let handshakes = self.bounds.handshakes;
            self.make_room(open, handshakes, |doing| matches!(doing, Doing::Handshake(_)));
            peer.shakes_hands();
        });
    }

    /// Its client has asked; if there are too many that have, one of them goes.
    pub(super) fn serve(&self, peer: &Peer) {
        self.with(|open| {
            open.retain(|open| !open.task.is_finished());
            self.make_room(open, self.bounds.served, |doing| !has_not_asked(doing));
            peer.asks();
        });
    }

    /// Those that have not asked go.
    pub(super) fn close(&self) {
        self.with(|open| self.make_room(open, 0, has_not_asked));
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vec<Open>) -> T) -> T {
        work(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Cuts connections of a kind until there are fewer than so many, or none.
    fn make_room(&self, open: &mut Vec<Open>, most: usize, of_kind: impl Fn(Doing) -> bool) {
        loop {
            let row = |open: &Open| (open.peer.address(), open.peer.doing(), open.since);
            let rows = open.iter().map(row).enumerate();
            let (places, rows): (Vec<_>, Vec<_>) =
                rows.filter(|(_, (_, doing, _))| of_kind(*doing)).unzip();
            let first = first_to_go(&rows, self.bounds.share, Instant::now())
                .filter(|_| rows.len() >= most);
            let Some(place) = first.and_then(|first| places.get(first)) else { return };
            let closed = open.swap_remove(*place);
            let (address, doing) = (closed.peer.address(), closed.peer.doing());
            tracing::debug!(%address, ?doing, "Closed a connection so that there is room.");
            closed.task.abort();
        }
    }
}

fn has_not_asked(doing: Doing) -> bool {
    matches!(doing, Doing::New(_) | Doing::Handshake(_))
}

/// The connection to close. One of an address with more than its share goes first, then the one
/// that has read nothing or asked nothing for the longest time, then the oldest. A stream never
/// goes: there are fewer streams than places.
fn first_to_go(all: &[Row], share: usize, now: Instant) -> Option<usize> {
    let mut of = HashMap::new();
    all.iter().for_each(|(address, ..)| *of.entry(address).or_insert(0) += 1);
    let order = |(place, (address, doing, open)): (usize, &Row)| {
        let (active, since) = match *doing {
            Doing::Streaming => return None,
            Doing::New(since) | Doing::Handshake(since) | Doing::Waiting(since) => (false, since),
            Doing::Unread(since) if since + STALLED <= now => (false, since),
            Doing::Unread(_) | Doing::Answering => (true, *open),
        };
        let of_address = of.get(address).copied().unwrap_or(0).max(share);
        Some((Reverse(of_address), active, since, place))
    };
    all.iter().enumerate().filter_map(order).min().map(|(.., place)| place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    /// Who goes, by what each does since how many milliseconds.
    #[tokio::test(start_paused = true)]
    async fn who_makes_room() {
        let begin = Instant::now();
        tokio::time::advance(Duration::from_secs(100)).await;
        let now = Instant::now();
        let ago = |milliseconds: u64| now - Duration::from_millis(milliseconds);
        let (waits, new) = (|since| Doing::Waiting(ago(since)), |since| Doing::New(ago(since)));
        let unread = |milliseconds| Doing::Unread(ago(milliseconds));
        let (answered, streams) = (Doing::Answering, Doing::Streaming);
        type Case<'a> = (&'a str, &'a [(u8, Doing)], Option<usize>);
        let table: &[Case<'_>] = &[
            ("who waits longest", &[(1, waits(20)), (2, waits(30)), (3, waits(25))], Some(1)),
            ("who came first", &[(1, new(20)), (2, new(30)), (3, new(25))], Some(1)),
            ("who is idle, not who is answered", &[(1, answered), (1, waits(20))], Some(1)),
            ("who reads nothing", &[(1, waits(20)), (2, unread(1500)), (3, answered)], Some(1)),
            ("not who reads", &[(1, unread(900)), (2, waits(20))], Some(1)),
            ("but if there is no other", &[(1, streams), (2, unread(900))], Some(1)),
            ("no stream", &[(1, streams), (1, streams)], None),
            (
                "who has more than its share",
                &[
                    (1, waits(5000)),
                    (2, waits(20)),
                    (2, waits(30)),
                    (2, answered),
                    (2, streams),
                    (2, streams),
                    (2, streams),
                    (2, streams),
                ],
                Some(2),
            ),
            (
                "also if it reads",
                &[
                    (1, waits(5000)),
                    (2, answered),
                    (2, answered),
                    (2, answered),
                    (2, answered),
                    (2, unread(20)),
                    (2, unread(10)),
                    (2, answered),
                ],
                Some(1),
            ),
        ];
        for (what, all, expected) in table {
            let row = |(host, doing): &(u8, Doing)| {
                (Ipv4Addr::new(10, 0, 0, *host).into(), *doing, begin)
            };
            let all: Vec<_> = all.iter().map(row).collect();
            assert_eq!(first_to_go(&all, SHARE, now), *expected, "{what}");
        }
    }
}
