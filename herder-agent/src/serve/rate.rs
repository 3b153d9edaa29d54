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

/// Addresses that are remembered. Of more, those go that come nearest to having all left.
const MOST: usize = 1024;

/// So many at once, and one more each time so long has passed, for each address.
#[derive(Debug)]
pub(super) struct Rate {
    burst: u32,
    every: Duration,
    /// All addresses of a /64 are one client's.
    is_by_network: bool,
    /// The same for all addresses together, if that is bounded.
    of_all: Option<(u32, Duration)>,
    left: Mutex<Left>,
}

#[derive(Debug, Default)]
struct Left {
    each: HashMap<IpAddr, Bucket<Instant>>,
    all: Option<Bucket<Instant>>,
}

impl Rate {
    pub(super) fn new(burst: u32, every: Duration) -> Self {
        Rate { burst, every, is_by_network: true, of_all: None, left: Mutex::default() }
    }

    /// The same for pods: those of a node share a /64, and each has one address of it.
    pub(super) fn of_pods(burst: u32, every: Duration) -> Self {
        Rate { is_by_network: false, ..Self::new(burst, every) }
    }

    /// Bounds also what all addresses together may do: a client may have very many.
    pub(super) fn and_of_all(self, burst: u32, every: Duration) -> Self {
        Rate { of_all: Some((burst, every)), ..self }
    }

    /// Takes one, if the address has one left, and all together have.
    pub(super) fn take(&self, address: IpAddr) -> bool {
        let (address, now) = (self.client(address), Instant::now());
        self.with(|Left { each, all }| {
            if each.len() >= MOST && !each.contains_key(&address) {
                let left = each.iter_mut().map(|(address, bucket)| {
                    (bucket.refill(self.burst, self.every, now), *address)
                });
                if let Some((_, most)) = left.max() {
                    each.remove(&most);
                }
            }
            let bucket = each.entry(address).or_insert_with(|| Bucket::full(self.burst, now));
            bucket.refill(self.burst, self.every, now);
            // An address that has none left takes none of the others', and keeps its own where the
            // others have left none.
            let may = bucket.take();
            let all_may = may
                && self.of_all.is_none_or(|(burst, every)| {
                    let all = all.get_or_insert_with(|| Bucket::full(burst, now));
                    all.refill(burst, every, now);
                    all.take()
                });
            if may && !all_may {
                bucket.put_back();
            }
            all_may
        })
    }

    /// Puts back what was taken: it was not what is limited.
    pub(super) fn put_back(&self, address: IpAddr) {
        self.with(|Left { each, all }| {
            let bucket = each.get_mut(&self.client(address));
            bucket.into_iter().chain(all).for_each(Bucket::put_back);
        });
    }

    fn client(&self, address: IpAddr) -> IpAddr {
        if self.is_by_network { of_one_client(address) } else { address }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Left) -> T) -> T {
        work(&mut self.left.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A host has all addresses of a /64 for itself (RFC 4291, 2.5.4).
fn of_one_client(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
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
        let rate = Rate::new(5, SECOND);
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
        let rate = Rate::new(2, SECOND);
        assert_eq!((taken(&rate, one, 9), taken(&rate, other, 9)), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn all_addresses_together_have_a_bound_of_their_own() {
        let rate = Rate::new(5, SECOND).and_of_all(20, SECOND);
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
        let rate = Rate::new(2, SECOND);
        assert_eq!(taken(&rate, host(0), 9), 2);
        for number in 1..=3 * MOST {
            assert!(rate.take(host(number)));
        }
        assert_eq!(rate.with(|left| left.each.len()), MOST);
        assert_eq!(taken(&rate, host(0), 9), 0);
    }
}
