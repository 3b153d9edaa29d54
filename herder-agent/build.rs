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
    // The others lie beside the first.
    let first = object.file_name().unwrap_or_default().to_string_lossy();
    let objects = ["ebpf", "fork", "arguments"]
        .map(|name| (name, object.with_file_name(first.replace("ebpf", name))));
    for (_, object) in &objects {
        println!("cargo::rerun-if-changed={}", object.display());
    }
    let built = objects.map(|(name, object)| Some((name, object.canonicalize().ok()?)));
    if built.iter().all(Option::is_some) {
        println!("cargo::rustc-cfg=herder_ebpf");
        for (name, object) in built.into_iter().flatten() {
            let variable = format!("HERDER_{}_OBJECT", name.to_uppercase());
            println!("cargo::rustc-env={variable}={}", object.display());
        }
    }
}
