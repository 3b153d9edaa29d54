//! The eBPF object that `cargo xtask build-ebpf` made, embedded at build time.

/// The object, or nothing in an agent that was built without it.
#[cfg(herder_ebpf)]
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("HERDER_EBPF_OBJECT"));

#[cfg(not(herder_ebpf))]
pub static OBJECT: &[u8] = &[];
