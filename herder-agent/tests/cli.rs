//! The program as somebody types it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

fn agent(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_herder-agent")).args(arguments).output().unwrap()
}

/// Only a build without the object can show this, as on stable Rust without a BPF
/// linker; a fresh clone runs its tests so.
#[test]
#[cfg(not(herder_ebpf))]
fn without_the_object_it_says_what_to_do() {
    let output = agent(&["run", "--kubernetes", "off", "--listen", "127.0.0.1:0"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("cargo xtask build-ebpf"), "{told}");
}

#[test]
fn every_flag_is_explained_and_has_an_environment_variable() {
    let output = agent(&["run", "--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    let mut lines = help.lines().map(str::trim).peekable();
    let mut flags = 0;
    while let Some(line) = lines.next() {
        let Some(flag) = line.split_whitespace().find_map(|word| word.strip_prefix("--")) else {
            continue;
        };
        if !line.starts_with('-') || ["help", "version"].contains(&flag) {
            continue;
        }
        flags += 1;
        let text = lines.peek().copied().unwrap_or_default();
        assert!(text.len() > 10, "--{flag} says only {text:?}");
        let variable = format!("[env: HERDER_{}=", flag.replace('-', "_").to_uppercase());
        assert!(help.contains(&variable), "{variable} of --{flag} is not told");
    }
    assert!(flags >= 12, "{flags} flags in:\n{help}");
}

#[test]
fn a_wrong_configuration_is_named_with_its_line() {
    let file = std::env::temp_dir().join(format!("herder-cli-{}.yaml", std::process::id()));
    std::fs::write(&file, "rules:\n- name: a\n  cgroups: ['/a']\n  oomGruop: group\n").unwrap();
    let path = file.to_str().unwrap();
    let output =
        agent(&["run", "--config", path, "--kubernetes", "off", "--listen", "127.0.0.1:0"]);
    std::fs::remove_file(&file).unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    for part in [path, "oomGruop", "4"] {
        assert!(told.contains(part), "no {part} in: {told}");
    }
}
