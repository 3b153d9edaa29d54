//! Containers of which the plugin has to know whether they got a cgroup. The core sees each
//! cgroup when it is made; the runtime does not report to plugins that a container's creation
//! failed.

use herder_model::{cgroup::CgroupPath, owner::id::ContainerId};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Of more, all are forgotten, as [`super::contested`] does.
const MOST: usize = 1024;

/// Whether they got a cgroup; the core writes, and the plugin reads.
#[derive(Clone, Debug, Default)]
pub struct Awaited(Arc<Mutex<HashMap<ContainerId, bool>>>);

impl Awaited {
    /// From now on its cgroup matters.
    pub(super) fn wait_for(&self, id: &str) {
        let Some(id) = ContainerId::parse(id) else { return };
        let mut awaited = self.awaited();
        if awaited.len() >= MOST {
            awaited.clear();
        }
        awaited.insert(id, false);
    }

    /// Whether it got one, which matters no more.
    pub(super) fn take(&self, id: &str) -> bool {
        ContainerId::parse(id).and_then(|id| self.awaited().remove(&id)).unwrap_or(false)
    }

    /// A cgroup was made; one whose name ends in the ID of a container is its own, or that
    /// of CRI-O's monitor of it.
    pub fn cgroup_made(&self, path: &CgroupPath) {
        let name = path.name();
        let name = name.strip_suffix(".scope").unwrap_or(name);
        let id = name.len().checked_sub(64).and_then(|start| name.get(start..));
        if let Some(id) = id.and_then(ContainerId::parse)
            && let Some(made) = self.awaited().get_mut(&id)
        {
            *made = true;
        }
    }

    fn awaited(&self) -> MutexGuard<'_, HashMap<ContainerId, bool>> {
        // Nothing panics while it is held, and each change is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_awaited_container_is_announced() {
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        for (made, expected) in [
            (format!("/kubepods/burstable/podx/{one}"), true),
            (format!("/kubepods.slice/cri-containerd-{one}.scope"), true),
            (format!("/system.slice/crio-conmon-{one}.scope"), true),
            (format!("/kubepods/crio-{two}"), false),
            (format!("/kubepods/{one}/container"), false),
            (format!("/{one}x"), false),
            (format!("/ä{}", &one[1..]), false),
            ("/".into(), false),
        ] {
            let awaited = Awaited::default();
            let path = CgroupPath::parse(made.as_bytes()).unwrap();
            awaited.cgroup_made(&path);
            awaited.wait_for(&one);
            assert!(!awaited.clone().take(&one), "{made}: before it was awaited");
            awaited.wait_for(&one);
            awaited.cgroup_made(&path);
            assert_eq!((awaited.take(&one), awaited.take(&one)), (expected, false), "{made}");
        }
        let awaited = Awaited::default();
        for number in 0..MOST * 2 {
            awaited.wait_for(&format!("{number:064x}"));
        }
        awaited.wait_for("no ID");
        assert!(awaited.awaited().len() <= MOST);
    }
}
