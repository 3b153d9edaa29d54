//! Everything: lints, unit tests, and the guest tests on every kernel.

use crate::{
    build, build_ebpf, check,
    command::{can_install, say},
    dashboards, debian, demo, image,
    kernel::{self, Kernel, Series},
    page,
    vm::{Boots, STARTS, Verdict},
};
use anyhow::{Context, Result, anyhow, bail};
use std::{process::Stdio, sync::Mutex, thread, time::Instant};

/// What each suite's runtimes are asked, so that all of it takes forty minutes: those of
/// trixie how they write the value, those of sid, which have NRI switched on, how they
/// take it. `cargo xtask vm --runtime` asks both suites everything.
const RUNTIMES: [(&str, &str); 2] = [("trixie", "!nri_"), ("sid", "nri_")];

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
    debian::need("qemu-system-x86_64", "qemu-system-x86")?;
    debian::need("promtool", "prometheus")?;
    let series = if args.kernel.is_empty() { &Series::ALL[..] } else { &args.kernel };
    let kernels = series.iter().map(|series| kernel::get(*series)).collect::<Result<Vec<_>>>()?;
    check::run()?;
    let unit = unit_tests()?;
    dashboards::prove()?;
    // The agent of the tests is the one in the image.
    let object = |twice| build_ebpf::Args { install: can_install(), log: false, twice };
    build_ebpf::run(&object(false))?;
    // Both take a minute of one processor.
    let built = thread::scope(|scope| {
        let again = scope.spawn(|| build_ebpf::run(&object(true)));
        let built = build::for_vm(&build::Args::released())?;
        again.join().map_err(|_| anyhow!("the second build panicked"))??;
        anyhow::Ok(built)
    })?;
    let logging = build::logging(&build::Args::default())?;
    image::agent(&image::Args::checked())?;
    image::hog(&image::Args::checked())?;
    let boots =
        Boots { built: &built, filter: "", memory: args.memory, counting: false, verbose: false };
    let mut timed = Vec::new();
    let mut work = Vec::new();
    // What takes longest comes first, so that nothing waits for it in the end.
    if let Some(kernel) = kernels.iter().find(|kernel| kernel.series == Series::V6_12) {
        work.extend(RUNTIMES.map(|(suite, filter)| {
            let boots = Boots { filter, ..boots };
            let run = move || boots.runtimes(kernel, &[suite.into()], STARTS);
            Work::new(format!("runtimes of {suite}"), kernel, run)
        }));
    }
    for kernel in &kernels {
        let name = kernel.series.name();
        if kernel.series == Series::V5_10Pid {
            // It differs from the other 5.10 in what the tracepoint tells of a victim.
            work.push(Work::new(name, kernel, move || boots.modes(kernel, &["kills"])));
            continue;
        }
        let run = move || boots.modes(kernel, &["timed"]);
        timed.push(Work::new(format!("{name} timed"), kernel, run));
        let run = move || boots.modes(kernel, &["test", "v1"]);
        work.push(Work::new(name, kernel, run));
    }
    if let Some(kernel) = kernels.iter().find(|kernel| kernel.series == Series::V6_12) {
        work.push(Work::new("faults", kernel, move || boots.modes(kernel, &["faults"])));
        let boots = Boots { built: &logging, ..boots };
        work.push(Work::new("programs that log", kernel, move || boots.modes(kernel, &["log"])));
        let built = &built;
        let looked = move || page::check(kernel, built).map(|()| Verdict { passed: 1, failed: 0 });
        work.push(Work::new("the page", kernel, looked));
        let show = |line: &str| println!("[demo] {line}");
        let watched = move || {
            let went_well = demo::watch(kernel, built, DEMO, &mut show.clone());
            went_well.map(|()| Verdict { passed: 1, failed: 0 })
        };
        work.push(Work::new("the demo", kernel, watched));
    }
    let mut rows = side_by_side(1, timed);
    rows.extend(side_by_side(args.jobs, work));

    println!(
        "\n{:<18} {:<28} {:>7} {:>7} {:>8}",
        "kernel", "release", "passed", "failed", "seconds"
    );
    let mut total = unit;
    for (Work { name, kernel, .. }, verdict, seconds) in &rows {
        match verdict {
            Ok(Verdict { passed, failed }) => {
                total.passed += passed;
                total.failed += failed;
                println!(
                    "{name:<18} {:<28} {passed:>7} {failed:>7} {seconds:>8.1}",
                    kernel.release
                );
            }
            Err(error) => {
                total.failed += 1;
                println!("{name:<18} {:<28} {error:#}", kernel.release);
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
    let mut cargo = build::quick("test");
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

/// What is run on which kernel.
struct Work<'a> {
    name: String,
    kernel: &'a Kernel,
    run: Box<dyn Fn() -> Result<Verdict> + Send + Sync + 'a>,
}

impl<'a> Work<'a> {
    fn new(
        name: impl Into<String>,
        kernel: &'a Kernel,
        run: impl Fn() -> Result<Verdict> + Send + Sync + 'a,
    ) -> Self {
        Work { name: name.into(), kernel, run: Box::new(run) }
    }
}

/// Work with its verdict, and how many seconds it took.
type Row<'a> = (Work<'a>, Result<Verdict>, f64);

/// Does some work at once.
fn side_by_side(jobs: usize, work: Vec<Work<'_>>) -> Vec<Row<'_>> {
    let waiting = Mutex::new(work.into_iter());
    let rows = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().ok().and_then(|mut work| work.next());
                    let Some(work) = next else { return };
                    let began = Instant::now();
                    let verdict = (work.run)().and_then(|verdict| {
                        (verdict.passed > 0).then_some(verdict).context("no test ran")
                    });
                    let row = (work, verdict, began.elapsed().as_secs_f64());
                    if let Ok(mut rows) = rows.lock() {
                        rows.push(row);
                    }
                }
            });
        }
    });
    rows.into_inner().unwrap_or_default()
}
