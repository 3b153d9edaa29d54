//! The guest: init of the virtual machines, and the tests that run in them.
//!
//! `cargo xtask vm` packs this program as `/init` beside the real agent and boots
//! a real kernel with it. As process 1 it sets the machine up, runs each test as
//! a process of its own (`/init test NAME`), and tells the verdict. Tests panic
//! to fail.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test program: it talks on the console and fails by panicking"
)]

mod addresses;
mod agent;
mod api;
mod audit;
mod bench;
mod clients;
mod container;
mod counts;
mod demo;
mod enforcement;
mod faults;
mod footprint;
mod init;
mod kills;
mod limits;
mod nodes;
mod pod_faults;
mod pods;
mod record;
mod robustness;
mod roles;
mod runtime;
mod shield;
mod system;
mod unseen;

use std::process::ExitCode;

/// A test by its name.
type Test = (&'static str, fn());

/// What kernels may differ in, in the order in which it runs.
const TESTS: &[&[Test]] = &[
    kills::TESTS,
    enforcement::TESTS,
    robustness::TESTS,
    counts::TESTS,
    nodes::TESTS,
    footprint::TESTS,
    shield::TESTS,
];

/// Those with an API server.
const TESTS_OF_PODS: &[&[Test]] = &[pods::TESTS, pod_faults::TESTS, limits::TESTS];

/// Those that measure milliseconds.
const TIMED_TESTS: &[&[Test]] = &[enforcement::TIMED, counts::TIMED];

/// Faults of what surrounds the agent.
const TESTS_OF_FAULTS: &[&[Test]] = &[
    faults::TESTS,
    unseen::TESTS,
    enforcement::ENDLESS,
    clients::TESTS,
    addresses::TESTS,
    nodes::TESTS_OF_COUNTS,
    footprint::TESTS_OF_FAULTS,
];

/// Those of programs that were built to log.
const TESTS_OF_LOGGING: &[&[Test]] = &[robustness::TESTS_OF_LOGGING];

/// Those that need a boot without cgroup v2.
const TESTS_OF_V1: &[&[Test]] = &[robustness::TESTS_OF_V1];

/// Those of a kernel that is locked down, and was booted without IPv6.
const TESTS_OF_LOCKDOWN: &[&[Test]] = &[addresses::TESTS_WITHOUT_IPV6, counts::TESTS_OF_LOCKDOWN];

/// The tests of a boot, by its mode; none where a boot has another purpose.
pub fn tests_of(mode: &str) -> &'static [&'static [Test]] {
    match mode {
        "test" => TESTS,
        "kills" => &[kills::TESTS],
        "timed" => TIMED_TESTS,
        "pods" => TESTS_OF_PODS,
        "faults" => TESTS_OF_FAULTS,
        "log" => TESTS_OF_LOGGING,
        "v1" => TESTS_OF_V1,
        "lockdown" => TESTS_OF_LOCKDOWN,
        "runtime" => runtime::TESTS,
        "systemd" => runtime::TESTS_WITH_SYSTEMD,
        _ => &[],
    }
}

/// Those whose name contains the filter, or with `!` before it does not.
pub fn chosen<'a>(tests: &'a [&'a [Test]], filter: &'a str) -> impl Iterator<Item = Test> + 'a {
    tests.iter().copied().flatten().copied().filter(move |(name, _)| {
        match filter.strip_prefix('!') {
            Some(others) => !name.contains(others),
            None => name.contains(filter),
        }
    })
}

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    if name.ends_with("/runc-next") {
        return runtime::nri::as_next_runc(&arguments);
    }
    match arguments.split_first().map(|(task, rest)| (task.as_str(), rest)) {
        Some(("role", rest)) => roles::run(rest),
        Some(("test", [name])) => run_test(name),
        Some(("list", [mode, filter])) => list(mode, filter),
        Some(("bench", [name])) => run_measure(name),
        Some(("below-systemd", [])) => init::below_systemd(),
        _ if std::process::id() == 1 => init::run(),
        _ => {
            println!("This is the init of a virtual machine; `cargo xtask vm` boots it.");
            ExitCode::from(2)
        }
    }
}

fn run_test(name: &str) -> ExitCode {
    let modes = ["test", "timed", "pods", "faults", "log", "v1", "lockdown", "runtime", "systemd"];
    let mut tests = modes.into_iter().flat_map(|mode| chosen(tests_of(mode), name));
    let (_, test) = tests.find(|(known, _)| *known == name).expect("a known test");
    say_panics();
    test();
    ExitCode::SUCCESS
}

/// Tells the host which tests a boot would run. Nothing of it needs a guest.
fn list(mode: &str, filter: &str) -> ExitCode {
    chosen(tests_of(mode), filter).for_each(|(name, _)| println!("{name}"));
    ExitCode::SUCCESS
}

fn run_measure(name: &str) -> ExitCode {
    say_panics();
    bench::run(name);
    ExitCode::SUCCESS
}

/// The console is for the kernel too; what is said is shown on the host.
fn say_panics() {
    std::panic::set_hook(Box::new(|panic| say(&format!("  {panic}"))));
}

/// Says something to people: the host shows lines that begin so.
pub fn say(text: &str) {
    for line in text.split('\n') {
        println!("herder-guest: {line}");
    }
}
