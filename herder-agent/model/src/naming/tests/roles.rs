//! What bundles say, which are read once for each container and apart from this.

use super::*;

fn container(letter: char) -> ContainerOfPod {
    let (pod, container) = (PodUid::parse(UID).unwrap(), ContainerId::parse(&id(letter)).unwrap());
    ContainerOfPod { pod, container }
}

fn worker() -> ContainerRole {
    ContainerRole::Container("worker".into())
}

#[test]
fn a_bundle_names_a_container_and_the_sandbox() {
    let mut naming = naming();
    naming.apply(pod(&[], &Value::Null), Monotonic::ZERO);
    naming.made(CgroupId(1), &path('f'));
    naming.made(CgroupId(2), &path('a'));
    assert_eq!(owner(&naming, &path('a')), "unnamed");
    for (letter, role) in [('f', ContainerRole::Sandbox), ('a', worker())] {
        let cgroups = naming.learn_role(container(letter), role);
        assert_eq!(cgroups, [CgroupId(1), CgroupId(2)], "they are decided again");
    }
    assert_eq!(owner(&naming, &path('a')), "shop/web-0/worker");
    let payload = cgroup(&format!("{}/container", path('a')));
    assert_eq!(decided(&naming, &policy(RULE), &path('a')), "r 0");
    assert_eq!(naming.named(&payload).unwrap().name, Some("worker"), "also below its own cgroup");
    assert_eq!(
        (owner(&naming, &path('f')).as_str(), decided(&naming, &policy(RULE), &path('f')).as_str()),
        ("unnamed", "-")
    );
}

/// However often the container is decided: a query opens no file.
#[test]
fn a_bundle_is_asked_for_once_when_the_cgroup_appears() {
    let mut naming = naming();
    naming.apply(pod(&[("logger", 'b')], &Value::Null), Monotonic::ZERO);
    let of_pod = path('a').parent().unwrap();
    let payload = cgroup(&format!("{}/container", path('a')));
    assert_eq!(naming.made(CgroupId(1), &of_pod), None, "it is no container");
    assert_eq!(naming.made(CgroupId(2), &path('a')), Some(container('a')));
    assert_eq!(naming.made(CgroupId(3), &payload), None, "it is the same container's");
    assert_eq!(naming.made(CgroupId(4), &path('b')), None, "its status names it");
    naming.learn(learnt('c', "mesh", "web"), Monotonic::ZERO);
    assert_eq!(naming.made(CgroupId(5), &path('c')), None, "the runtime has named it");
    naming.learn_role(container('a'), worker());
    naming.removed(CgroupId(2), &path('a'));
    assert_eq!(naming.made(CgroupId(6), &path('a')), None, "what is known is not asked for again");
    assert_eq!(naming.made(CgroupId(7), &cgroup("/system.slice/x.service")), None);
}

#[test]
fn a_role_is_forgotten_with_the_cgroup() {
    let mut naming = naming();
    naming.apply(pod(&[], &Value::Null), Monotonic::ZERO);
    assert_eq!(naming.learn_role(container('a'), worker()), [], "no cgroup of it was seen");
    naming.made(CgroupId(1), &path('a'));
    naming.learn_role(container('a'), worker());
    naming.removed(CgroupId(1), &path('a'));
    assert_eq!(owner(&naming, &path('a')), "shop/web-0/worker", "a late kill");
    // So many that the first is remembered no more.
    for (at, number) in (2..).zip(0..64) {
        let path = cgroup(&format!("{}/{number:064x}", path('a').parent().unwrap()));
        naming.made(CgroupId(at), &path);
        naming.removed(CgroupId(at), &path);
    }
    assert_eq!(owner(&naming, &path('a')), "unnamed");
    assert_eq!(naming.made(CgroupId(100), &path('a')), Some(container('a')), "asked for again");
}
