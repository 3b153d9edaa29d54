//! The lints, as CI runs them.

use crate::{
    build,
    command::{program, run_timed, workspace},
    dashboards, deny, workflows,
};
use anyhow::Result;
use std::process::Command;

pub fn run() -> Result<()> {
    run_timed("rustfmt", &mut cargo(&["fmt", "--all", "--check"]))?;
    let clippy =
        ["clippy", "--locked", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    run_timed("clippy", &mut cargo(&clippy))?;
    dashboards::fresh()?;
    let mut tests = vec![MANIFESTS, ADVISORIES];
    tests.extend(workflows::check()?.then_some(WORKFLOWS));
    // What it could not check it has logged.
    deny::check().map(drop)?;
    downloading(&tests)
}

/// That the two checks above fail where they have to.
const ADVISORIES: &str = "deny::tests::an_advisory_fails_and_a_missing_database_is_no_success";
const WORKFLOWS: &str = "workflows::tests::actionlint_sees_a_mistake";

/// Renders `deploy/` and checks it.
const MANIFESTS: &str = "manifests::deploy_is_valid";

/// Renders `deploy/` and checks it.
pub fn manifests() -> Result<()> {
    downloading(&[MANIFESTS])
}

/// Runs tests that `cargo test` leaves out, since they download what they need.
fn downloading(tests: &[&str]) -> Result<()> {
    // All packages, though it is in one: with the same features as in the other
    // tests, nothing is compiled twice.
    let mut cargo = build::quick("test");
    cargo.args(["--quiet", "--bin", "xtask", "--", "--ignored", "--exact", "--nocapture"]);
    run_timed("Checking deploy/ and the checks themselves", cargo.args(tests))
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = program("cargo");
    cargo.current_dir(workspace()).args(arguments);
    cargo
}
