//! What a kill means for the container it hit. Pure.

use super::{Kind, OomKill, Victim};
use crate::{
    cgroup::{CgroupId, CgroupPath},
    owner::crun,
};

/// What is known around a kill.
pub struct Around<'a, P: Fn(CgroupId) -> Option<CgroupPath>> {
    /// The container of the chosen victim, if its cgroup is known.
    pub container: Option<&'a CgroupPath>,
    /// Whether a `memory.oom.group` of it says that it is a group, where the kernel does not
    /// say, and if that is known.
    pub oom_group: Option<bool>,
    /// The cgroup that was killed as a group, if it is known which.
    pub group: Option<&'a CgroupPath>,
    /// Process ID of the container's init, if its runtime has reported it.
    pub init: Option<u32>,
    pub path: P,
}

impl<P: Fn(CgroupId) -> Option<CgroupPath>> Around<'_, P> {
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

    /// Whether the container ends with it. Of a group that the workload has made inside of
    /// it, that is so only with the init in it.
    pub fn ends(&self, kill: &OomKill) -> bool {
        let init_died =
            || kill.ended.unwrap_or_else(|| kill.victims.iter().any(|it| self.is_init(it)));
        let is_part = match (self.group, self.container) {
            (Some(group), Some(container)) => is_part_of(group, container),
            _ => false,
        };
        match self.kind(kill) {
            Kind::Subprocess => false,
            Kind::Init => true,
            Kind::Group => !is_part || init_died(),
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

/// Whether a cgroup is only a part of a container. crun's, in the container's scope, is all
/// of it.
pub fn is_part_of(cgroup: &CgroupPath, container: &CgroupPath) -> bool {
    cgroup != container
        && cgroup.is_within(container)
        && crun::scope(cgroup).as_ref() != Some(container)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Monotonic;
    use crate::oom::{NsPid, Trigger};

    fn path(text: &str) -> CgroupPath {
        CgroupPath::parse(text.as_bytes()).unwrap()
    }

    fn paths(id: CgroupId) -> Option<CgroupPath> {
        let known = ["/", "/pod", "/pod/c1", "/pod/c1/sub", "/pod/c2", "/shim"];
        known.get(usize::try_from(id.0).unwrap()).map(|text| path(text))
    }

    fn kill(ns_pid: Option<(u32, u32)>, parent: Option<u64>, group: Option<bool>) -> OomKill {
        let victim = Victim {
            tid: 5,
            tgid: 5,
            ns_pid: ns_pid.map(|(pid, level)| NsPid { pid, level }),
            parent_cgroup: parent.map(CgroupId),
            ..Victim::nameless(CgroupId(2), Monotonic::ZERO)
        };
        let trigger = Trigger { tid: 1, tgid: 1, cgroup: CgroupId(2), comm: String::new() };
        OomKill { victims: vec![victim], trigger: Some(trigger), group, ..OomKill::default() }
    }

    fn around(container: &CgroupPath) -> Around<'_, impl Fn(CgroupId) -> Option<CgroupPath>> {
        Around { container: Some(container), oom_group: None, group: None, init: None, path: paths }
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
            let around = Around { oom_group, ..around(&container) };
            let kill = kill(ns_pid, parent, group);
            assert_eq!(around.kind(&kill), kind, "{case}");
            assert_eq!(around.ends(&kill), kind != Kind::Subprocess, "{case}");
        }
    }

    /// `shareProcessNamespace`: process 1 is the sandbox.
    #[test]
    fn the_runtime_knows_the_init_of_a_shared_namespace() {
        let container = path("/pod/c1");
        for (init, kind) in [(Some(5), Kind::Init), (Some(6), Kind::Subprocess)] {
            let around = Around { init, ..around(&container) };
            let kill = kill(Some((7, 1)), Some(5), Some(false));
            assert_eq!(around.kind(&kill), kind, "{init:?}");
        }
    }

    /// The workload may make cgroups and have them killed as groups.
    #[test]
    fn a_group_inside_ends_the_container_only_if_its_init_is_in_it() {
        let (scope, init) = (path("/pod/c1.scope"), 1);
        let table = [
            ("the container", "/pod/c1.scope", vec![4, 5], true),
            ("the container, the init was dead before", "/pod/c1.scope", vec![4], true),
            ("crun's, which is all of it", "/pod/c1.scope/container", vec![4, 5], true),
            ("its pod", "/pod", vec![4, 5], true),
            ("a child", "/pod/c1.scope/job", vec![4, 5], false),
            ("a child of a child", "/pod/c1.scope/a/job", vec![4], false),
            ("a child of crun's", "/pod/c1.scope/container/job", vec![4, 5], false),
            ("a child with the init, chosen", "/pod/c1.scope/job", vec![init, 4], true),
            ("a child with the init, not chosen", "/pod/c1.scope/job", vec![4, init], true),
        ];
        for (case, group, pids, ends) in table {
            let group = path(group);
            let around = Around { group: Some(&group), ..around(&scope) };
            let victim = |pid| kill(Some((pid, 1)), Some(5), None).victims.remove(0);
            let kill = OomKill {
                victims: pids.into_iter().map(victim).collect(),
                ..kill(None, None, Some(true))
            };
            assert_eq!((around.kind(&kill), around.ends(&kill)), (Kind::Group, ends), "{case}");
        }
        let unknown = kill(Some((4, 1)), Some(5), Some(true));
        assert!(around(&scope).ends(&unknown), "it is not known which group it was");
    }

    /// Without eBPF only the fate of the container shows it.
    #[test]
    fn what_became_of_the_container_counts_more_than_who_died() {
        let (container, group) = (path("/pod/c1"), path("/pod/c1/sub"));
        for ended in [true, false] {
            let around = Around { group: Some(&group), ..around(&container) };
            let kill = OomKill { ended: Some(ended), ..kill(None, None, Some(true)) };
            assert_eq!((around.kind(&kill), around.ends(&kill)), (Kind::Group, ended));
        }
    }
}
