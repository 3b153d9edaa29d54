//! Which tests a boot runs, by its mode.

use crate::{
    harness::test::Test,
    runtime,
    tests::{
        addresses, arguments, clients, constraints, counts, creations, crowds, crun,
        dying_children, enforcement, escalation, examples, faults, fight, footprint, kills, limits,
        marks, nodes, overflows, own_kills, pod_events, pod_faults, pod_names, pods,
        protected_inits, reloads, robustness, sandboxes, scenes, unseen, untraced, victims,
    },
};

/// What kernels may differ in, in the order in which it runs.
const TESTS: &[&[Test]] = &[
    kills::TESTS,
    constraints::TESTS,
    marks::TESTS,
    victims::TESTS,
    untraced::TESTS,
    enforcement::TESTS,
    escalation::TESTS,
    reloads::TESTS,
    crun::TESTS,
    robustness::TESTS,
    counts::TESTS,
    nodes::TESTS,
    footprint::TESTS,
    dying_children::TESTS,
    protected_inits::TESTS,
    scenes::TESTS,
    arguments::TESTS,
];

const TESTS_OF_KILLS: &[&[Test]] =
    &[kills::TESTS, constraints::TESTS, marks::TESTS, victims::TESTS, untraced::TESTS];

/// Those with an API server.
const TESTS_OF_PODS: &[&[Test]] = &[
    pod_names::TESTS,
    pods::TESTS,
    pod_events::TESTS,
    pod_faults::TESTS,
    limits::TESTS,
    escalation::TESTS_OF_PODS,
    own_kills::TESTS,
];

/// Those that need Python.
const TESTS_OF_EXAMPLES: &[&[Test]] = &[examples::TESTS];

/// Those that need a machine on which nothing else is emulated.
const TIMED_TESTS: &[&[Test]] = &[fight::TIMED, creations::TIMED, counts::TIMED];

/// Faults of what surrounds the agent.
const TESTS_OF_FAULTS: &[&[Test]] = &[
    faults::TESTS,
    overflows::TESTS,
    sandboxes::TESTS,
    crowds::TESTS,
    unseen::TESTS,
    fight::TESTS,
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
        "kills" => TESTS_OF_KILLS,
        "timed" => TIMED_TESTS,
        "pods" => TESTS_OF_PODS,
        "examples" => TESTS_OF_EXAMPLES,
        "faults" => TESTS_OF_FAULTS,
        "log" => TESTS_OF_LOGGING,
        "v1" => TESTS_OF_V1,
        "lockdown" => TESTS_OF_LOCKDOWN,
        "runtime" => runtime::TESTS,
        "systemd" => runtime::TESTS_WITH_SYSTEMD,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const MODES: [&str; 11] = [
        "test", "kills", "timed", "pods", "examples", "faults", "log", "v1", "lockdown", "runtime",
        "systemd",
    ];

    #[test]
    fn a_mode_has_tests_and_no_name_twice() {
        for mode in MODES {
            let names: Vec<_> =
                tests_of(mode).iter().copied().flatten().map(|it| it.name).collect();
            let unique: BTreeSet<_> = names.iter().collect();
            assert!(!names.is_empty() && unique.len() == names.len(), "{mode}: {names:?}");
        }
        assert!(tests_of("demo").is_empty());
    }
}
