//! Embeds the eBPF object that `cargo xtask build-ebpf` made, or nothing, so
//! that check, clippy and test need neither bpf-linker nor a nightly compiler.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(herder_ebpf)");
    println!("cargo::rerun-if-env-changed=HERDER_EBPF_OBJECT");
    let object = env::var_os("HERDER_EBPF_OBJECT").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/herder/herder-ebpf.o"),
        PathBuf::from,
    );
    println!("cargo::rerun-if-changed={}", object.display());
    if let Ok(object) = object.canonicalize() {
        println!("cargo::rustc-cfg=herder_ebpf");
        println!("cargo::rustc-env=HERDER_EBPF_OBJECT={}", object.display());
    }
}
