//! The process's own limits, raised as far as it may.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open files, of which each matched container takes one,
/// and that of locked memory, which kernels below 5.11 charge eBPF maps to.
pub(super) fn raise() {
    let files = getrlimit(Resource::Nofile);
    set(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum }, "open files");
    // Needs CAP_SYS_RESOURCE. Without it, and on a newer kernel, nothing is lost.
    let unlimited = Rlimit { current: None, maximum: None };
    set(Resource::Memlock, unlimited, "locked memory");
}

fn set(resource: Resource, limit: Rlimit, what: &str) {
    if let Err(error) = setrlimit(resource, limit) {
        tracing::debug!(%error, limit = what, "A resource limit stays as it is.");
    }
}
