//! The lints, as CI runs them.

use crate::command::{asked, program, run_timed, say, workspace};
use anyhow::{Context, Result};

pub fn run() -> Result<()> {
    let cargo = |arguments: &[&str]| {
        let mut cargo = program("cargo");
        cargo.current_dir(workspace()).args(arguments);
        cargo
    };
    run_timed("rustfmt", &mut cargo(&["fmt", "--all", "--check"]))?;
    let clippy =
        ["clippy", "--locked", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    run_timed("clippy", &mut cargo(&clippy))?;
    let guest = [
        "clippy",
        "--locked",
        "--quiet",
        "-p",
        "herder-agent",
        "--test",
        "guest",
        "--",
        "-D",
        "warnings",
    ];
    run_timed("clippy of the guest tests", &mut cargo(&guest))?;
    let manifests = workspace().join("deploy");
    if asked(program("kubectl").args(["version", "--client"])).is_some() {
        let rendered = asked(program("kubectl").arg("kustomize").arg(manifests));
        rendered.context("`kubectl kustomize deploy/` does not render")?;
        say("deploy/ renders");
    }
    if asked(program("cargo").args(["deny", "--version"])).is_none() {
        say("cargo-deny is not installed: licences and sources are not checked");
        return Ok(());
    }
    run_timed("cargo-deny", &mut cargo(&["deny", "check", "bans", "licenses", "sources"]))
}
