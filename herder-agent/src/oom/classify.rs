//! What a kill means for the container it hit. Pure.

use super::{Kind, OomKill, Victim};
use crate::cgroup::{CgroupId, CgroupPath};

/// What is known around a kill.
pub struct Scene<'a, P: Fn(CgroupId) -> Option<CgroupPath>> {
    /// The container of the chosen victim, if its cgroup is known.
    pub container: Option<&'a CgroupPath>,
    /// Whether the container's `memory.oom.group` was 1, if that is known.
    pub oom_group: Option<bool>,
    /// Process ID of the container's init, if its runtime has told.
    pub init: Option<u32>,
    /// Paths of cgroups.
    pub path: P,
}

impl<P: Fn(CgroupId) -> Option<CgroupPath>> Scene<'_, P> {
    /// Sub-process, init or group.
    pub fn kind(&self, kill: &OomKill) -> Kind {
        // Where the kernel does not say, the file does: a container that is killed
        // as a group is one even if it has a single process. Where that is not
        // known either, several victims of one decision are a group.
        let group = kill.group.or(self.oom_group).unwrap_or(kill.victims.len() > 1);
        if group {
            Kind::Group
        } else if kill
            .ended
            .unwrap_or_else(|| kill.victims.first().is_some_and(|victim| self.is_init(victim)))
        {
            Kind::Init
        } else {
            Kind::Subprocess
        }
    }

    /// The container's init is process 1 of a pid namespace, and its parent (the
    /// runtime's shim or monitor) is outside of the container. A process 1 whose
    /// parent is inside belongs to a namespace that the workload made itself:
    /// Docker in Docker, `unshare --pid`, a sandboxed browser. In a pid namespace that
    /// is shared with others the init is another process; which, only the runtime knows.
    fn is_init(&self, victim: &Victim) -> bool {
        if self.init == Some(victim.tgid) {
            return true;
        }
        let first = victim.ns_pid.is_some_and(|ns| ns.level > 0 && ns.pid == 1);
        let parent = victim.parent_cgroup.and_then(|id| (self.path)(id));
        let parent_inside = match (parent, self.container) {
            (Some(parent), Some(container)) => parent.is_within(container),
            // Both may be the same unknown cgroup.
            _ => victim.parent_cgroup == Some(victim.cgroup),
        };
        first && !parent_inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oom::{Domain, NsPid, Trigger};

    fn path(text: &str) -> CgroupPath {
        CgroupPath::parse(text.as_bytes()).unwrap()
    }

    fn paths(id: CgroupId) -> Option<CgroupPath> {
        let known = ["/", "/pod", "/pod/c1", "/pod/c1/sub", "/pod/c2", "/shim"];
        known.get(usize::try_from(id.0).unwrap()).map(|text| path(text))
    }

    fn kill(ns_pid: Option<(u32, u32)>, parent: Option<u64>, group: Option<bool>) -> OomKill {
        let victim = Victim {
            time: 0,
            tid: 5,
            tgid: 5,
            ns_pid: ns_pid.map(|(pid, level)| NsPid { pid, level }),
            start_boottime: 0,
            cgroup: CgroupId(2),
            parent_cgroup: parent.map(CgroupId),
            memory_cgroup: None,
            is_outside: false,
            comm: String::new(),
            uid: 0,
            oom_score_adj: None,
            sizes: None,
        };
        let trigger = Trigger { tid: 1, tgid: 1, cgroup: CgroupId(2), comm: String::new() };
        OomKill {
            victims: vec![victim],
            trigger: Some(trigger),
            domain: Domain::Unknown,
            group,
            ended: None,
        }
    }

    #[test]
    fn kinds() {
        let container = path("/pod/c1");
        let table = [
            ("child in its namespace", Some((4, 1)), Some(2), Some(false), None, Kind::Subprocess),
            ("init below a shim", Some((1, 1)), Some(5), Some(false), None, Kind::Init),
            ("init, parent unknown", Some((1, 1)), None, Some(false), None, Kind::Init),
            (
                "init of a nested namespace",
                Some((1, 2)),
                Some(2),
                Some(false),
                None,
                Kind::Subprocess,
            ),
            (
                "the same in a sub-cgroup",
                Some((1, 2)),
                Some(3),
                Some(false),
                None,
                Kind::Subprocess,
            ),
            ("process 1 of the node", Some((1, 0)), Some(5), Some(false), None, Kind::Subprocess),
            ("no namespace known", None, Some(5), Some(false), None, Kind::Subprocess),
            ("group", Some((1, 1)), Some(5), Some(true), None, Kind::Group),
            (
                "the kernel says no group",
                Some((4, 1)),
                Some(2),
                Some(false),
                Some(true),
                Kind::Subprocess,
            ),
            ("only the file says group", Some((1, 1)), Some(5), None, Some(true), Kind::Group),
        ];
        for (case, ns_pid, parent, group, oom_group, kind) in table {
            let scene = Scene { container: Some(&container), oom_group, init: None, path: paths };
            assert_eq!(scene.kind(&kill(ns_pid, parent, group)), kind, "{case}");
        }
    }

    /// `shareProcessNamespace`: process 1 is the sandbox.
    #[test]
    fn the_runtime_knows_the_init_of_a_shared_namespace() {
        let container = path("/pod/c1");
        for (init, kind) in [(Some(5), Kind::Init), (Some(6), Kind::Subprocess)] {
            let scene = Scene { container: Some(&container), oom_group: None, init, path: paths };
            let kill = kill(Some((7, 1)), Some(5), Some(false));
            assert_eq!(scene.kind(&kill), kind, "{init:?}");
        }
    }
}
