//! Keeps the agent's memory small, and its page faults short.
#![expect(unsafe_code, reason = "the C library offers this to C only")]

/// Keeps huge pages out of this process. To make one, khugepaged locks all of its
/// memory, and as the least urgent task of the node (`set_user_nice(current,
/// MAX_NICE)` in `khugepaged()`, mm/khugepaged.c) it holds that lock for as long
/// as others keep the CPUs busy. The core was seen to wait 600 ms for it in a page
/// fault, on 7.2, ten seconds after the start.
pub(super) fn no_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::warn!(%error, "Huge pages stay; on a busy node they may delay corrections.");
    }
}

/// Returns free pages of the heap to the kernel (glibc's `malloc_trim(3)`): the
/// kernel's BTF, parsed, is more than ten times what the agent needs from then on.
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call has no preconditions and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}
