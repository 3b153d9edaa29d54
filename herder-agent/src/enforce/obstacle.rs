//! What can override a container's own `memory.oom.group`. It is checked
//! and reported, never changed.

use crate::kernel::cgroupfs::dir::DirError;
use herder_model::{
    cgroup::{CgroupPath, OOM_GROUP},
    enforcement::{Obstacle, WriteResult},
};
use std::{fs, path::Path};

/// The obstacle that an error means; none if the cgroup is gone.
pub(super) fn of(error: &DirError) -> Option<Obstacle> {
    match error {
        DirError::Gone => None,
        DirError::NoController => Some(Obstacle::NoMemoryController),
        DirError::ReadOnly { .. } => Some(Obstacle::ReadOnly),
        DirError::Value(_) | DirError::Other(_) => Some(Obstacle::Error),
    }
}

/// How a write went.
pub(super) fn write_result(written: &Result<(), DirError>) -> WriteResult {
    match written {
        Ok(()) => WriteResult::Ok,
        Err(DirError::Gone) => WriteResult::Gone,
        Err(error) => WriteResult::Error(error.to_string()),
    }
}

/// What overrides a value of 0 from outside of the cgroup, and what to do about it.
pub(super) fn surroundings(
    root: &Path,
    transient: &Path,
    path: &CgroupPath,
) -> Option<(Obstacle, String)> {
    if let Some(ancestor) = ancestor(root, path) {
        return Some((Obstacle::Ancestor, ancestor_text(&ancestor)));
    }
    let (scope, policy) = systemd_scope(transient, path)?;
    Some((Obstacle::SystemdOomPolicy, systemd_text(scope, policy)))
}

/// The nearest cgroup above that is killed as a whole. The kernel takes the
/// highest one with `memory.oom.group=1` up to the cgroup whose limit was hit,
/// and when the node itself is out of memory that is any of them
/// (`mem_cgroup_get_oom_group()`, mm/memcontrol.c, 5.10 to 7.2).
fn ancestor(root: &Path, path: &CgroupPath) -> Option<CgroupPath> {
    path.ancestors().find(|ancestor| {
        let file = root.join(ancestor.relative()).join(OOM_GROUP);
        fs::read_to_string(file).is_ok_and(|value| value.trim() == "1")
    })
}

/// The systemd scope that a cgroup is, or lies in, if systemd stops all of it at
/// any OOM kill.
fn systemd_scope<'a>(transient: &Path, path: &'a CgroupPath) -> Option<(&'a str, &'static str)> {
    let scope = path.as_str().split('/').rfind(|name| name.ends_with(".scope"))?;
    // The name is one component of a path, so it cannot lead elsewhere.
    let unit = fs::read_to_string(transient.join(scope)).ok()?;
    Some((scope, stopping_policy(&unit)?))
}

/// Whether systemd may be about to stop all of a cgroup because of an OOM kill in it. What the
/// policy of a service is, only systemd knows; the default is to stop it.
pub fn may_be_stopped(transient: &Path, path: &CgroupPath) -> bool {
    path.name().ends_with(".service") || systemd_scope(transient, path).is_some()
}

/// `OOMPolicy=` of a scope's unit file, if it is one by which systemd stops the
/// scope (`scope_notify_cgroup_oom_event()`, src/core/scope.c, systemd 253 and
/// later). An assignment replaces those before it. A scope that says nothing has
/// systemd's default, which is to stop it, unless it is delegated
/// (`scope_add_extras()`).
pub fn stopping_policy(unit: &str) -> Option<&'static str> {
    let last = |name: &str| {
        unit.lines().filter_map(|line| line.trim().strip_prefix(name)).next_back().map(str::trim)
    };
    match last("OOMPolicy=") {
        Some("kill") => Some("kill"),
        Some("stop") => Some("stop"),
        Some("continue") => None,
        _ => {
            let delegated = last("Delegate=")
                .is_some_and(|value| !matches!(value, "no" | "false" | "off" | "0" | "n" | "f"));
            (!delegated).then_some("stop (systemd's default)")
        }
    }
}

/// What to do about an ancestor.
fn ancestor_text(ancestor: &CgroupPath) -> String {
    format!(
        "{ancestor} above it has memory.oom.group=1, so an OOM kill at or above that cgroup's limit kills the whole of that cgroup; set it to 0 there"
    )
}

/// What to do about a scope.
fn systemd_text(scope: &str, policy: &str) -> String {
    format!(
        "{scope} has OOMPolicy={policy}: systemd stops the whole scope at any OOM kill, whatever memory.oom.group is, and the policy cannot be changed while the scope runs; set the value when the container is created (kubelet singleProcessOOMKill, or NRI)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let table = [
            ("[Scope]\nOOMPolicy=kill\n", Some("kill")),
            ("[Scope]\nOOMPolicy=stop", Some("stop")),
            ("[Scope]\nOOMPolicy=continue\n", None),
            ("[Scope]\nOOMPolicy=kill\nOOMPolicy=continue\n", None),
            ("[Scope]\n#OOMPolicy=kill\nDelegate=yes\n", None),
            ("[Scope]\nDelegate=memory pids\n", None),
            ("[Scope]\nDelegate=no\n", Some("stop (systemd's default)")),
            ("[Scope]\nMemoryMax=1G\n", Some("stop (systemd's default)")),
        ];
        for (unit, expected) in table {
            assert_eq!(stopping_policy(unit), expected, "{unit:?}");
        }
    }
}
