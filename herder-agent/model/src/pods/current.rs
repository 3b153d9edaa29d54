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
    pods: HashMap<PodUid, Arc<Pod>>,
    /// What all of them take, bytes.
    size: usize,
    listed: Option<HashSet<PodUid>>,
}

impl CurrentPods {
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
            Event::Deleted(uid) => known.forget(*uid),
            Event::Listed => {
                if let Some(listed) = known.listed.take() {
                    known.pods.retain(|uid, _| listed.contains(uid));
                    known.size = known.pods.values().map(|pod| room::size(pod)).sum();
                }
            }
        }
    }

    /// A pod, by the uid of the API.
    pub fn get(&self, uid: PodUid) -> Option<Arc<Pod>> {
        self.known().pods.get(&uid).cloned()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it is held, and each change is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Keeps a pod if there is room for it. Of one that is not here, the runtime says what it was
    /// created with.
    fn keep(&mut self, pod: Pod) {
        self.forget(pod.uid);
        let size = self.size + room::size(&pod);
        if size <= MOST {
            self.size = size;
            self.pods.insert(pod.uid, Arc::new(pod));
        }
    }

    fn forget(&mut self, uid: PodUid) {
        if let Some(pod) = self.pods.remove(&uid) {
            self.size = self.size.saturating_sub(room::size(&pod));
        }
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
        Event::Applied(Box::new(Pod {
            uid: uid(number),
            config_hash: None,
            namespace: "shop".into(),
            name: "web-0".into(),
            labels,
            oom_group: None,
            oom_escalate: None,
            containers: Box::default(),
            more_containers: false,
            memory_limit: None,
            addresses: crate::pods::addresses::Addresses::default(),
        }))
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
}
