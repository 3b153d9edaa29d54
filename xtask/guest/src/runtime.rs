//! The same questions with real container runtimes, as a node has them.
//!
//! `cargo xtask vm --runtime` boots a root file system of Debian's packages:
//! containerd, runc and crun, once with this program as process 1 and the
//! kubelet's cgroupfs paths, once with systemd and its driver. The pods come from
//! an API server in the guest.

mod apparmor;
pub mod bundle;
mod cri;
mod deployed;
pub mod engine;
mod escalation;
mod kills;
pub mod machine;
pub mod nri;
pub mod pod_networks;
mod protected;
pub mod starts;
mod systemd;
pub mod trace;
mod update;
pub mod web;

use crate::harness::test::{Test, tests};
use cri::Setup;
use engine::Engine;

/// With this program as process 1.
pub const TESTS: &[&[Test]] = &[tests![
    runc_kills => || kills::kills(Engine::RUNC),
    runc_update => || update::update(Engine::RUNC),
    runc_starts => || starts::starts(Engine::RUNC),
    crun_kills => || kills::kills(Engine::CRUN),
    crun_update => || update::update(Engine::CRUN),
    crun_starts => || starts::starts(Engine::CRUN),
    runc_escalation => || escalation::escalation(Engine::RUNC),
    containerd_kills => || kills::kills(Engine::CONTAINERD),
    containerd_update => || update::update(Engine::CONTAINERD),
    containerd_starts => || starts::starts(Engine::CONTAINERD),
    nri_creations => || nri::creations(false),
    nri_updates => || nri::updates::updates(false),
    nri_labels_of_now => || nri::updates::labels_of_now(false),
    nri_failed_starts => || nri::failed_starts(false),
    nri_killed_agent => || nri::killed_agent(false),
    nri_restarted_runtime => || nri::restarted_runtime(false),
    nri_init_in_the_nodes_namespace => || nri::init_in_the_nodes_namespace(false),
]];

/// With systemd as process 1.
pub const TESTS_WITH_SYSTEMD: &[&[Test]] = &[
    systemd::TESTS,
    tests![
        systemd_runc_kills => || kills::kills(Engine::RUNC.with_systemd()),
        systemd_runc_update => || update::update(Engine::RUNC.with_systemd()),
        systemd_runc_starts => || starts::starts(Engine::RUNC.with_systemd()),
        systemd_crun_kills => || kills::kills(Engine::CRUN.with_systemd()),
        systemd_crun_update => || update::update(Engine::CRUN.with_systemd()),
        systemd_crun_starts => || starts::starts(Engine::CRUN.with_systemd()),
        systemd_crun_escalation => || escalation::escalation(Engine::CRUN.with_systemd()),
        systemd_containerd_kills => || kills::kills(Engine::CONTAINERD.with_systemd()),
        systemd_containerd_update => || update::update(Engine::CONTAINERD.with_systemd()),
        systemd_containerd_starts => || starts::starts(Engine::CONTAINERD.with_systemd()),
        systemd_containerd_protected_init => || protected::protected_init(Setup::new(true)),
        systemd_containerd_crun_protected_init =>
            || protected::protected_init(Setup { runc: "crun", ..Setup::new(true) }),
        systemd_containerd_own_kills => || pod_networks::own_kills(Setup::new(true)),
        systemd_nri_creations => || nri::creations(true),
        systemd_nri_updates => || nri::updates::updates(true),
        systemd_nri_labels_of_now => || nri::updates::labels_of_now(true),
        systemd_nri_killed_agent => || nri::killed_agent(true),
        systemd_nri_restarted_runtime => || nri::restarted_runtime(true),
        systemd_nri_next_runc => nri::next_runc,
    ],
];
