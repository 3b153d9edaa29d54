//! The guest: init of the virtual machines, and the tests that run in them.
//!
//! `cargo xtask vm` packs this program as `/init` beside the real agent and boots
//! a real kernel with it. As process 1 it sets the machine up, runs each test as
//! a process of its own (`/init test MODE --exact NAME`), and prints the verdict. Tests
//! panic to fail.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test program: it talks on the console and fails by panicking"
)]

mod bench;
mod demo;
mod harness;
mod init;
mod modes;
mod record;
mod roles;
mod runtime;
mod tests;

use harness::{
    parameter::parameter,
    say::say_panics,
    test::{self, filtered},
};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    if name.ends_with("/runc-next") {
        return runtime::nri::as_next_runc(&arguments);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["role", ref rest @ ..] => roles::run(rest),
        ["test", mode, ref rest @ ..] => run_tests(mode, rest),
        ["list", mode, filter] => {
            // The host asks which tests a boot would run. Nothing of it needs a guest.
            test::run(modes::tests_of(mode), &[&["--list"], &filtered(filter)[..]].concat())
        }
        ["bench", name] => run_measure(name),
        ["below-systemd"] => init::below_systemd(),
        _ if std::process::id() == 1 => init::run(),
        _ => {
            println!("This is the init of a virtual machine; `cargo xtask vm` boots it.");
            ExitCode::from(2)
        }
    }
}

fn run_tests(mode: &str, arguments: &[&str]) -> ExitCode {
    assert!(
        parameter("mode").is_some(),
        "tests change the cgroups of the machine: only in a guest"
    );
    say_panics();
    test::run(modes::tests_of(mode), arguments)
}

fn run_measure(name: &str) -> ExitCode {
    say_panics();
    bench::run(name);
    ExitCode::SUCCESS
}
