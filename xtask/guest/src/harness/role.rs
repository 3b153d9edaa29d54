//! This program started again to be something else: what runs in the containers that the
//! tests make, and the shims that start them.

use std::process::Command;

/// This program, as the guest has it.
pub const SELF: &str = "/init";

/// A command that runs a role.
pub fn role(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(SELF);
    command.arg("role").arg(name).args(arguments);
    command
}
