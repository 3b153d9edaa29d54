//! Everything: lints, unit tests, and the guest tests on every kernel.

mod prepare;
mod work;

use crate::{
    build::Architecture,
    debian, demo,
    kernel::{Kernel, Series},
    page,
    vm::{self, Boots, STARTS, Verdict},
};
use anyhow::Result;
use prepare::Prepared;
use std::time::Instant;
use work::{Work, side_by_side, summary};

/// What each suite's runtimes are asked, with or without systemd, so that all of it takes
/// forty minutes: those of trixie how they write the value and how their containers die,
/// those of sid, which have NRI switched on, how they take it; and with cgroupfs, which is
/// simpler, less. `cargo xtask vm --runtime` asks all of them everything.
const RUNTIMES: [(&str, &str, &str); 4] = [
    ("sid", "systemd", "nri_"),
    ("trixie", "systemd", "!nri_"),
    ("trixie", "runtime", "kills"),
    ("sid", "runtime", "nri_creations"),
];

/// What one kernel is asked for all, since kernels do not differ in it; each takes a boot.
const ONCE: [&str; 3] = ["faults", "pods", "examples"];

/// What arm64 is asked: kills whose group, limit and victims the programs have to read from
/// that architecture's registers and structures and, where its functions cannot be traced,
/// whatever is found by other means.
fn on_arm64(kernel: &Kernel) -> &'static str {
    if kernel.series == Series::V6_1 { "kill" } else { "group_kill" }
}

/// Seconds of the demo: enough for kills of both containers.
const DEMO: u32 = 20;

#[derive(clap::Args)]
pub struct Args {
    /// Only these kernels; all by default.
    #[arg(long, value_enum)]
    kernel: Vec<Series>,
    /// Virtual machines that run at once. The tests that are measured in
    /// milliseconds have the machine for themselves, whatever this says.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Memory of each, MiB.
    #[arg(long, default_value_t = 1024)]
    memory: u32,
}

pub fn run(args: &Args) -> Result<()> {
    let began = Instant::now();
    vm::need(Architecture::Amd64)?;
    vm::need(Architecture::Arm64)?;
    debian::need("promtool", "prometheus")?;
    let series = if args.kernel.is_empty() { &Series::ALL[..] } else { &args.kernel };
    let prepared = prepare::all(series)?;
    println!("Before the first boot it took {:.0} s.", began.elapsed().as_secs_f64());
    let mut rows = side_by_side(1, timed(&prepared, args.memory));
    rows.extend(side_by_side(args.jobs, machines(&prepared, args.memory)));
    let mut total = prepared.unit;
    summary(&rows, &mut total);
    println!("All of it took {:.0} s.", began.elapsed().as_secs_f64());
    println!("{} passed, {} failed", total.passed, total.failed);
    total.judge()
}

fn boots(prepared: &Prepared, memory: u32) -> Boots<'_> {
    Boots { built: &prepared.built, filter: "", memory, counting: false, verbose: false }
}

/// What a kernel is asked besides what is timed. The older 5.10 has one form of the
/// tracepoint to itself; the other and the latest are asked everything. What is between
/// them differs in how kills are reported, and 6.12, which the runtimes and the faults run on
/// too, in what it makes of cgroup v1.
fn modes(kernel: &Kernel) -> &'static [&'static str] {
    match kernel.series {
        Series::V5_10 | Series::V7_2 => &["test", "v1"],
        Series::V6_12 | Series::V6_12Pages16 => &["kills", "v1", "lockdown"],
        Series::V5_10Pid | Series::V6_1 => &["kills"],
    }
}

/// What is measured in milliseconds.
fn timed(prepared: &Prepared, memory: u32) -> Vec<Work<'_>> {
    let boots = boots(prepared, memory);
    let kernels = prepared.kernels.iter().filter(|kernel| kernel.series != Series::V5_10Pid);
    let timed = kernels.map(|kernel| {
        let run = move || boots.modes(kernel, &["timed"]);
        Work::new(format!("{} timed", kernel.series.name()), kernel, run)
    });
    timed.collect()
}

/// The others; what takes longest comes first, so that nothing waits for it in the end.
fn machines(prepared: &Prepared, memory: u32) -> Vec<Work<'_>> {
    let boots = boots(prepared, memory);
    let latest = prepared.kernels.iter().find(|kernel| kernel.series == Series::V6_12);
    let mut work = Vec::new();
    if let Some(kernel) = latest {
        work.extend(RUNTIMES.map(|(suite, mode, filter)| {
            let boots = Boots { filter, ..boots };
            Work::new(format!("{suite} {mode}"), kernel, move || {
                boots.runtime(kernel, suite, mode, STARTS)
            })
        }));
        work.extend(ONCE.map(|mode| Work::new(mode, kernel, move || boots.modes(kernel, &[mode]))));
    }
    for kernel in &prepared.kernels {
        let asked = move || boots.modes(kernel, modes(kernel));
        work.push(Work::new(kernel.series.name(), kernel, asked));
    }
    if let Some((kernels, built)) = &prepared.arm64 {
        work.extend(kernels.iter().map(|kernel| {
            let boots = Boots { built, filter: on_arm64(kernel), ..boots };
            Work::new(kernel.name(), kernel, move || boots.modes(kernel, &["kills"]))
        }));
    }
    if let Some(kernel) = latest {
        let looked = move || page::check(kernel, &prepared.built).map(|()| Verdict::PASSED);
        work.push(Work::new("the page", kernel, looked));
        let show = |line: &str| println!("[demo] {line}");
        let watched = move || {
            let went_well = demo::watch(kernel, &prepared.built, DEMO, &mut show.clone());
            went_well.map(|()| Verdict::PASSED)
        };
        work.push(Work::new("the demo", kernel, watched));
        let boots = Boots { built: &prepared.logging, ..boots };
        work.push(Work::new("programs that log", kernel, move || boots.modes(kernel, &["log"])));
    }
    work
}
