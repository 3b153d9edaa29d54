//! The lints, as CI runs them.

use crate::{
    build,
    command::{asked, program, run_timed, say, workspace},
    dashboards,
};
use anyhow::Result;
use std::process::Command;

pub fn run() -> Result<()> {
    run_timed("rustfmt", &mut cargo(&["fmt", "--all", "--check"]))?;
    let clippy =
        ["clippy", "--locked", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    run_timed("clippy", &mut cargo(&clippy))?;
    dashboards::fresh()?;
    manifests()?;
    if asked(program("cargo").args(["deny", "--version"])).is_none() {
        say("cargo-deny is not installed: licences and sources are not checked");
        return Ok(());
    }
    run_timed("cargo-deny", &mut cargo(&["deny", "check", "bans", "licenses", "sources"]))
}

/// Renders `deploy/` and checks it: a test that `cargo test` leaves out, since it
/// downloads kubectl and the schemas.
pub fn manifests() -> Result<()> {
    // All packages, though it is in one: with the same features as in the other
    // tests, nothing is compiled twice.
    let mut cargo = build::quick("test");
    cargo.args(["--quiet", "--bin", "xtask"]);
    run_timed(
        "Checking deploy/",
        cargo.args(["--", "--ignored", "--exact", "--nocapture", "manifests::deploy_is_valid"]),
    )
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = program("cargo");
    cargo.current_dir(workspace()).args(arguments);
    cargo
}
