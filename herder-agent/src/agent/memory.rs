//! Gives memory back that only the start needed: the kernel's BTF, parsed, is
//! more than ten times what the agent needs from then on.
#![expect(unsafe_code, reason = "the C library offers this to C only")]

/// Returns free pages of the heap to the kernel (glibc's `malloc_trim(3)`).
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call has no preconditions and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}
