//! The current labels of pods, for the parts that decide apart from the core: the answers to the
//! container runtime do not wait for it.
//!
//! So labels are kept twice, here and in [`store`](super::store). One store for both would need a
//! lock between the core and a runtime that asks; and the core's has what this one must not wait
//! for: restarts, what is deleted but runs, and every container.

use super::{Event, Pod, store::room};
use crate::owner::id::PodUid;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// So much is kept, bytes: they have no containers.
const MOST: usize = room::MOST / 2;

/// The pods of this node as the API server has them, without their containers. What
/// follows the pods writes, and others read.
#[derive(Clone, Debug, Default)]
pub struct CurrentPods(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// By the uid of the API. Their cgroups may carry another one, which is what the runtime has.
    pods: HashMap<PodUid, Arc<Pod>>,
    /// What all of them take, bytes.
    size: usize,
    listed: Option<HashSet<PodUid>>,
    /// The first list is to come.
    awaits_list: bool,
}

impl CurrentPods {
    /// No pods yet. With an API server, its first list is to come.
    pub fn new(with_api_server: bool) -> Self {
        let known = Known { awaits_list: with_api_server, ..Known::default() };
        CurrentPods(Arc::new(Mutex::new(known)))
    }

    /// Whether the first list may still bring this pod, by the uid that its cgroups carry.
    pub fn awaits(&self, cgroup_uid: PodUid) -> bool {
        let known = self.known();
        known.awaits_list && known.get(cgroup_uid).is_none()
    }

    /// Whether the first list is still to come.
    pub fn awaits_list(&self) -> bool {
        self.known().awaits_list
    }

    pub fn apply(&self, event: &Event) {
        let mut known = self.known();
        match event {
            Event::ListStarted => known.listed = Some(HashSet::new()),
            Event::Applied(pod) => {
                if let Some(listed) = &mut known.listed {
                    listed.insert(pod.uid);
                }
                known.keep(pod.without_containers());
            }
            Event::Deleted(uid) => drop(known.forget(*uid)),
            Event::Listed => {
                if let Some(listed) = known.listed.take() {
                    known.awaits_list = false;
                    known.pods.retain(|uid, _| listed.contains(uid));
                    known.size = known.pods.values().map(|pod| room::size(pod)).sum();
                }
            }
        }
    }

    /// A pod, by the uid that its cgroups carry.
    pub fn get(&self, cgroup_uid: PodUid) -> Option<Arc<Pod>> {
        self.known().get(cgroup_uid).cloned()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it is held, and each change is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Keeps a pod if there is room for it. Of one that is not here, the runtime says what it was
    /// created with.
    fn keep(&mut self, mut pod: Pod) {
        let before = self.forget(pod.uid);
        // As in the core's store: what mirrors a static pod stays its mirror.
        pod.config_hash = pod.config_hash.or(before.and_then(|before| before.config_hash));
        let size = self.size + room::size(&pod);
        if size <= MOST {
            self.size = size;
            self.pods.insert(pod.uid, Arc::new(pod));
        }
    }

    fn forget(&mut self, uid: PodUid) -> Option<Arc<Pod>> {
        let forgotten = self.pods.remove(&uid)?;
        self.size = self.size.saturating_sub(room::size(&forgotten));
        Some(forgotten)
    }

    /// As in the core's store: a pod's uid is its own, and several mirrors cannot be distinguished.
    /// A node has too few pods for an index of mirrors.
    fn get(&self, cgroup_uid: PodUid) -> Option<&Arc<Pod>> {
        let has_it = |pod: &&Arc<Pod>| pod.cgroup_uid() == cgroup_uid;
        self.pods.get(&cgroup_uid).filter(has_it).or_else(|| {
            let mut mirrors = self.pods.values().filter(has_it);
            mirrors.next().filter(|_| mirrors.next().is_none())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(number: u8) -> PodUid {
        PodUid::parse(&format!("2c39abf0-f543-4c05-8cfe-3839410aef{number:02}")).unwrap()
    }

    fn applied(number: u8, app: &str) -> Event {
        let labels = Some([("app".into(), app.into())].into());
        Event::Applied(Box::new(Pod { labels, ..Pod::named(uid(number), "shop", "web-0") }))
    }

    #[test]
    fn pods_are_as_they_were_last_received() {
        let pods = CurrentPods::default();
        let app = |number| pods.get(uid(number)).map(|pod| pod.label("app").unwrap().to_owned());
        let (web, db) = (Some("web".to_owned()), Some("db".to_owned()));
        for event in [Event::ListStarted, applied(1, "web"), applied(2, "web"), Event::Listed] {
            pods.apply(&event);
        }
        assert_eq!((app(1), app(2)), (web.clone(), web.clone()));
        pods.apply(&applied(2, "db"));
        pods.apply(&Event::Deleted(uid(1)));
        assert_eq!((app(1), app(2)), (None, db.clone()));
        // No pod is forgotten while a list comes in, only when it is whole.
        pods.apply(&Event::ListStarted);
        pods.apply(&applied(3, "web"));
        assert_eq!((app(2), app(3)), (db, web.clone()));
        pods.apply(&Event::Listed);
        assert_eq!((app(2), app(3)), (None, web));
    }

    /// The same, if it mirrors the static pod of this hash.
    fn mirror(number: u8, config_hash: Option<PodUid>) -> Event {
        let Event::Applied(pod) = applied(number, "web") else { unreachable!() };
        Event::Applied(Box::new(Pod { config_hash, ..*pod }))
    }

    #[test]
    fn a_static_pod_is_found_by_the_uid_that_the_runtime_has() {
        let pods = CurrentPods::default();
        let hash = PodUid::parse_any("ca0757b5d25d60b3db9d57dce6d10c2d").unwrap();
        let found = |by| pods.get(by).map(|pod| pod.uid);
        pods.apply(&mirror(1, None));
        pods.apply(&mirror(1, Some(hash)));
        assert_eq!((found(hash), found(uid(1))), (Some(uid(1)), None));
        // The mirror is made anew, and the end of the old one is heard of later.
        pods.apply(&mirror(2, Some(hash)));
        assert_eq!(found(hash), None, "two cannot be distinguished");
        pods.apply(&Event::Deleted(uid(1)));
        assert_eq!(found(hash), Some(uid(2)));
        pods.apply(&Event::ListStarted);
        pods.apply(&mirror(2, Some(hash)));
        pods.apply(&Event::Listed);
        assert_eq!(found(hash), Some(uid(2)));
        pods.apply(&Event::Deleted(uid(2)));
        assert_eq!((found(hash), pods.known().size), (None, 0));
    }

    /// As for the core, a pod's uid is its own, whatever another pod says that it mirrors.
    #[test]
    fn a_mirror_takes_no_other_pods_place() {
        let pods = CurrentPods::default();
        let found = || pods.get(uid(1)).map(|pod| pod.uid);
        for event in [applied(1, "web"), mirror(2, Some(uid(1)))] {
            pods.apply(&event);
            assert_eq!(found(), Some(uid(1)));
        }
        pods.apply(&Event::Deleted(uid(2)));
        assert_eq!(found(), Some(uid(1)));
    }

    #[test]
    fn what_the_first_list_may_bring_is_awaited_until_it_is_complete() {
        let without = CurrentPods::default();
        assert!(!without.awaits(uid(1)));
        let pods = CurrentPods::new(true);
        let awaits = || [1, 2].map(|number| pods.awaits(uid(number)));
        assert_eq!(awaits(), [true, true]);
        pods.apply(&Event::ListStarted);
        pods.apply(&applied(1, "web"));
        assert_eq!(awaits(), [false, true]);
        pods.apply(&Event::Listed);
        assert_eq!(awaits(), [false, false]);
        pods.apply(&Event::ListStarted);
        assert_eq!(awaits(), [false, false], "only the first list");
    }
}
