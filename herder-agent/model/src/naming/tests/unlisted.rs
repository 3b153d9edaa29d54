//! Cgroups of pods that the API server does not list.

use super::*;

const RULES: &str = "rules:
- {name: shop, pods: {namespaces: [shop]}, oomGroup: leave}
- {name: cg, cgroups: ['/kubepods/**'], oomGroup: single-process}";

fn second(number: u64) -> Monotonic {
    Monotonic::ZERO + Duration::from_secs(number)
}

#[test]
fn a_pod_that_does_not_come_is_waited_for_no_longer_than_a_name() {
    let (mut naming, policy) = (naming(), policy(RULES));
    naming.made(CgroupId(1), &path('a'));
    assert_eq!(naming.expire(second(0)), []);
    assert_eq!(naming.expire(second(500)), []);
    assert_eq!(decided(&naming, &policy, &path('a')), "-", "no pod is known at all");

    naming.apply(Event::ListStarted, second(500));
    naming.apply(Event::Listed, second(500));
    assert_eq!(naming.expire(second(500)), []);
    assert_eq!(naming.expire(second(560)), []);
    assert_eq!(decided(&naming, &policy, &path('a')), "-");
    assert!(naming.awaits_pod(&path('a')));
    assert_eq!(naming.expire(second(561)), [CgroupId(1)]);
    assert_eq!(decided(&naming, &policy, &path('a')), "cg 0");
    assert!(!naming.awaits_pod(&path('a')));
    assert_eq!(naming.expire(second(591)), [], "it was decided");
    // So is what the same pod starts anew.
    naming.made(CgroupId(2), &path('b'));
    assert_eq!(decided(&naming, &policy, &path('b')), "cg 0");

    // It comes after all, and is waited for again where it is forgotten.
    naming.apply(pod(&[], &Value::Null), second(600));
    assert_eq!(decided(&naming, &policy, &path('a')), "shop leave");
    naming.expire(second(621));
    assert!(naming.awaits(&naming.parse(&path('a')).unwrap()));
}
