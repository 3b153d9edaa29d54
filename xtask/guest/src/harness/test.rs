//! Tests as libtest has them, listed and chosen by its flags (`--list`, `--exact`, `--skip`).
//!
//! They are not libtest's own: `cargo test` would then run them on the machine of a
//! developer, as root, with its cgroups; and the guest would need a second program
//! beside its init. libtest-mimic reads the same arguments and prints the same lists, in the
//! program that is the init anyway, and keeps the order of the table. A test is a function
//! without arguments that panics to fail. One that is in no table is an unused function,
//! which does not compile.

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

/// A test by its name.
#[derive(Clone, Copy)]
pub struct Test {
    pub name: &'static str,
    pub run: fn(),
}

/// Functions as tests of their names, or of other names where one function has several.
macro_rules! tests {
    ($($name:ident),* $(,)?) => { tests![$($name => $name),*] };
    ($($name:ident => $run:expr),* $(,)?) => {
        &[$($crate::harness::test::Test { name: stringify!($name), run: $run }),*]
    };
}
pub(crate) use tests;

/// Does with some tests what libtest's arguments say.
pub fn run(tests: &[&[Test]], arguments: &[&str]) -> ExitCode {
    let program = [env!("CARGO_PKG_NAME")];
    let mut arguments = Arguments::from_iter(program.iter().chain(arguments));
    // A test is the only one in its process, on the thread that the process began with.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials(tests)).exit_code()
}

fn trials(tests: &[&[Test]]) -> Vec<Trial> {
    let trial = |test: &Test| {
        let run = test.run;
        Trial::test(test.name, move || {
            run();
            Ok(())
        })
    };
    tests.iter().copied().flatten().map(trial).collect()
}

/// A filter of `cargo xtask vm` in libtest's arguments: a part of a name, or with `!` before
/// it of names that are left out.
pub fn filtered(filter: &str) -> Vec<&str> {
    match filter.strip_prefix('!') {
        Some(others) => vec!["--skip", others],
        None if filter.is_empty() => Vec::new(),
        None => vec![filter],
    }
}

/// The names in a list that [`run`] has printed.
pub fn listed(list: &str) -> Vec<&str> {
    list.lines().filter_map(|line| line.strip_suffix(": test")).collect()
}

#[cfg(test)]
mod of_the_tests {
    use super::*;

    fn passes() {}

    fn fails() {
        panic!("as it should");
    }

    const TESTS: &[&[Test]] = &[tests![passes, fails], tests![again => passes]];

    /// What it prints is no result of these tests.
    fn ran(arguments: &[&str]) -> bool {
        run(TESTS, &[&["--logfile", "/dev/null"], arguments].concat()) == ExitCode::SUCCESS
    }

    #[test]
    fn only_the_named_one_runs_and_a_panic_fails_it() {
        assert!(ran(&["--exact", "passes"]) && ran(&["--exact", "again"]));
        assert!(!ran(&["--exact", "fails"]) && !ran(&[]));
        assert!(ran(&filtered("!fails")) && ran(&filtered("ass")) && !ran(&filtered("ail")));
    }

    #[test]
    fn a_list_has_the_names() {
        let list = "passes: test\nfails: test\n\n2 tests, 0 benchmarks\n";
        assert_eq!(listed(list), ["passes", "fails"]);
    }
}
