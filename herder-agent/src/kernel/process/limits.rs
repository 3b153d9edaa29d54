//! Raises the process's own limits as far as possible.

use herder_model::shield::MOST;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are kept from containers: for connections, the API server, the
/// configuration, and what a walk of the cgroups opens.
const RESERVED: u64 = 128;

/// Descriptors that are for containers in any case, and the part of those beyond that inits get,
/// as its divisor.
const CONTAINERS_FIRST: u64 = 256;
const PART_OF_INITS: u64 = 4;

/// For what takes many descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// The first number that no container's descriptor may have.
    pub containers: i32,
    /// How many protected inits there may be, of which each takes one.
    pub inits: usize,
}

/// Raises the limit of open files, of which each matched container takes one,
/// and that of locked memory, which kernels below 5.11 charge eBPF maps to.
/// Descriptors are kept for inits only where they can be protected.
pub fn raise(can_protect: bool) -> Descriptors {
    let files = getrlimit(Resource::Nofile);
    set(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum }, "open files");
    // Needs CAP_SYS_RESOURCE. Without it, and on a newer kernel, nothing is lost.
    let unlimited = Rlimit { current: None, maximum: None };
    set(Resource::Memlock, unlimited, "locked memory");
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if files <= 2 * RESERVED {
        tracing::warn!(
            files,
            "The limit of open files is low; only few containers can be enforced."
        );
    }
    share(files, can_protect)
}

fn share(files: u64, can_protect: bool) -> Descriptors {
    let free = files.saturating_sub(RESERVED);
    let part = free.saturating_sub(CONTAINERS_FIRST) / PART_OF_INITS;
    let most = if can_protect { MOST } else { 0 };
    let inits = usize::try_from(part).map_or(most, |part| part.min(most));
    let containers = i32::try_from(free).unwrap_or(i32::MAX);
    // The number of inits is small.
    let containers = containers.saturating_sub(i32::try_from(inits).unwrap_or(i32::MAX));
    Descriptors { containers, inits }
}

fn set(resource: Resource, limit: Rlimit, what: &str) {
    if let Err(error) = setrlimit(resource, limit) {
        tracing::debug!(%error, limit = what, "A resource limit cannot be raised.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else a thousand inits would take what connections need.
    #[test]
    fn what_is_reserved_is_left_by_containers_and_inits_together() {
        for (files, containers, inits) in [
            (64, 0, 0),
            (256, 128, 0),
            (512, 352, 32),
            (1024, 736, 160),
            (4384, 3256, 1000),
            (1 << 20, (1 << 20) - 1128, 1000),
            (u64::MAX, i32::MAX - 1000, 1000),
        ] {
            assert_eq!(share(files, true), Descriptors { containers, inits }, "{files}");
        }
        assert_eq!(share(4384, false), Descriptors { containers: 4256, inits: 0 });
    }
}
