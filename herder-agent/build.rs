//! Embeds the eBPF objects that `cargo xtask build-ebpf` made, or nothing, so
//! that check, clippy and test need neither bpf-linker nor a nightly compiler.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(herder_ebpf)");
    println!("cargo::rerun-if-env-changed=HERDER_EBPF_OBJECT");
    // Where it runs, not where it was compiled: a target directory may have been copied.
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let object = env::var_os("HERDER_EBPF_OBJECT")
        .map_or_else(|| package.join("../target/herder/herder-ebpf.o"), PathBuf::from);
    // The second object lies beside the first.
    let name = object.file_name().unwrap_or_default().to_string_lossy();
    let fork = object.with_file_name(name.replace("ebpf", "fork"));
    println!("cargo::rerun-if-changed={}", object.display());
    println!("cargo::rerun-if-changed={}", fork.display());
    if let (Ok(object), Ok(fork)) = (object.canonicalize(), fork.canonicalize()) {
        println!("cargo::rustc-cfg=herder_ebpf");
        println!("cargo::rustc-env=HERDER_EBPF_OBJECT={}", object.display());
        println!("cargo::rustc-env=HERDER_FORK_OBJECT={}", fork.display());
    }
}
