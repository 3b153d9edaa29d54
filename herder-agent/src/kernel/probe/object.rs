//! The eBPF objects that `cargo xtask build-ebpf` made, embedded at build time.

/// The object, or nothing in an agent that was built without it.
#[cfg(herder_ebpf)]
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("HERDER_EBPF_OBJECT"));

#[cfg(not(herder_ebpf))]
pub static OBJECT: &[u8] = &[];

/// The object that is loaded where a rule protects an init, or nothing.
#[cfg(herder_ebpf)]
pub static FORK_OBJECT: &[u8] = aya::include_bytes_aligned!(env!("HERDER_FORK_OBJECT"));

#[cfg(not(herder_ebpf))]
pub static FORK_OBJECT: &[u8] = &[];

/// The object that is loaded where a rule asks for victims' arguments, or nothing.
#[cfg(herder_ebpf)]
pub static ARGUMENTS_OBJECT: &[u8] = aya::include_bytes_aligned!(env!("HERDER_ARGUMENTS_OBJECT"));

#[cfg(not(herder_ebpf))]
pub static ARGUMENTS_OBJECT: &[u8] = &[];
