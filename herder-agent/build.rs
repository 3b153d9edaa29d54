//! Embeds the eBPF object that `cargo xtask build-ebpf` made, or nothing, so
//! that check, clippy and test need neither bpf-linker nor a nightly compiler.
fn main() {}
