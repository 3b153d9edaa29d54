//! Everything: lints, unit tests, and the guest tests on every kernel.

use crate::{
    build::{self, Built},
    check,
    command::{program, say, workspace},
    dashboards, debian, image,
    kernel::{self, Kernel, Series},
    page,
    vm::{Boots, STARTS, Verdict},
};
use anyhow::{Context, Result, bail};
use std::{process::Stdio, sync::Mutex, thread, time::Instant};

#[derive(clap::Args)]
pub struct Args {
    /// Only these kernels; all by default.
    #[arg(long, value_enum)]
    kernel: Vec<Series>,
    /// Virtual machines that run at once. More than one on two cores makes the
    /// emulated kernels wait for each other, and the tests of speed with them.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Memory of each, MiB.
    #[arg(long, default_value_t = 1024)]
    memory: u32,
}

pub fn run(args: &Args) -> Result<()> {
    let began = Instant::now();
    debian::need("qemu-system-x86_64", "qemu-system-x86")?;
    debian::need("promtool", "prometheus")?;
    let series = if args.kernel.is_empty() { &Series::ALL[..] } else { &args.kernel };
    let kernels = series.iter().map(|series| kernel::get(*series)).collect::<Result<Vec<_>>>()?;
    check::run()?;
    let unit = unit_tests()?;
    dashboards::prove()?;
    // The agent of the tests is the one in the image.
    let built = build::for_vm(&build::Args::released())?;
    image::agent(&image::Args::checked())?;
    image::hog(&image::Args::checked())?;
    let shown = kernels.iter().find(|kernel| kernel.series == Series::V6_12);
    if let Some(kernel) = shown.or(kernels.first()) {
        page::check(kernel, &built)?;
    }
    let mut rows = on_all(args, &kernels, &built);
    rows.extend(shown.map(|kernel| on_runtimes(args, kernel, &built)));

    println!(
        "\n{:<10} {:<28} {:>7} {:>7} {:>8}",
        "kernel", "release", "passed", "failed", "seconds"
    );
    let mut total = unit;
    for (name, kernel, verdict, seconds) in &rows {
        match verdict {
            Ok(Verdict { passed, failed }) => {
                total.passed += passed;
                total.failed += failed;
                println!(
                    "{name:<10} {:<28} {passed:>7} {failed:>7} {seconds:>8.1}",
                    kernel.release
                );
            }
            Err(error) => {
                total.failed += 1;
                println!("{name:<10} {:<28} {error:#}", kernel.release);
            }
        }
    }
    println!("All of it took {:.0} s.", began.elapsed().as_secs_f64());
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed > 0 {
        bail!("{} tests failed", total.failed);
    }
    Ok(())
}

/// Runs cargo's tests and adds up what they say.
fn unit_tests() -> Result<Verdict> {
    let mut cargo = program("cargo");
    cargo.current_dir(workspace()).args(["test", "--locked", "--workspace"]);
    say("Running the unit tests …");
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    let counts = |word: &str| -> u32 {
        let results = text.lines().filter_map(|line| line.strip_prefix("test result: "));
        let parts = results.flat_map(|line| line.split(['.', ';']));
        parts.filter_map(|part| part.trim().strip_suffix(word)?.trim().parse::<u32>().ok()).sum()
    };
    let verdict = Verdict { passed: counts("passed"), failed: counts("failed") };
    if !output.status.success() {
        bail!("cargo test failed: {} passed, {} failed", verdict.passed, verdict.failed);
    }
    Ok(verdict)
}

/// What was run on which kernel, its verdict, and how many seconds it took.
type Row<'a> = (&'static str, &'a Kernel, Result<Verdict>, f64);

/// Boots one kernel with real container runtimes and systemd.
fn on_runtimes<'a>(args: &Args, kernel: &'a Kernel, built: &Built) -> Row<'a> {
    let began = Instant::now();
    let boots = Boots { built, filter: "", memory: args.memory, verbose: false };
    let verdict = boots.runtimes(kernel, &[], STARTS).and_then(something_ran);
    ("runtimes", kernel, verdict, began.elapsed().as_secs_f64())
}

fn something_ran(verdict: Verdict) -> Result<Verdict> {
    (verdict.passed > 0).then_some(verdict).context("no test ran")
}

/// Boots each kernel, some at once.
fn on_all<'a>(args: &Args, kernels: &'a [Kernel], built: &Built) -> Vec<Row<'a>> {
    let waiting = Mutex::new(kernels.iter());
    let rows = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().ok().and_then(|mut kernels| kernels.next());
                    let Some(kernel) = next else { return };
                    let began = Instant::now();
                    let boots = Boots { built, filter: "", memory: args.memory, verbose: false };
                    let verdict = boots.all(kernel).and_then(something_ran);
                    let row =
                        (kernel.series.name(), kernel, verdict, began.elapsed().as_secs_f64());
                    if let Ok(mut rows) = rows.lock() {
                        rows.push(row);
                    }
                }
            });
        }
    });
    rows.into_inner().unwrap_or_default()
}
