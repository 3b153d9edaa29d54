//! Embeds the eBPF object that `cargo xtask build-ebpf` made, or nothing, so
//! that check, clippy and test need neither bpf-linker nor a nightly compiler.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(herder_ebpf)");
    println!("cargo::rerun-if-env-changed=HERDER_EBPF_OBJECT");
    // Where it runs, not where it was compiled: a target directory may have been copied.
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let object = env::var_os("HERDER_EBPF_OBJECT")
        .map_or_else(|| package.join("../target/herder/herder-ebpf.o"), PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    if let Ok(object) = object.canonicalize() {
        println!("cargo::rustc-cfg=herder_ebpf");
        println!("cargo::rustc-env=HERDER_EBPF_OBJECT={}", object.display());
    }
}
