//! Sizes of the ring buffers. The kernel takes only a power of two of whole pages
//! (`ringbuf_map_alloc()`, kernel/bpf/ringbuf.c), and pages have 4, 16 or 64 KiB.

/// Of victims, decisions and exits. Kills have a ring buffer of their own so that a storm of new
/// cgroups cannot crowd them out. This holds about 3,000 victims, more than the kernel kills in
/// the time the agent needs to wake up.
pub const KILLS: u32 = 512 * 1024;

/// Of cgroups made and removed, about 270 bytes each.
pub const CGROUPS: u32 = 256 * 1024;

/// Of forks of protected inits, and attempts of the OOM killer without a victim: some 2,000.
pub const FORKS: u32 = 128 * 1024;

/// Of victims' arguments: some 200 of the longest.
pub const ARGUMENTS: u32 = 64 * 1024;

/// Sizes of pages of the kernels that the agent runs on (arm64 has all of them).
pub const PAGES: [u32; 3] = [4 << 10, 16 << 10, 64 << 10];

/// Whether the kernel takes a ring buffer of so many bytes.
pub const fn is_legal(bytes: u32, page: u32) -> bool {
    bytes.is_power_of_two() && bytes.is_multiple_of(page)
}

const _: () = {
    let [small, middle, large] = PAGES;
    assert!(is_legal(KILLS, small) && is_legal(KILLS, middle) && is_legal(KILLS, large));
    assert!(is_legal(CGROUPS, small) && is_legal(CGROUPS, middle) && is_legal(CGROUPS, large));
    assert!(is_legal(FORKS, small) && is_legal(FORKS, middle) && is_legal(FORKS, large));
    assert!(is_legal(ARGUMENTS, small) && is_legal(ARGUMENTS, middle));
    assert!(is_legal(ARGUMENTS, large));
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_powers_of_two_of_whole_pages() {
        for (bytes, legal) in [
            (0, [false; 3]),
            (4 << 10, [true, false, false]),
            (12 << 10, [false; 3]),
            (16 << 10, [true, true, false]),
            (96 << 10, [false; 3]),
            (64 << 10, [true; 3]),
            (KILLS, [true; 3]),
            (CGROUPS, [true; 3]),
            (FORKS, [true; 3]),
            (ARGUMENTS, [true; 3]),
        ] {
            assert_eq!(PAGES.map(|page| is_legal(bytes, page)), legal, "{bytes}");
        }
    }
}
