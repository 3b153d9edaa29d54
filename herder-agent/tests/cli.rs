//! The program as a user types it.

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
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("cargo xtask build-ebpf"), "{stderr}");
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
        assert!(help.contains(&variable), "{variable} of --{flag} is not in the help");
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
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for part in [path, "oomGruop", "4"] {
        assert!(stderr.contains(part), "no {part} in: {stderr}");
    }
}

/// What the agent says at its start with this cluster in its kubeconfig, and a proxy in its
/// environment. There is no cgroup that it could begin with, so it goes no further.
fn with_a_proxy(name: &str, proxy: &str, cluster: &str) -> String {
    let directory = std::env::temp_dir().join(format!("herder-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("kubeconfig");
    let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/ca.pem");
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, users: [{{name: u, user: {{}}}}], \
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}], clusters: [{{name: c, cluster: \
         {{server: 'https://127.0.0.1:1', certificate-authority: '{authority}'{cluster}}}}}]}}"
    );
    std::fs::write(&file, text).unwrap();
    let root = directory.to_str().unwrap();
    let flags = ["--kubernetes", "on", "--nri", "off", "--listen", "127.0.0.1:0"];
    let output = Command::new(env!("CARGO_BIN_EXE_herder-agent"))
        .args(["run", "--source", "memory-events", "--cgroup-root", root])
        .args(flags)
        .env("KUBECONFIG", &file)
        .env_remove("KUBERNETES_SERVICE_HOST")
        .envs(["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"].map(|name| (name, proxy)))
        .output()
        .unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Also one that could not be used.
#[test]
fn a_proxy_of_the_environment_is_not_for_the_api_server() {
    for (name, proxy) in [("good", "http://proxy:3128"), ("bad", "no url at all"), ("none", "")] {
        let stderr = with_a_proxy(name, proxy, "");
        assert!(stderr.contains("memory controller"), "with {proxy:?} it comes so far: {stderr}");
    }
}

#[test]
fn a_proxy_of_the_kubeconfig_is_refused() {
    let stderr = with_a_proxy("kubeconfig", "", ", proxy-url: 'http://proxy:3128'");
    for part in ["proxy-url", "cluster c", "without a proxy"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
}

/// A password that anybody on the way can read is sent, but not silently. Nothing listens there.
#[test]
fn a_password_without_tls_is_warned_of_unless_it_stays_on_this_machine() {
    for (url, flags, warns) in [
        ("http://0.0.0.0:1", &["--user", "me"][..], true),
        ("http://0.0.0.0:1", &[], false),
        ("http://127.0.0.1:1", &["--user", "me"], false),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_herder-agent"));
        command.args(["kills", "--url", url]).args(flags).env("HERDER_PASSWORD", "secret");
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(stderr.contains("in clear to 0.0.0.0"), warns, "{url} {flags:?}: {stderr}");
        assert!(stderr.contains("cannot ask") && !stderr.contains("secret"), "{stderr}");
    }
}
