//! crun's cgroup inside of a scope.
//!
//! systemd owns what it has made, so with its driver crun puts the container's processes and
//! limits, `memory.oom.group` among them, into a child of the scope
//! (`run.oci.systemd.subgroup`, libcrun/cgroup-systemd.c). Both are one container.
//!
//! A workload that may write to its own cgroup may make a child of this name too. That has a
//! `memory.oom.group` only if no process is left in the scope: the kernel gives children of
//! a cgroup with processes no memory controller (`cgroup_vet_subtree_control_enable()`,
//! kernel/cgroup/cgroup.c). Then all of the container is in it or beside it, and it gets the
//! value of its own container. Outside of scopes the name means nothing.

use crate::cgroup::CgroupPath;

/// What crun calls it, unless an annotation of the container says otherwise.
pub const SUBGROUP: &str = "container";

/// The scope that is one container with this cgroup, if its name is crun's.
pub fn scope(path: &CgroupPath) -> Option<CgroupPath> {
    let scope = path.parent().filter(|_| path.name() == SUBGROUP)?;
    scope.name().ends_with(".scope").then_some(scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_scope_has_one() {
        let table = [
            ("/machine.slice/libpod-1.scope/container", Some("/machine.slice/libpod-1.scope")),
            ("/x.scope/container", Some("/x.scope")),
            ("/x.scope", None),
            ("/x.scope/containers", None),
            ("/x.scope/Container", None),
            ("/x.scope/a/container", None),
            ("/x.scope/container/container", None),
            ("/x.scope/container/y", None),
            ("/x.service/container", None),
            ("/x.slice/container", None),
            ("/scope/container", None),
            ("/demo/match-b/container", None),
            ("/container", None),
            ("/", None),
        ];
        for (path, expected) in table {
            let found = scope(&CgroupPath::parse(path.as_bytes()).unwrap());
            assert_eq!(found.as_ref().map(CgroupPath::as_str), expected, "{path}");
        }
    }
}
