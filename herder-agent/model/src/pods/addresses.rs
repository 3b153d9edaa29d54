//! The network addresses of pods, and which pods claim one. By them an agent knows which pod has
//! connected to it.
//!
//! The API server's word is old by the time it is read: an address may be another pod's by then. So
//! that a pod claims an address is only half of what has to be known; the core asks whether a
//! container of that status still runs.

use super::Pod;
use crate::owner::id::PodUid;
use core::net::IpAddr;
use std::collections::HashMap;

/// So many addresses of a pod are kept. Kubernetes has one for each family.
pub const MOST_ADDRESSES: usize = 4;

/// Where a pod is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// `status.podIPs` in their canonical form, at most [`MOST_ADDRESSES`]. None once the pod has
    /// ended: they may be another pod's.
    pub ips: Box<[IpAddr]>,
    /// They are the node's: the pod is on the host's network.
    pub are_nodes: bool,
}

impl Addresses {
    /// Of a pod's status, as text. What is no address of a pod's network is left out.
    pub(super) fn new<'a>(
        pods: impl Iterator<Item = &'a str>,
        nodes: &(impl Iterator<Item = &'a str> + Clone),
        on_host: bool,
    ) -> Self {
        let is_nodes = |ip: &IpAddr| nodes.clone().filter_map(parsed).any(|node| node == *ip);
        let ips: Box<[IpAddr]> = pods.filter_map(parsed).take(MOST_ADDRESSES).collect();
        let are_nodes = on_host || ips.iter().any(is_nodes);
        Addresses { ips, are_nodes }
    }
}

/// An address that a connection of another network namespace can come from.
fn parsed(text: &str) -> Option<IpAddr> {
    let ip = text.parse::<IpAddr>().ok()?.to_canonical();
    let is_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    (!is_local && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()).then_some(ip)
}

labels! {
    /// Why a client may not see its own kills.
    pub enum SelfRefused {
        /// The pods of the node are not known (yet).
        PodsUnknown = "pods-unknown",
        /// No pod of this node has the address.
        UnknownAddress = "unknown-address",
        /// It is the node's.
        HostNetwork = "host-network",
        /// More than one pod claims it.
        Ambiguous = "ambiguous",
        /// No container of the pod's status runs, so the address may be another's by now.
        NotRunning = "not-running",
        /// A proxy has sent the request.
        Forwarded = "forwarded",
        /// Too many ask, or one too often.
        Busy = "busy",
    }
}

/// Which pods claim an address now.
#[derive(Debug, Default)]
pub(super) struct Claims(HashMap<IpAddr, Vec<PodUid>>);

impl Claims {
    pub(super) fn add(&mut self, pod: &Pod) {
        for ip in &pod.addresses.ips {
            let claimants = self.0.entry(*ip).or_default();
            if !claimants.contains(&pod.uid) {
                claimants.push(pod.uid);
            }
        }
    }

    pub(super) fn remove(&mut self, pod: &Pod) {
        for ip in &pod.addresses.ips {
            let Some(claimants) = self.0.get_mut(ip) else { continue };
            claimants.retain(|uid| *uid != pod.uid);
            if claimants.is_empty() {
                self.0.remove(ip);
            }
        }
    }

    pub(super) fn of(&self, address: IpAddr) -> &[PodUid] {
        self.0.get(&address.to_canonical()).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(pods: &[&str], nodes: &[&str], on_host: bool) -> Addresses {
        Addresses::new(pods.iter().copied(), &nodes.iter().copied(), on_host)
    }

    #[test]
    fn only_addresses_of_a_pods_network_are_kept_in_one_form() {
        let table = [
            (&["10.1.2.3", "fd00::3"][..], &["10.1.2.3", "fd00::3"][..]),
            (&["::ffff:10.1.2.3", "FD00:0::3"], &["10.1.2.3", "fd00::3"]),
            (&["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"], &[]),
            (&["169.254.1.1", "fe80::1", "224.0.0.1", "ff02::1", "255.255.255.255"], &[]),
            (&["", "10.1", "10.1.2.3/32", "fe80::1%eth0", "host", "010.1.2.3"], &[]),
            (
                &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"],
                &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"],
            ),
        ];
        for (reported, kept) in table {
            let kept: Vec<IpAddr> = kept.iter().map(|ip| ip.parse().unwrap()).collect();
            assert_eq!(*addresses(reported, &[], false).ips, kept, "{reported:?}");
        }
    }

    #[test]
    fn a_pod_with_an_address_of_the_node_is_on_its_network() {
        let of = |pods, nodes, on_host| addresses(pods, nodes, on_host).are_nodes;
        assert!(!of(&["10.1.2.3"], &["192.0.2.1"], false));
        assert!(of(&["192.0.2.1"], &["192.0.2.1"], false));
        assert!(of(&["10.1.2.3", "2001:DB8::1"], &["192.0.2.1", "2001:db8:0::1"], false));
        assert!(of(&["::ffff:192.0.2.1"], &["192.0.2.1"], false));
        assert!(of(&["10.1.2.3"], &[], true), "its spec says so");
    }
}
