//! Which pod has connected, and what it is shown: by a pod's address, and by whether its containers
//! run at this moment.

use super::node::{GROUP, IP, Node, container, pod};
use herder_agent::inside::{
    core::Message,
    report::{
        own::{KillNames, OwnKill},
        requests::PodRequest,
    },
};
use herder_model::{owner::id::PodUid, pods::addresses::SelfRefused};
use tokio::sync::oneshot;

fn asked(node: &mut Node, address: &str) -> Result<PodUid, SelfRefused> {
    let (answer, mut answered) = oneshot::channel();
    let address = address.parse().unwrap();
    node.core.take(Message::Connected(PodRequest { address, answer }));
    answered.try_recv().unwrap()
}

#[test]
fn a_pod_is_known_by_its_address_as_long_as_its_container_runs() {
    let mut node = Node::new("connected", GROUP);
    assert_eq!(asked(&mut node, IP), Err(SelfRefused::PodsUnknown));
    node.pods_are('a');
    let uid = asked(&mut node, IP).unwrap();
    assert!(pod().ends_with(&uid.to_string()));
    assert_eq!(asked(&mut node, "::ffff:10.244.1.7"), Ok(uid));
    assert_eq!(asked(&mut node, "10.244.1.8"), Err(SelfRefused::UnknownAddress));
    // Its kill is its own, and no other pod's.
    node.subprocess_dies(5);
    node.turn();
    let (kill, names) = (node.kill(), KillNames::default());
    assert!(OwnKill::new(&kill, uid, &names).is_some());
    let other = PodUid::parse("b9c7824b-74db-45a3-aa84-2934140f7307").unwrap();
    assert!(OwnKill::new(&kill, other, &names).is_none());
}

/// The address may be another pod's as soon as the last process is gone, long before any watch says so.
#[test]
fn what_has_no_process_may_have_lost_its_address() {
    let mut node = Node::new("connected-empty", GROUP);
    node.pods_are('a');
    node.write("cgroup.events", "populated 0\nfrozen 0\n");
    assert_eq!(asked(&mut node, IP), Err(SelfRefused::NotRunning));
    node.write("cgroup.events", "populated 1\nfrozen 0\n");
    assert!(asked(&mut node, IP).is_ok());
    // The next incarnation, of which the status that has the address does not know. It is made first, so
    // that this file system does not give it the other's inode.
    node.make(&container('b'));
    node.turn();
    let worker = node.worker;
    // Nor does the record of the removal have to be read.
    node.remove(&container('a'), worker);
    assert_eq!(asked(&mut node, IP), Err(SelfRefused::NotRunning));
    node.turn();
    assert_eq!(asked(&mut node, IP), Err(SelfRefused::NotRunning));
    node.pod_is('b');
    assert!(asked(&mut node, IP).is_ok());
}

#[test]
fn a_deleted_pod_has_no_address_although_it_still_runs() {
    let mut node = Node::new("connected-deleted", GROUP);
    node.pods_are('a');
    node.pod_is_deleted();
    assert_eq!(asked(&mut node, IP), Err(SelfRefused::UnknownAddress));
}

/// The owner of a directory above can make any cgroup in it.
#[test]
fn cgroups_that_are_not_the_kubelets_show_nothing() {
    let mut node = Node::with_kubelet_uid("connected-others", GROUP, 4_000_000);
    node.pods_are('a');
    assert_eq!(asked(&mut node, IP), Err(SelfRefused::NotRunning));
}
