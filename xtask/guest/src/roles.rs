//! What runs inside of the containers that the tests make, and the shims that
//! start them: this same program, started again as `/init role NAME ARGUMENTS`.

mod memory;
mod shims;

use memory::{
    described, gives_up, greedy_init, grower, hog, idle, later, nasty, orphan_threads, sharing,
    threads, writes,
};
use shims::{confined, enter, enter_at, program, shim, tree};
use std::process::ExitCode;

/// Runs a role; never returns for those that replace this program.
pub fn run(arguments: &[&str]) -> ExitCode {
    let (name, rest) = arguments.split_first().expect("a role");
    match *name {
        "shim" => shim(rest),
        "enter" => enter(rest),
        // A child of a `tree` in a cgroup of its own: `job:/matched/c1/job=idle`.
        "job" => enter(&rest[0].split('=').collect::<Vec<_>>()),
        "confined" => confined(rest),
        "in-node" => crate::tests::nodes::in_node(rest),
        "tree" => tree(rest),
        "hog" => hog(rest[0].parse().expect("MiB")),
        "later" => later(rest[0].parse().expect("MiB")),
        "threads" => threads(rest[0].parse().expect("MiB")),
        "orphan-threads" => orphan_threads(rest[0].parse().expect("MiB")),
        "writes" => writes(rest[0].parse().expect("MiB")),
        "grower" => grower(rest[0].parse().expect("MiB")),
        "described" => described(rest),
        "titled" => crate::tests::arguments::titled(rest[0]),
        "paged" => crate::tests::arguments::paged(rest[0], rest.get(1).copied()),
        "nasty" => nasty(rest[0].parse().expect("MiB")),
        "sharing" => sharing(rest[0].parse().expect("MiB")),
        "gives-up" => gives_up(rest[0]),
        "greedy-init" => greedy_init(rest[0].parse().expect("MiB")),
        "enter-v1" => enter_at(&format!("{}/cgroup.procs", rest[0]), &rest[1..]),
        "fight" => crate::tests::fight::fight(rest),
        "like-runc" => crate::harness::creations::like_runc(rest),
        "storm" => crate::harness::storm::storm_init(rest),
        "memory-of" => crate::bench::memory::of(rest[0].parse().expect("containers")),
        "victims" => crate::bench::shown::victims(rest),
        "group" => crate::bench::seen::group(rest[0]),
        "forking" => crate::bench::forking::init(),
        "paced" => crate::bench::soak::paced(rest[0]),
        "forks-again" => crate::tests::dying_children::forks_again(),
        "program" => program(rest),
        "protected" => crate::tests::protected_inits::role(rest),
        "idle" => idle(),
        "brief" => ExitCode::SUCCESS,
        "spin" => loop {
            std::hint::spin_loop();
        },
        "show" => crate::record::show(rest[0].parse().expect("seconds")),
        "record" => crate::record::run(rest[0]),
        "demo" => crate::demo::run(rest[0].parse().expect("seconds")),
        "look" => crate::runtime::starts::look(""),
        // Its bundle is there as long as it is.
        "look-and-stay" => {
            crate::runtime::starts::look(rest[0]);
            idle()
        }
        "asks" => crate::runtime::pod_networks::asks(rest),
        "loses-child" => crate::runtime::pod_networks::loses_child(rest),
        "read-value" => crate::harness::creations::read_value(rest),
        other => panic!("no role {other}"),
    }
}
