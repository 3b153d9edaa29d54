//! What a pod must do to be taken for another one, and does in vain.

use super::*;
use crate::{
    clock::Monotonic,
    pods::{Event, wire::PodObject},
};
use serde_json::{Value, json};

const UIDS: [&str; 2] =
    ["2c39abf0-f543-4c05-8cfe-3839410aef01", "b9c7824b-74db-45a3-aa84-2934140f7307"];

const IP: &str = "10.244.1.7";

fn id(letter: char) -> String {
    letter.to_string().repeat(64)
}

/// The pod with this number, and a running container of this letter.
fn pod(number: usize, letter: char, status: &Value) -> Value {
    let mut pod = json!({
        "metadata": { "name": format!("p-{number}"), "namespace": "shop", "uid": UIDS[number] },
        "spec": { "containers": [{ "name": "main" }] },
        "status": { "phase": "Running", "hostIP": "192.0.2.1", "containerStatuses": [
            { "name": "main", "containerID": format!("containerd://{}", id(letter)) }
        ] },
    });
    for (key, value) in status.as_object().unwrap() {
        pod["status"][key] = value.clone();
    }
    pod
}

fn at(ips: &[&str]) -> Value {
    let all: Vec<_> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
    json!({ "podIP": ips[0], "podIPs": all })
}

fn applied(object: Value) -> Event {
    let object: PodObject = serde_json::from_value(object).unwrap();
    Event::Applied(Box::new(object.trim().unwrap()))
}

fn path(number: usize, letter: char) -> CgroupPath {
    let path = format!("/kubepods/burstable/pod{}/{}", UIDS[number], id(letter));
    CgroupPath::parse(path.as_bytes()).unwrap()
}

/// With these pods, and the cgroups of a container `a` of the first and `b` of the second.
fn naming(pods: impl IntoIterator<Item = Value>) -> Naming {
    let mut naming = Naming::new(true);
    naming.apply(Event::ListStarted, Monotonic::ZERO);
    for pod in pods {
        naming.apply(applied(pod), Monotonic::ZERO);
    }
    naming.apply(Event::Listed, Monotonic::ZERO);
    naming.made(CgroupId(10), &path(0, 'a'));
    naming.made(CgroupId(20), &path(1, 'b'));
    naming
}

/// The claimant's number and its cgroups, or why there is none.
fn asked(naming: &Naming, address: &str) -> Result<(usize, Vec<u64>), SelfRefused> {
    let claim = naming.claim(address.parse().unwrap())?;
    let number = UIDS.iter().position(|uid| PodUid::parse(uid) == Some(claim.uid())).unwrap();
    Ok((number, claim.containers.iter().map(|id| id.0).collect()))
}

#[test]
fn a_pod_is_found_by_each_of_its_addresses_in_any_form() {
    let naming = naming([pod(0, 'a', &at(&[IP, "fd00::7"])), pod(1, 'b', &at(&["10.244.1.8"]))]);
    for address in [IP, "::ffff:10.244.1.7", "fd00::7", "fd00:0:0::7"] {
        assert_eq!(asked(&naming, address), Ok((0, vec![10])), "{address}");
    }
    assert_eq!(asked(&naming, "10.244.1.8"), Ok((1, vec![20])));
    for address in ["10.244.1.9", "::10.244.1.7", "fd00::8", "127.0.0.1", "::1"] {
        assert_eq!(asked(&naming, address), Err(SelfRefused::UnknownAddress), "{address}");
    }
}

#[test]
fn before_the_list_is_whole_no_pod_is_known() {
    let mut naming = Naming::new(true);
    naming.apply(Event::ListStarted, Monotonic::ZERO);
    naming.apply(applied(pod(0, 'a', &at(&[IP]))), Monotonic::ZERO);
    assert_eq!(asked(&naming, IP), Err(SelfRefused::PodsUnknown));
    assert_eq!(asked(&Naming::new(false), IP), Err(SelfRefused::PodsUnknown));
}

/// The node's address is that of all pods on its network, and of what is translated to it.
#[test]
fn the_nodes_address_is_no_pods() {
    let mut host = pod(0, 'a', &at(&["192.0.2.1"]));
    assert_eq!(asked(&naming([host.clone()]), "192.0.2.1"), Err(SelfRefused::HostNetwork));
    host["spec"]["hostNetwork"] = true.into();
    host["status"]["hostIP"] = Value::Null;
    assert_eq!(asked(&naming([host.clone()]), "192.0.2.1"), Err(SelfRefused::HostNetwork));
    // Also if a pod on a network of its own had the same.
    let other = pod(1, 'b', &at(&["192.0.2.1"]));
    assert_eq!(asked(&naming([host, other]), "192.0.2.1"), Err(SelfRefused::HostNetwork));
}

#[test]
fn two_claimants_are_none() {
    let mut naming = naming([pod(0, 'a', &at(&[IP])), pod(1, 'b', &at(&[IP]))]);
    assert_eq!(asked(&naming, IP), Err(SelfRefused::Ambiguous));
    naming.apply(Event::Deleted(PodUid::parse(UIDS[0]).unwrap()), Monotonic::ZERO);
    assert_eq!(asked(&naming, IP), Ok((1, vec![20])));
}

/// It keeps them in its status, and the next pod may have them.
#[test]
fn a_pod_that_has_ended_claims_nothing() {
    for phase in ["Succeeded", "Failed"] {
        let mut ended = pod(0, 'a', &at(&[IP]));
        ended["status"]["phase"] = phase.into();
        assert_eq!(asked(&naming([ended.clone()]), IP), Err(SelfRefused::UnknownAddress));
        assert_eq!(asked(&naming([ended, pod(1, 'b', &at(&[IP]))]), IP), Ok((1, vec![20])));
    }
}

#[test]
fn addresses_follow_the_pod() {
    let mut naming = naming([pod(0, 'a', &at(&[IP]))]);
    naming.apply(applied(pod(0, 'a', &at(&["10.244.1.9"]))), Monotonic::ZERO);
    assert_eq!(asked(&naming, IP), Err(SelfRefused::UnknownAddress));
    assert_eq!(asked(&naming, "10.244.1.9"), Ok((0, vec![10])));
    naming.apply(Event::Deleted(PodUid::parse(UIDS[0]).unwrap()), Monotonic::ZERO);
    assert_eq!(asked(&naming, "10.244.1.9"), Err(SelfRefused::UnknownAddress), "it still runs");
    naming.apply(applied(pod(0, 'a', &at(&["10.244.1.9"]))), Monotonic::ZERO);
    assert_eq!(asked(&naming, "10.244.1.9"), Ok((0, vec![10])), "another server's list had it");
    naming.apply(Event::ListStarted, Monotonic::ZERO);
    naming.apply(Event::Listed, Monotonic::ZERO);
    assert_eq!(asked(&naming, "10.244.1.9"), Err(SelfRefused::UnknownAddress), "not in the list");
}

/// Only the containers of the very status that has the address show that it is still the pod's.
#[test]
fn a_claim_is_as_old_as_the_containers_of_its_status() {
    let mut naming = naming([pod(0, 'a', &at(&[IP]))]);
    naming.removed(CgroupId(10), &path(0, 'a'));
    assert_eq!(asked(&naming, IP), Ok((0, vec![])));
    // It runs again, perhaps in another sandbox with another address; its status is not there yet.
    naming.made(CgroupId(11), &path(0, 'c'));
    assert_eq!(asked(&naming, IP), Ok((0, vec![])));
    naming.apply(applied(pod(0, 'c', &at(&["10.244.1.9"]))), Monotonic::ZERO);
    assert_eq!(asked(&naming, "10.244.1.9"), Ok((0, vec![11])));
    // A list of a server that is behind: the container stays the newest, and so does the address.
    naming.apply(applied(pod(0, 'a', &at(&[IP]))), Monotonic::ZERO);
    assert_eq!(asked(&naming, IP), Err(SelfRefused::UnknownAddress));
    assert_eq!(asked(&naming, "10.244.1.9"), Ok((0, vec![11])));
}

/// Annotations make no pod the owner of another's cgroups, and so of its kills.
#[test]
fn who_claims_to_be_another_pod_has_none_of_its_cgroups() {
    let mut forged = pod(1, 'b', &at(&["10.244.1.8"]));
    forged["metadata"]["annotations"] = json!({
        "kubernetes.io/config.hash": UIDS[0], "kubernetes.io/config.mirror": UIDS[0]
    });
    let naming = naming([pod(0, 'a', &at(&[IP])), forged]);
    let claim = naming.claim("10.244.1.8".parse().unwrap()).unwrap();
    assert_eq!(claim.uid(), PodUid::parse(UIDS[0]).unwrap(), "were it acknowledged");
    assert_eq!(claim.containers, [], "no container of its status is among them");
    assert!(!naming.is_claimants(&claim, &path(0, 'a')));
    let own = naming.claim(IP.parse().unwrap()).unwrap();
    assert!(naming.is_claimants(&own, &path(0, 'a')));
}

/// The owner of a cgroup on the way can name what is in it after any pod.
#[test]
fn a_cgroup_of_another_user_shows_nothing() {
    let mut naming = naming([pod(0, 'a', &at(&[IP]))]);
    let claim = |naming: &Naming| {
        naming.is_claimants(&naming.claim(IP.parse().unwrap()).unwrap(), &path(0, 'a'))
    };
    assert!(claim(&naming));
    let burstable = CgroupPath::parse(b"/kubepods/burstable").unwrap();
    naming.belongs_to(&path(0, 'a').parent().unwrap(), Some(burstable));
    assert!(!claim(&naming));
}
