//! Raises the process's own limits as far as possible.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are kept from containers: for connections, the API server, the
/// configuration, and what a walk of the cgroups opens.
const RESERVED: u64 = 128;

/// Raises the limit of open files, of which each matched container takes one,
/// and that of locked memory, which kernels below 5.11 charge eBPF maps to. Gives
/// the first number that no container's descriptor may have.
pub fn raise() -> i32 {
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
    i32::try_from(files.saturating_sub(RESERVED)).unwrap_or(i32::MAX)
}

fn set(resource: Resource, limit: Rlimit, what: &str) {
    if let Err(error) = setrlimit(resource, limit) {
        tracing::debug!(%error, limit = what, "A resource limit cannot be raised.");
    }
}
