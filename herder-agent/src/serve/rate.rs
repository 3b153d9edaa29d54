//! How often one address may make the server do what costs it processor time. The number of
//! connections is bounded anyway ([`super::places`]); a client that closes each and opens the next
//! would else get as many signatures and checks as there is time for.

use herder_model::bucket::Bucket;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Addresses that are remembered, and networks. Of more, those go that come nearest to having all
/// left.
const MOST: usize = 1024;

/// So many at once, and one more each time so long has passed.
#[derive(Clone, Copy, Debug)]
struct Limit {
    burst: u32,
    every: Duration,
}

impl Limit {
    /// So many times as much.
    fn times(self, factor: u32) -> Self {
        Limit { burst: self.burst * factor, every: self.every / factor }
    }
}

/// What each of many has left.
#[derive(Debug)]
struct Each {
    limit: Limit,
    left: HashMap<IpAddr, Bucket<Instant>>,
}

impl Each {
    fn new(limit: Limit) -> Self {
        Each { limit, left: HashMap::new() }
    }

    fn take(&mut self, key: IpAddr, now: Instant) -> bool {
        let Limit { burst, every } = self.limit;
        if self.left.len() >= MOST && !self.left.contains_key(&key) {
            let left = self.left.iter_mut();
            let left = left.map(|(key, bucket)| (bucket.refill(burst, every, now), *key));
            if let Some((_, most)) = left.max() {
                self.left.remove(&most);
            }
        }
        let bucket = self.left.entry(key).or_insert_with(|| Bucket::full(burst, now));
        bucket.refill(burst, every, now);
        bucket.take()
    }

    fn put_back(&mut self, key: IpAddr) {
        self.left.get_mut(&key).into_iter().for_each(Bucket::put_back);
    }
}

/// How often each address may, and others together with it.
#[derive(Debug)]
pub(super) struct Rate(Mutex<Left>);

#[derive(Debug)]
struct Left {
    addresses: Each,
    /// A host may have all addresses of a /64 for itself (RFC 4291, 2.5.4). But the pods of a node
    /// share one, so that a network has more than an address.
    networks: Option<Each>,
    /// All addresses together, if that is bounded.
    all: Option<(Limit, Option<Bucket<Instant>>)>,
}

impl Rate {
    /// An IPv6 network has so many times what each of its addresses has.
    pub(super) fn new(burst: u32, every: Duration, network: u32) -> Self {
        let limit = Limit { burst, every };
        let networks = Some(Each::new(limit.times(network)));
        Rate(Mutex::new(Left { addresses: Each::new(limit), networks, all: None }))
    }

    /// For pods alone: each has one address of a network that they share.
    pub(super) fn of_pods(burst: u32, every: Duration) -> Self {
        let addresses = Each::new(Limit { burst, every });
        Rate(Mutex::new(Left { addresses, networks: None, all: None }))
    }

    /// Bounds also what all addresses together may do: a client may have very many.
    pub(super) fn and_of_all(self, burst: u32, every: Duration) -> Self {
        self.with(|left| left.all = Some((Limit { burst, every }, None)));
        self
    }

    /// Takes one, if the address has one left, and its network and all together have. An address
    /// that has none left takes none of the others', and keeps its own where the others have left
    /// none.
    pub(super) fn take(&self, address: IpAddr) -> bool {
        let (network, now) = (network(address), Instant::now());
        self.with(|Left { addresses, networks, all }| {
            if !addresses.take(address, now) {
                return false;
            }
            let mut networks = networks.as_mut().zip(network);
            let network_may = networks.as_mut().is_none_or(|(each, key)| each.take(*key, now));
            let may = network_may
                && all.as_mut().is_none_or(|(Limit { burst, every }, left)| {
                    let all = left.get_or_insert_with(|| Bucket::full(*burst, now));
                    all.refill(*burst, *every, now);
                    all.take()
                });
            if !may {
                addresses.put_back(address);
                let networks = networks.filter(|_| network_may);
                networks.into_iter().for_each(|(each, key)| each.put_back(key));
            }
            may
        })
    }

    /// Puts back what was taken: it was not what is limited.
    pub(super) fn put_back(&self, address: IpAddr) {
        self.with(|Left { addresses, networks, all }| {
            addresses.put_back(address);
            let networks = networks.as_mut().zip(network(address));
            networks.into_iter().for_each(|(each, key)| each.put_back(key));
            all.as_mut().and_then(|(_, left)| left.as_mut()).into_iter().for_each(Bucket::put_back);
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Left) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The /64 of an address.
fn network(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(address) = address else { return None };
    let [a, b, c, d, ..] = address.segments();
    Some(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const SECOND: Duration = Duration::from_secs(1);

    fn host(number: usize) -> IpAddr {
        Ipv6Addr::from(u128::try_from(number).unwrap() << 64 | 7).into()
    }

    fn taken(rate: &Rate, address: IpAddr, tries: usize) -> usize {
        (0..tries).filter(|_| rate.take(address)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_then_one_each_time_for_each_address() {
        let rate = Rate::new(5, SECOND, 1);
        assert_eq!(taken(&rate, host(1), 9), 5);
        assert_eq!(taken(&rate, host(2), 9), 5, "another one");
        for _ in 0..3 {
            advance(SECOND).await;
            assert_eq!(taken(&rate, host(1), 9), 1);
        }
        rate.put_back(host(1));
        assert_eq!(taken(&rate, host(1), 9), 1);
        advance(SECOND * 600).await;
        assert_eq!(taken(&rate, host(1), 9), 5, "and never more");
        let beside: IpAddr = "0:0:0:1:ffff::1".parse().unwrap();
        assert_eq!(taken(&rate, beside, 9), 0, "it is the same host's");
    }

    #[tokio::test(start_paused = true)]
    async fn each_pod_has_its_own_although_all_have_one_network() {
        let [one, other] = ["fd00::1", "fd00::2"].map(|address| address.parse().unwrap());
        let rate = Rate::of_pods(2, SECOND);
        assert_eq!((taken(&rate, one, 9), taken(&rate, other, 9)), (2, 2));
        let rate = Rate::new(2, SECOND, 1);
        assert_eq!((taken(&rate, one, 9), taken(&rate, other, 9)), (2, 0));
    }

    /// A pod that shakes hands without pause does not keep Prometheus out, which is on its node.
    #[tokio::test(start_paused = true)]
    async fn one_address_cannot_use_up_its_network() {
        let rate = Rate::new(2, SECOND, 3);
        let addresses = [1, 2, 3, 4].map(|number| IpAddr::from(Ipv6Addr::from(number)));
        let taken_each = addresses.map(|address| taken(&rate, address, 9));
        assert_eq!(taken_each, [2, 2, 2, 0], "of the network");
        advance(SECOND).await;
        assert_eq!(addresses.map(|address| taken(&rate, address, 9)), [1, 1, 1, 0]);
        advance(SECOND / 3).await;
        assert_eq!(taken(&rate, addresses[3], 9), 1, "which it had kept");
        rate.put_back(addresses[3]);
        assert_eq!(taken(&rate, addresses[3], 9), 1);
        let old: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().unwrap());
        assert_eq!(
            old.map(|address| taken(&rate, address, 9)),
            [2, 2],
            "IPv4 has no such networks"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn all_addresses_together_have_a_bound_of_their_own() {
        let rate = Rate::new(5, SECOND, 1).and_of_all(20, SECOND);
        assert_eq!(taken(&rate, host(0), 99), 5, "which one address cannot use up");
        let many = |from: usize| (from..from + 99).filter(|it| rate.take(host(*it))).count();
        assert_eq!(many(1), 15);
        advance(SECOND * 2).await;
        assert_eq!(many(100), 2);
        rate.put_back(host(1));
        assert_eq!(many(200), 1);
        // What others have used up takes nothing of one's own.
        let mine = host(500);
        assert_eq!(taken(&rate, mine, 99), 0);
        advance(SECOND * 20).await;
        assert_eq!(taken(&rate, mine, 5), 5);
        assert_eq!((many(600), taken(&rate, mine, 99)), (15, 0));
        advance(SECOND).await;
        assert_eq!(taken(&rate, mine, 99), 1);
    }

    /// However many addresses a client has, those that ask most stay remembered.
    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let rate = Rate::new(2, SECOND, 1);
        assert_eq!(taken(&rate, host(0), 9), 2);
        for number in 1..=3 * MOST {
            assert!(rate.take(host(number)));
        }
        assert_eq!(rate.with(|left| left.addresses.left.len()), MOST);
        assert_eq!(taken(&rate, host(0), 9), 0);
    }
}
